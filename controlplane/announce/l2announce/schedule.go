package l2announce

import (
	"container/heap"
	"time"
)

// class says how urgent an announcement is.
type class int

// The classes. What is due in one goes before what is due in the next, so that
// an address that has just become ours does not wait for refreshes.
const (
	classFirst class = iota
	classRepeat
	classRefresh
	classes
)

// turn is an address's place in the schedule.
type turn struct {
	class class
	due   time.Time
	at    int // index in its queue, plus one; 0: in none
}

// schedule has every address at most once.
type schedule [classes]queue

// put enters an address that is in no queue.
func (s *schedule) put(one *address, c class, due time.Time) {
	one.turn = turn{class: c, due: due}
	heap.Push(&s[c], one)
}

func (s *schedule) remove(one *address) {
	if one.turn.at > 0 {
		heap.Remove(&s[one.turn.class], one.turn.at-1)
	}
}

// take takes out the most urgent address that is due.
func (s *schedule) take(now time.Time) *address {
	for c := range s {
		if len(s[c]) > 0 && !s[c][0].turn.due.After(now) {
			return heap.Pop(&s[c]).(*address)
		}
	}
	return nil
}

// next is when the next address is due, the zero time when there is none.
func (s *schedule) next() (at time.Time) {
	for c := range s {
		if len(s[c]) > 0 && (at.IsZero() || s[c][0].turn.due.Before(at)) {
			at = s[c][0].turn.due
		}
	}
	return at
}

// queue is a heap of addresses by when they are due.
type queue []*address

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].turn.due.Before(q[j].turn.due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].turn.at, q[j].turn.at = i+1, j+1
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	one := x.(*address)
	*q = append(*q, one)
	one.turn.at = len(*q)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	one := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	one.turn.at = 0
	return one
}

// budget is how many frames may be sent now. It fills at a rate, up to what a
// tenth of a second brings.
type budget struct {
	rate  float64 // frames a second
	most  float64
	have  float64
	since time.Time
}

func newBudget(rate int, now time.Time) *budget {
	most := max(float64(rate)/10, 1)
	return &budget{rate: float64(rate), most: most, have: most, since: now}
}

// spend takes so many frames off, of which there may be a debt, as long as
// there was none before. It says how long to wait when there was.
func (b *budget) spend(frames int, now time.Time) (wait time.Duration, ok bool) {
	b.have = min(b.most, b.have+now.Sub(b.since).Seconds()*b.rate)
	b.since = now
	if b.have <= 0 {
		return time.Duration((-b.have + 1) / b.rate * float64(time.Second)), false
	}
	b.have -= float64(frames)
	return 0, true
}
