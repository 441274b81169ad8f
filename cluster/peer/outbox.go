package peer

import (
	"sync"

	"fairlead/cluster"
)

const (
	// maxBacklog is how much may wait to be sent to a node, in bytes. One message
	// that is longer may wait alone.
	maxBacklog = 8 << 20
	// keptBuffer is how long a buffer is kept when it is empty.
	keptBuffer = 256 << 10
)

// outbox is the messages that wait to be sent to a node, as they are sent. What
// is put into it while something is being sent goes in one piece after that.
type outbox struct {
	mu       sync.Mutex
	waiting  []byte
	closed   bool
	messages uint64
	wake     chan struct{}
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put has a message wait. It does not block.
func (o *outbox) put(topic cluster.Topic, body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return cluster.ErrUnreachable
	}
	if len(o.waiting) > 0 && len(o.waiting)+frameHead+len(topic)+len(body) > maxBacklog {
		return cluster.ErrBacklog
	}
	first := len(o.waiting) == 0
	o.waiting = appendFrame(o.waiting, topic, body)
	o.messages++
	if first {
		notify(o.wake)
	}
	return nil
}

// take is all that waits. What was taken before is done with, and its memory is
// used for what comes.
func (o *outbox) take(done []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.waiting
	if cap(done) > keptBuffer {
		done = nil
	}
	o.waiting = done[:0]
	return out
}

// seal takes no more messages; those that wait may still be taken.
func (o *outbox) seal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// close takes no more messages, and drops those that wait.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.waiting = true, nil
}

// state is how many messages were put, and how many bytes wait.
func (o *outbox) state() (messages uint64, waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.messages, len(o.waiting)
}

// notify tells something once to whoever looks next.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
