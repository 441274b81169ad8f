package bgp

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// quiet is how long one message about one peer is not repeated: peers that
// misbehave must not fill the log.
const quiet = 10 * time.Second

// mostRemembered bounds what is kept of messages that were logged.
const mostRemembered = 256

// handler makes GoBGP's log records ours: its keys are spelled as ours are, its
// news of sessions are left out, because the speaker has its own, and nothing
// repeats more often than once in ten seconds.
type handler struct {
	next   slog.Handler
	peer   string
	shared *shared
}

// shared is what all handlers of a speaker have in common.
type shared struct {
	failed func(peer, reason string) // is told why a connection was not made
	muted  *atomic.Bool

	mu   sync.Mutex
	seen map[string]*repeated
}

type repeated struct {
	at      time.Time
	skipped int
}

// Enabled lets everything through: some of what is not worth a line says why a
// peer cannot be reached.
func (h *handler) Enabled(context.Context, slog.Level) bool { return true }

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var attrs []slog.Attr
	peer, cause := h.peer, ""
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "Topic":
		case "Key":
			peer = a.Value.String()
		case "Error", "Err", "err":
			cause = a.Value.String()
		default:
			attrs = append(attrs, a)
		}
		return true
	})
	if r.Message == "failed to connect" && peer != "" {
		h.shared.failed(peer, cause)
	}
	level := r.Level
	if level == slog.LevelInfo {
		level = slog.LevelDebug
	}
	if h.shared.muted.Load() || !h.next.Enabled(ctx, level) {
		return nil
	}
	skipped, ok := h.shared.admit(peer+"\x00"+r.Message, level, r.Time)
	if !ok {
		return nil
	}
	out := slog.NewRecord(r.Time, level, "BGP: "+r.Message, r.PC)
	if peer != "" {
		out.AddAttrs(slog.String("peer", peer))
	}
	if cause != "" {
		out.AddAttrs(slog.String("error", cause))
	}
	for _, a := range attrs {
		out.AddAttrs(slog.Attr{Key: snake(a.Key), Value: a.Value})
	}
	if skipped > 0 {
		out.AddAttrs(slog.Int("not_logged", skipped))
	}
	return h.next.Handle(ctx, out)
}

// admit reports whether a message may be logged, and how many like it were not
// since the last one.
func (s *shared) admit(key string, level slog.Level, now time.Time) (skipped int, ok bool) {
	if level < slog.LevelInfo {
		return 0, true // who asks for debugging wants all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.seen[key]
	switch {
	case last == nil:
		if s.seen == nil || len(s.seen) >= mostRemembered {
			s.seen = make(map[string]*repeated)
		}
		s.seen[key] = &repeated{at: now}
		return 0, true
	case now.Sub(last.at) < quiet:
		last.skipped++
		return 0, false
	}
	skipped, last.skipped, last.at = last.skipped, 0, now
	return skipped, true
}

// snake spells a key of GoBGP's as ours are: "Administrative Code" is
// administrative_code.
func snake(key string) string {
	out := make([]byte, 0, len(key)+4)
	for i := range len(key) {
		c := key[i]
		switch {
		case c == ' ' || c == '-':
			c = '_'
		case c >= 'A' && c <= 'Z':
			if i > 0 && key[i-1] >= 'a' && key[i-1] <= 'z' {
				out = append(out, '_')
			}
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(out)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *h
	var rest []slog.Attr
	for _, a := range attrs {
		switch a.Key {
		case "Topic":
		case "Key":
			out.peer = a.Value.String()
		default:
			rest = append(rest, a)
		}
	}
	if len(rest) > 0 {
		out.next = h.next.WithAttrs(rest)
	}
	return &out
}

func (h *handler) WithGroup(name string) slog.Handler {
	out := *h
	out.next = h.next.WithGroup(name)
	return &out
}
