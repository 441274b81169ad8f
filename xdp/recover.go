package xdp

import "sync/atomic"

// Contents is what a queue's rings hold: the chunks' addresses, as the entries
// have them. The kernel goes on working while it is read, so that the first
// two may miss entries it took, and the last two entries it added, a moment
// ago.
type Contents struct {
	Fill       []uint64 // offered for receiving, not taken by the kernel yet
	TX         []uint64 // handed over for sending, not taken by the kernel yet
	RX         []uint64 // received, not yet handed to the worker
	Completion []uint64 // sent, not yet handed back to the worker

	// Entries written but never published by a process that died over it. The
	// kernel has not seen them: the chunks are the worker's.
	UnpublishedFill []uint64
	UnpublishedTX   []uint64

	// InKernel counts the chunks that the kernel or the driver holds and that
	// are in no ring; it is exact only while no frame moves.
	InKernelReceive, InKernelSend uint32
}

// Contents reads the rings. It changes nothing and is not for the hot path.
func (q *Queue) Contents() Contents {
	fillConsumer, fillProducer := atomic.LoadUint32(q.fill.consumer), atomic.LoadUint32(q.fill.producer)
	txConsumer, txProducer := atomic.LoadUint32(q.tx.consumer), atomic.LoadUint32(q.tx.producer)
	rxConsumer, rxProducer := atomic.LoadUint32(q.rx.consumer), atomic.LoadUint32(q.rx.producer)
	doneConsumer, doneProducer := atomic.LoadUint32(q.completion.consumer), atomic.LoadUint32(q.completion.producer)

	c := Contents{
		Fill:            q.fill.between(fillConsumer, fillProducer),
		TX:              addresses(q.tx.between(txConsumer, txProducer)),
		RX:              addresses(q.rx.between(rxConsumer, rxProducer)),
		Completion:      q.completion.between(doneConsumer, doneProducer),
		InKernelReceive: fillConsumer - rxProducer,
		InKernelSend:    txConsumer - doneProducer,
	}
	// The intents of a former socket say nothing about these rings.
	if !q.Fresh() {
		c.UnpublishedFill = q.fill.between(fillProducer, atomic.LoadUint32(&q.record.fillIntent))
		c.UnpublishedTX = addresses(q.tx.between(txProducer, atomic.LoadUint32(&q.record.txIntent)))
	}
	return c
}

// Fresh reports that the custody table does not speak of this queue's socket
// yet: marks with its port are those of a former socket, or there are none.
func (q *Queue) Fresh() bool { return atomic.LoadUint64(&q.record.cookie) != q.cookie }

// Settle makes the custody table speak of this queue's socket, with nothing
// unpublished. Package handover calls it when the marks have been made right.
func (q *Queue) Settle() {
	atomic.StoreUint32(&q.record.fillIntent, q.fill.next)
	atomic.StoreUint32(&q.record.txIntent, q.tx.next)
	atomic.StoreUint64(&q.record.cookie, q.cookie)
}

func addresses(descs []desc) []uint64 {
	addrs := make([]uint64, len(descs))
	for i, d := range descs {
		addrs[i] = d.addr
	}
	return addrs
}
