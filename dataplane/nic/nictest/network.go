package nictest

import "fairlead/dataplane/nic"

// The network's side of a Queue: what a test does to it from outside.

// Inject makes a frame arrive, as the NIC would: into the next chunk of the
// fill ring, behind the headroom. It reports whether the frame reached the RX
// ring; if not, Stats says why it was dropped.
func (q *Queue) Inject(frame []byte) bool {
	q.mu.Lock()
	ok := q.inject(frame)
	arrived := q.arrived
	q.mu.Unlock()
	if ok && arrived != nil {
		arrived()
	}
	return ok
}

func (q *Queue) inject(frame []byte) bool {
	switch {
	case q.down:
		q.stats.ReceiveDown++
		return false
	case len(frame) > q.pool.ChunkSize()-q.pool.Headroom():
		q.stats.Oversize++
		return false
	case q.rx.room() == 0:
		q.stats.RXFull++
		return false
	case q.fill.len() == 0:
		q.stats.NoBuffer++
		return false
	}
	addr := q.fill.pop() + uint64(q.pool.Headroom())
	copy(q.pool.Mem[addr:], frame)
	q.rx.push(nic.Frame{Addr: addr, Len: uint32(len(frame)), Port: q.cfg.Port})
	q.stats.Injected++
	return true
}

// Sent returns copies of the frames that left since the last call, in order.
// It stays empty when Config.Wire is set.
func (q *Queue) Sent() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// SetDown takes the link down or up. While it is down, arriving frames are
// dropped, Kick answers nic.ErrDown, and what is in the rings stays there.
func (q *Queue) SetDown(down bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.down = down
}

// SetFaults replaces the injected faults.
func (q *Queue) SetFaults(f Faults) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cfg.Faults = f
}

// RefuseTransmit makes the next n calls of Transmit accept nothing.
func (q *Queue) RefuseTransmit(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fullFor = n
}

// Close empties all four rings, as closing a socket does, and returns the
// chunks they held; nothing will return those, so the owner of the pool hands
// them to Pool.Reclaim. The queue is then as good as new, as after a rebind.
func (q *Queue) Close() []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var held []uint64
	for q.fill.len() > 0 {
		held = append(held, q.fill.pop())
	}
	for q.rx.len() > 0 {
		held = append(held, q.rx.pop().Addr)
	}
	for q.tx.len() > 0 {
		held = append(held, q.tx.pop().Addr)
	}
	for q.completion.len() > 0 {
		held = append(held, q.completion.pop().addr)
	}
	return held
}

// Pending is how many frames wait in the RX ring.
func (q *Queue) Pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.rx.len()
}

// Stats returns the counters.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

// Err is the first misuse the queue saw, nil when there was none. Tests check
// it at their end.
func (q *Queue) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// onArrival sets what is called, without the lock, after a frame arrived.
func (q *Queue) onArrival(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arrived = f
}
