// Package logging is how a node writes its log: lines of text or JSON, as many of
// one message as help, at a level that may be changed while the node runs. The
// last lines are kept, for reports of what went wrong.
package logging

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

// Config says how log lines are written.
type Config struct {
	Out   io.Writer
	JSON  bool // otherwise text
	Level slog.Level

	// Rate is how many lines of one message and level are written in a second in
	// the long run, and Burst how many at once; with a Rate of 0 all are.
	Rate, Burst int
}

// What is kept of the log.
const (
	keepLines = 2000
	keepBytes = 512 << 10
)

// Logs are the log of a node. Close gives back what it holds; lines may still be
// written afterwards.
type Logs struct {
	root   *slog.Logger
	level  slog.LevelVar
	recent ring
	limit  limiter

	json        bool
	rate, burst int

	mu         sync.Mutex // guards what follows
	configured slog.Level
	until      time.Time
	back       *time.Timer // sets the configured level again
	turn       int         // counts the settings, so that only the last one's timer does
	closed     bool
}

// New makes a log.
func New(cfg Config) *Logs {
	l := &Logs{configured: cfg.Level, json: cfg.JSON, rate: cfg.Rate, burst: cfg.Burst}
	l.level.Set(cfg.Level)
	out := io.MultiWriter(&l.recent, cfg.Out)
	options := &slog.HandlerOptions{Level: slog.Level(-1 << 30)} // what is written is decided before
	var inner slog.Handler
	if cfg.JSON {
		inner = slog.NewJSONHandler(out, options)
	} else {
		inner = slog.NewTextHandler(out, options)
	}
	l.limit.init(cfg.Rate, cfg.Burst)
	l.root = slog.New(&handler{logs: l, inner: inner, limited: cfg.Rate > 0})
	return l
}

// Logger writes to the log.
func (l *Logs) Logger() *slog.Logger { return l.root }

// LevelState is the level of a log.
type LevelState struct {
	Level      slog.Level // in force
	Configured slog.Level
	Until      time.Time // when the configured one is in force again; the zero time: at the next start, or it is
}

// Level tells the level in force.
func (l *Logs) Level() LevelState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LevelState{Level: l.level.Level(), Configured: l.configured, Until: l.until}
}

// SetLevel puts a level in force: for so long, or, with 0, until it is set again.
func (l *Logs) SetLevel(level slog.Level, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.back != nil {
		l.back.Stop()
	}
	l.until = time.Time{}
	l.turn++
	l.level.Set(level)
	if length <= 0 || l.closed {
		return
	}
	l.until = time.Now().Add(length)
	turn := l.turn
	l.back = time.AfterFunc(length, func() { l.restore(turn) })
}

// restore puts the configured level in force again, unless another was set
// meanwhile.
func (l *Logs) restore(turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn != turn {
		return
	}
	Always(l.root).Info("log level is the configured one again", "level", l.configured)
	l.until = time.Time{}
	l.level.Set(l.configured)
}

// Recent are the last lines of the log, oldest first, each with its newline.
func (l *Logs) Recent() []string { return l.recent.lines() }

// Counts are lines by level, since the start.
type Counts struct {
	Written, Suppressed [4]uint64 // debug, info, warn, error
}

// Counts tells how many lines were written, and left out by the rate limit.
func (l *Logs) Counts() Counts { return l.limit.counts() }

// Close stops the timers. A level that was set for a time stays in force.
func (l *Logs) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.back != nil {
		l.back.Stop()
	}
	l.limit.close()
}
