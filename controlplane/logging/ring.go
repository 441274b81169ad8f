package logging

import "sync"

// longestKept is how much is kept of one line, in bytes.
const longestKept = 8 << 10

// ring keeps the last lines that were written to it.
type ring struct {
	mu    sync.Mutex
	list  []string // in a circle, once there are keepLines
	next  int      // the place of the next one then
	bytes int
}

// Write takes one line. slog's handlers write each with one call.
func (r *ring) Write(line []byte) (int, error) {
	kept := line
	if len(kept) > longestKept {
		kept = append(append([]byte{}, kept[:longestKept]...), "...\n"...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) < keepLines {
		r.list = append(r.list, string(kept))
	} else {
		r.bytes -= len(r.list[r.next])
		r.list[r.next] = string(kept)
		r.next = (r.next + 1) % keepLines
	}
	r.bytes += len(kept)
	for i := 0; r.bytes > keepBytes; i++ { // the oldest ones go empty first
		at := (r.next + i) % len(r.list)
		r.bytes -= len(r.list[at])
		r.list[at] = ""
	}
	return len(line), nil
}

func (r *ring) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.list))
	for i := range r.list {
		if line := r.list[(r.next+i)%len(r.list)]; line != "" {
			out = append(out, line)
		}
	}
	return out
}
