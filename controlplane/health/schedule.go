package health

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"time"
)

// quantum is how long the scheduler sleeps at least: checks that are due within
// it begin together, so that ten thousand a second cost hundreds of wake-ups.
const quantum = 4 * time.Millisecond

// apart is what lies between the first checks of new targets, so that they are
// not all at once; they are spread over at most their interval.
const apart = 100 * time.Microsecond

// schedule is a heap of ways by the time that their next check is due.
type schedule []*probed

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *schedule) Push(x any) { *s = append(*s, x.(*probed)) }

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return p
}

// drop takes out what was removed.
func (s *schedule) drop() {
	kept := (*s)[:0]
	for _, p := range *s {
		if !p.removed {
			kept = append(kept, p)
		}
	}
	clear((*s)[len(kept):])
	*s = kept
	heap.Init(s)
}

// complainEvery is how often the log tells of checks that could not be made.
const complainEvery = 30 * time.Second

// slots bound how many checks of a kind run at a time. Those that are due
// beyond that wait in their order.
type slots struct {
	limit, used int
	waiting     []*probed
}

// begin puts new ways into the schedule, in random order.
func (c *Checker) begin(fresh []*probed, now time.Time) {
	for i, at := range rand.Perm(len(fresh)) {
		p := fresh[i]
		p.at = now.Add(min(time.Duration(at)*apart, p.of.check.Interval*time.Duration(at)/time.Duration(len(fresh))))
		heap.Push(&c.due, p)
	}
	if len(fresh) > 0 {
		c.rouse()
	}
}

// rouse has the scheduler look at the schedule again.
func (c *Checker) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// schedule starts checks when they are due.
func (c *Checker) schedule() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(c.start())
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// start starts what is due and says how long nothing else will be.
func (c *Checker) start() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for len(c.due) > 0 {
		if wait := c.due[0].at.Sub(now); wait > 0 {
			return max(wait, quantum)
		}
		p := heap.Pop(&c.due).(*probed)
		s := c.slotsOf(p)
		if s.used == s.limit {
			s.waiting = append(s.waiting, p)
			continue
		}
		s.used++
		c.launch(p, now)
	}
	return time.Hour
}

func (c *Checker) slotsOf(p *probed) *slots {
	if _, is := p.probe.(*execProbe); is {
		return &c.programs
	}
	return &c.network
}

// launch runs one check in a goroutine of its own. Its slot is taken.
func (c *Checker) launch(p *probed, now time.Time) {
	if c.closed {
		return
	}
	p.begin = now
	if now.Sub(p.at) > max(p.of.check.Interval/10, 2*quantum) {
		c.stats.Late++
	}
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		begin := time.Now()
		err := p.probe.try(c.ctx, begin.Add(p.of.check.Timeout))
		c.finish(p, err, begin)
	}()
}

// finish takes the result of a check, and begins one that has waited for its
// slot.
func (c *Checker) finish(p *probed, err error, begin time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slotsOf(p)
	s.used--
	for len(s.waiting) > 0 && s.used < s.limit {
		next := s.waiting[0]
		s.waiting = s.waiting[1:]
		if !next.removed {
			s.used++
			c.launch(next, now)
		}
	}
	if p.removed || c.ctx.Err() != nil {
		return
	}
	if fault := (ownFault{}); errors.As(err, &fault) {
		c.prevented(p, err, now)
		c.again(p, now)
		return
	}
	c.stats.Checks++
	p.checks++
	p.last = now
	if err != nil {
		c.stats.Failures++
		p.failures++
		p.err = err.Error()
	} else {
		p.err, p.latency = "", now.Sub(begin)
	}
	changed := p.judge.judge(p.of.check, err == nil, now)
	able := p.failed >= p.of.check.Fall
	p.failed = 0
	confirmed := !p.own && (p.state == Up && err == nil || p.state == Down && err != nil)
	p.own = p.own || confirmed
	if changed || confirmed || able || p.state != Up {
		c.conclude(p.of, now)
	}
	c.again(p, now)
}

// prevented takes note of a check that could not be made. Nothing follows from
// it for the backend.
func (c *Checker) prevented(p *probed, err error, now time.Time) {
	c.stats.Prevented++
	p.err = "cannot be checked: " + err.Error()
	p.failed++
	if p.state == Unknown || p.failed == p.of.check.Fall {
		c.conclude(p.of, now)
	}
	if now.Before(c.complain) {
		return
	}
	c.complain = now.Add(complainEvery)
	c.cfg.Log.Warn("a backend cannot be checked, and is left at what was last known; others may be concerned, too",
		"pool", p.of.key.Pool, "backend", p.of.key.Endpoint.Addr(), "error", err)
}

// again says when the next check of a way is due. After the first it is
// anywhere in the interval, so that ways that began together spread out; after
// that an interval, more or less by the jitter, after the last one began.
func (c *Checker) again(p *probed, now time.Time) {
	k := p.of.check
	if !p.started {
		p.started = true
		p.at = p.begin.Add(k.Interval/2 + rand.N(k.Interval))
	} else {
		spread := k.Interval * time.Duration(k.Jitter) / 100
		p.at = p.begin.Add(k.Interval - spread + rand.N(2*spread+1))
	}
	if p.at.Before(now) {
		p.at = now
	}
	heap.Push(&c.due, p)
	if c.due[0] == p {
		c.rouse()
	}
}
