package logging

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// longestLine is how much of a line of another program is one line of the log, in
// bytes; the rest is the next.
const longestLine = 16 << 10

// Lines is a writer that makes a line of the log of each line that another
// program writes to it.
type Lines struct {
	log     *slog.Logger
	level   slog.Level
	message string

	mu   sync.Mutex
	rest []byte // of a line that is not finished
}

// NewLines makes such a writer. The other program's words are the value of
// "line".
func NewLines(log *slog.Logger, level slog.Level, message string) *Lines {
	return &Lines{log: log, level: level, message: message}
}

// Write implements io.Writer. It never fails.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		switch room := longestLine - len(l.rest); {
		case end >= 0 && end <= room:
			l.say(append(l.rest, p[:end]...))
			l.rest, p = l.rest[:0], p[end+1:]
		case len(p) > room:
			l.say(append(l.rest, p[:room]...))
			l.rest, p = l.rest[:0], p[room:]
		default:
			l.rest, p = append(l.rest, p...), nil
		}
	}
	return n, nil
}

// Flush logs a line that is not finished.
func (l *Lines) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(l.rest)
	l.rest = nil
}

func (l *Lines) say(line []byte) {
	if line = bytes.TrimRight(line, "\r"); len(line) > 0 {
		l.log.Log(context.Background(), l.level, l.message, "line", string(line))
	}
}
