package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxKinds is how many messages have a bucket of their own. Messages are
	// constants of the program and of its libraries; what goes beyond shares one.
	maxKinds = 1024
	// sayEvery is how long lines are left out at most before their number is said.
	sayEvery = 10 * time.Second
)

// kind is what lines have in common that are limited together.
type kind struct {
	level   slog.Level
	message string
}

// limiter has a token bucket for each kind of line.
type limiter struct {
	rate, burst float64

	mu      sync.Mutex // guards what follows
	buckets map[kind]*bucket
	count   Counts
	closed  bool
}

// bucket is one kind's.
type bucket struct {
	tokens     float64
	at         time.Time // when tokens was right
	suppressed uint64    // and not said
	say        *time.Timer
	out        slog.Handler // of the line that was left out last
}

func (l *limiter) init(rate, burst int) {
	l.rate, l.burst, l.buckets = float64(rate), float64(max(burst, 1)), map[kind]*bucket{}
}

// note counts a line that is not limited.
func (l *limiter) note(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count.Written[index(level)]++
}

// allow reports whether a line may be written, and how many of its kind were left
// out before it.
func (l *limiter) allow(level slog.Level, message string, out slog.Handler) (suppressed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, b := l.bucket(kind{level, message})
	now := time.Now()
	b.tokens = min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.rate)
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		l.count.Written[index(level)]++
		suppressed, b.suppressed = b.suppressed, 0
		if b.say != nil {
			b.say.Stop()
			b.say = nil
		}
		return suppressed, true
	}
	l.count.Suppressed[index(level)]++
	b.suppressed++
	b.out = out
	if b.say == nil && !l.closed {
		b.say = time.AfterFunc(sayEvery, func() { l.say(k, b) })
	}
	return 0, false
}

// bucket finds the bucket of a kind, or makes it.
func (l *limiter) bucket(k kind) (kind, *bucket) {
	b := l.buckets[k]
	if b == nil && len(l.buckets) >= maxKinds {
		l.forget()
	}
	if b == nil && len(l.buckets) >= maxKinds {
		k = kind{k.level, "any other message"}
		b = l.buckets[k]
	}
	if b == nil {
		b = &bucket{tokens: l.burst, at: time.Now()}
		l.buckets[k] = b
	}
	return k, b
}

// forget drops the buckets that are full by now and have nothing to say.
func (l *limiter) forget() {
	now := time.Now()
	for k, b := range l.buckets {
		if b.suppressed == 0 && b.tokens+now.Sub(b.at).Seconds()*l.rate >= l.burst {
			delete(l.buckets, k)
		}
	}
}

// say writes how many lines were left out since that was last said.
func (l *limiter) say(k kind, b *bucket) {
	l.mu.Lock()
	n, out := b.suppressed, b.out
	b.suppressed, b.out, b.say = 0, nil, nil
	if n > 0 {
		l.count.Written[index(k.level)]++
	}
	l.mu.Unlock()
	if n == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), k.level, "log lines were left out", 0)
	r.AddAttrs(slog.String("message", k.message), slog.Uint64("suppressed", n))
	out.Handle(context.Background(), r)
}

func (l *limiter) counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

func (l *limiter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, b := range l.buckets {
		if b.say != nil {
			b.say.Stop()
			b.say = nil
		}
	}
}

// index is the place of a level in Counts.
func index(level slog.Level) int {
	switch {
	case level < slog.LevelInfo:
		return 0
	case level < slog.LevelWarn:
		return 1
	case level < slog.LevelError:
		return 2
	}
	return 3
}
