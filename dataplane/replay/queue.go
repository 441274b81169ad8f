package replay

import "fairlead/dataplane/nic"

// queue is a queue that a frame is put into by hand and that sends at once.
type queue struct {
	pool *nic.Pool
	port uint16
	sent func(port uint16, frame []byte)

	spare    uint64 // chunk to receive into
	hasSpare bool
	frame    nic.Frame // received and not yet taken
	waiting  bool
	done     []uint64 // chunks of frames that were sent
}

var _ nic.Queue = (*queue)(nil)

// receive puts a frame into a chunk, whose address it returns; ok is false
// when there is none.
func (q *queue) receive(frame []byte) (chunk uint64, ok bool) {
	if !q.hasSpare || q.waiting {
		return 0, false
	}
	q.hasSpare, q.waiting = false, true
	at := q.spare + uint64(q.pool.Headroom())
	copy(q.pool.Mem[at:], frame)
	q.frame = nic.Frame{Addr: at, Len: uint32(len(frame)), Port: q.port}
	return q.spare, true
}

// Receive implements nic.Queue.
func (q *queue) Receive(frames []nic.Frame) int {
	if !q.waiting || len(frames) == 0 {
		return 0
	}
	q.waiting = false
	frames[0] = q.frame
	return 1
}

// Transmit implements nic.Queue.
func (q *queue) Transmit(frames []nic.Frame) int {
	for _, f := range frames {
		q.sent(q.port, q.pool.Bytes(f))
		q.done = append(q.done, f.Addr)
	}
	return len(frames)
}

// Kick implements nic.Queue.
func (q *queue) Kick() error { return nil }

// Complete implements nic.Queue.
func (q *queue) Complete(addrs []uint64) int {
	n := copy(addrs, q.done)
	q.done = append(q.done[:0], q.done[n:]...)
	return n
}

// Refill implements nic.Queue.
func (q *queue) Refill(addrs []uint64) int {
	if q.hasSpare || len(addrs) == 0 {
		return 0
	}
	q.spare, q.hasSpare = q.pool.Base(addrs[0]), true
	return 1
}
