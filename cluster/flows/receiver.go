package flows

import (
	"time"
)

// Limits of what waits here. A flow takes some 150 bytes.
const (
	maxQueue   = 1 << 16 // flows that the data path has no room for at the moment
	maxPending = 1 << 16 // flows whose service or backend this node does not know yet
	pendingFor = time.Minute
)

// receiver takes in what peers tell.
//
// What the data path has no room for at the moment waits in order, and so does
// all that comes after it; when too much waits, what comes is dropped and its
// teller asked to tell all again. A flow whose VIP, service or backend is not
// known here, because a change of the configuration has not come this far, waits
// by itself until there is another generation.
type receiver struct {
	core    *core
	queue   []Flow
	entered uint64 // flows that were ever put into the queue or passed it
	left    uint64 // those that have left it, or passed it
	fences  []fence
	again   map[string]bool // who has to tell all again
	heard   map[string]bool // who has told all since this node runs

	pending map[Key]Flow
	waiting []waiter // of pending, by when they came
}

// waiter says until when a flow waits.
type waiter struct {
	key   Key
	until time.Time
}

// fence is to be answered when all that came before it is in the data path.
type fence struct {
	from    string
	number  uint64
	entered uint64 // flows before it
	given   uint64 // to the data path, once they have left the queue
	counted bool   // given is known
}

func (r *receiver) batch(from string, flows []Flow) {
	for i := range flows {
		f := &flows[i]
		r.core.stats.received[f.Kind].Add(1)
		if len(r.queue) >= maxQueue {
			r.core.stats.dropped.Add(1)
			r.again[from] = true
			continue
		}
		r.entered++
		if len(r.queue) > 0 || !r.take(f) {
			r.queue = append(r.queue, *f)
			continue
		}
		r.left++
	}
}

// take gives a flow to the data path. It is false when there is no room.
func (r *receiver) take(f *Flow) bool {
	key := f.Key()
	switch r.core.imports(f) {
	case Full:
		return false
	case Taken:
		r.core.stats.taken.Add(1)
		if _, waited := r.pending[key]; waited {
			r.core.stats.resolvedLater.Add(1)
			delete(r.pending, key)
		}
	case Refused:
		r.core.stats.refused.Add(1)
		delete(r.pending, key)
	case Unresolved:
		r.wait(key, f)
	}
	return true
}

// wait keeps a flow that cannot be resolved for a while.
func (r *receiver) wait(key Key, f *Flow) {
	_, there := r.pending[key]
	switch {
	case f.Kind == Ended:
		delete(r.pending, key)
		return
	case !there && len(r.pending) >= maxPending:
		r.core.stats.unresolvedDropped.Add(1)
		return
	case !there:
		r.core.stats.unresolved.Add(1)
		r.waiting = append(r.waiting, waiter{key, r.core.now().Add(pendingFor)})
	}
	r.pending[key] = *f
}

// generation tries again what could not be resolved.
func (r *receiver) generation() {
	if len(r.pending) == 0 {
		return
	}
	again := r.pending
	r.pending = make(map[Key]Flow, len(again))
	for key, f := range again {
		switch r.core.imports(&f) {
		case Taken:
			r.core.stats.taken.Add(1)
			r.core.stats.resolvedLater.Add(1)
		case Refused:
			r.core.stats.refused.Add(1)
		default:
			r.pending[key] = f
		}
	}
}

// fence is answered when all that came from anybody before it is in the data
// path. One that comes while something of its sender was dropped is not.
func (r *receiver) fence(from string, number uint64) {
	if r.again[from] {
		return
	}
	r.fences = append(r.fences, fence{from: from, number: number, entered: r.entered})
	r.answer()
}

func (r *receiver) answer() {
	given, taken := r.core.progress()
	for len(r.fences) > 0 {
		f := &r.fences[0]
		if !f.counted && int64(r.left-f.entered) >= 0 {
			f.given, f.counted = given, true
		}
		if !f.counted || int64(taken-f.given) < 0 {
			return
		}
		// When it does not arrive, the peer comes up again and fences anew.
		if err := r.core.send(f.from, fenceMessage(msgFenced, f.number)); err != nil {
			r.core.stats.sendErrors.Add(1)
		}
		r.heard[f.from] = true
		r.fences = r.fences[1:]
	}
}

func (r *receiver) tick() {
	done := 0
	for done < len(r.queue) && r.take(&r.queue[done]) {
		done++
	}
	if done > 0 {
		r.left += uint64(done)
		r.queue = append(r.queue[:0], r.queue[done:]...)
	}
	if len(r.queue) == 0 {
		for from := range r.again {
			if r.core.send(from, againMessage()) == nil {
				r.core.stats.askedAgain.Add(1)
			}
			delete(r.again, from)
		}
	}
	r.answer()
	now := r.core.now()
	for len(r.waiting) > 0 && !now.Before(r.waiting[0].until) {
		if _, there := r.pending[r.waiting[0].key]; there {
			delete(r.pending, r.waiting[0].key)
			r.core.stats.unresolvedDropped.Add(1)
		}
		r.waiting = r.waiting[1:]
	}
}

// told reports whether every live peer has told this node all it knows.
func (r *receiver) told() bool {
	for name := range r.core.members {
		if !r.heard[name] {
			return false
		}
	}
	return true
}
