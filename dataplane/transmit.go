package dataplane

import (
	"errors"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
)

// outgoing collects the frames of a batch that leave by one port, with the
// reason each journey will have ended with once the ring has taken it.
type outgoing struct {
	n       int
	frames  [2 * nic.BatchSize]nic.Frame
	reasons [2 * nic.BatchSize]reason.Reason
}

// transmitTries bounds how often a full TX ring is kicked before the rest of a
// batch is dropped.
const transmitTries = 8

// receive takes one batch from the worker's i-th queue.
func (w *Worker) receive(i int) int {
	b := &w.main
	w.queue = uint16(i)
	b.n = w.Queues[i].Queue.Receive(b.frames[:])
	if b.n == 0 {
		return 0
	}
	w.Pool.Received(b.frames[:b.n])
	w.missing[i] += b.n
	l := w.Counters.Ledger
	l.Received += uint64(b.n)
	l.RX[i] += uint64(b.n)
	for j := range b.n {
		b.frames[j].Port = w.Queues[i].Port
		l.Bytes += uint64(b.frames[j].Len)
	}
	return b.n
}

// send queues a frame to leave by a port.
func (w *Worker) send(f nic.Frame, port uint16, r reason.Reason) {
	if port >= nic.MaxPorts || w.tx[port] == nil {
		w.lose(f, reason.TransmitDown)
		return
	}
	o := &w.out[port]
	if o.n == len(o.frames) {
		w.flush(port)
	}
	o.frames[o.n], o.reasons[o.n] = f, r
	o.n++
}

// flush hands a port's collected frames to its TX ring. A full ring is kicked
// and drained a bounded number of times; what then still does not fit is
// dropped and counted.
func (w *Worker) flush(port uint16) {
	o, q, l := &w.out[port], w.tx[port], w.Counters.Ledger
	sent, full := 0, reason.TransmitRingFull
	for try := 0; sent < o.n && try < transmitTries; try++ {
		n := q.Transmit(o.frames[sent:o.n])
		w.Pool.Sent(o.frames[sent : sent+n])
		for i := sent; i < sent+n; i++ {
			l.Ended[o.reasons[i]]++
		}
		l.Sent(port, o.frames[sent:sent+n])
		if sent += n; sent == o.n {
			break
		}
		if err := q.Kick(); errors.Is(err, nic.ErrDown) {
			full = reason.TransmitDown
			break
		}
		w.takeBack(q)
	}
	for i := sent; i < o.n; i++ {
		w.lose(o.frames[i], full)
	}
	if sent > 0 {
		q.Kick() // a port that is down shows when the next frame does not fit
	}
	o.n = 0
}

func (w *Worker) flushAll() {
	for port := range w.out {
		if w.out[port].n > 0 {
			w.flush(uint16(port))
		}
	}
}

// kickLeft kicks again for frames that earlier kicks have left in a TX ring:
// nothing else would send them before the next frame comes.
func (w *Worker) kickLeft() {
	if w.Pool.Count(nic.OwnerTX) == 0 {
		return
	}
	for _, q := range w.tx {
		if q != nil {
			q.Kick() // costs nothing when the ring is drained
		}
	}
}

// lose ends the journey of a frame that could not be sent.
func (w *Worker) lose(f nic.Frame, r reason.Reason) {
	if w.tapped {
		w.showLost(f, r)
	}
	w.Counters.Ledger.Ended[r]++
	w.Pool.Put(f.Addr)
}

// complete takes back the chunks of all frames that have been sent.
func (w *Worker) complete() int {
	work := 0
	for i := range w.Queues {
		work += w.takeBack(w.Queues[i].Queue)
	}
	return work
}

func (w *Worker) takeBack(q nic.Queue) int {
	work := 0
	for {
		n := q.Complete(w.addrs[:])
		w.Pool.Completed(w.addrs[:n])
		work += n
		if n < len(w.addrs) {
			return work
		}
	}
}

// refill gives the fill rings as many chunks as were received from them.
func (w *Worker) refill() {
	for i := range w.Queues {
		for w.missing[i] > 0 {
			want := w.Pool.TakeForFill(w.addrs[:min(len(w.addrs), w.missing[i])])
			if want == 0 {
				return // all chunks are in use; the next completion brings some back
			}
			n := w.Queues[i].Queue.Refill(w.addrs[:want])
			w.Pool.Filled(n)
			w.missing[i] -= n
			if n < want {
				w.missing[i] = 0 // the ring is full
			}
		}
	}
}
