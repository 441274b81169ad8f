package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"fairlead/perf/lab/traffic"
)

// load is a client that asks by HTTP again and again, each time on a new connection.
type load struct {
	w    *world
	stop func() // ends it; again does nothing

	mu       sync.Mutex
	answers  int
	byServer map[string]int
	failed   int // requests
	errs     []error
	done     chan struct{}
}

// Of a load, how many connections are made at a time, how long it rests after each
// round of them, and how long a request may take, on a machine that is busy.
const (
	loadParallel = 4
	loadRest     = 10 * time.Millisecond
	loadTimeout  = 30 * time.Second
)

// load has the client ask port 80 of a VIP until it is ended.
func (w *world) load(vip netip.Addr) *load {
	stopping := make(chan struct{})
	l := &load{w: w, byServer: map[string]int{}, done: make(chan struct{}), stop: sync.OnceFunc(func() { close(stopping) })}
	go func() {
		defer close(l.done)
		for {
			round := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: loadParallel, Parallel: loadParallel, Timeout: loadTimeout}
			l.add(time.Now(), round.Run(w.ctx, w.rack.Client.Host))
			select {
			case <-stopping:
				return
			case <-w.ctx.Done():
				return
			case <-time.After(loadRest):
			}
		}
	}()
	w.rack.OnClose(func() error { l.stop(); <-l.done; return nil })
	return l
}

func (l *load) add(began time.Time, t *traffic.Tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers += t.Answers
	for name, n := range t.ByServer {
		l.byServer[name] += n
	}
	l.failed += t.Requests - t.Answers
	if err := t.Err(); err != nil {
		const clock = "15:04:05.000"
		l.errs = append(l.errs, fmt.Errorf("from %s to %s: %w", began.Format(clock), time.Now().Format(clock), err))
	}
}

// asked is how many answers there have been.
func (l *load) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers
}

// goOn waits until there have been n more answers.
func (l *load) goOn(n int) {
	l.w.t.Helper()
	from := l.asked()
	l.w.until("a client's requests go on", func() string {
		if l.asked() < from+n {
			l.mu.Lock()
			defer l.mu.Unlock()
			return "too few answers: " + text(errors.Join(l.errs...))
		}
		return ""
	})
}

// count ends it and returns how many requests were answered, how many were not, and
// why.
func (l *load) count() (answers, failed int, err error) {
	l.stop()
	<-l.done
	return l.answers, l.failed, errors.Join(l.errs...)
}

// end ends it and demands that no request has failed. It returns who answered how
// often.
func (l *load) end() map[string]int {
	l.w.t.Helper()
	l.stop()
	<-l.done
	if len(l.errs) > 0 {
		l.w.t.Errorf("of the requests beside %d that were answered: %v", l.answers, errors.Join(l.errs[:min(len(l.errs), 5)]...))
	}
	return l.byServer
}
