package xdp

import "sync/atomic"

// Contents is what a queue's rings hold: the chunks' addresses, as the entries
// have them. The kernel goes on working while it is read, so an entry of Fill
// may have been taken by the kernel and turned up in RX meanwhile, and one of
// TX in Completion.
type Contents struct {
	Fill       []uint64 // offered for receiving, not taken by the kernel yet
	TX         []uint64 // handed over for sending, not taken by the kernel yet
	RX         []uint64 // received, not yet handed to the worker
	Completion []uint64 // sent, not yet handed back to the worker

	// Entries written but never published by a process that died over it. The
	// kernel has not seen them: the chunks are the worker's.
	UnpublishedFill []uint64
	UnpublishedTX   []uint64

	// How many chunks the socket holds for receiving and for sending: what was
	// given to it less what came back. Only the worker moves the four indices
	// these are made of, so they are exact while the kernel goes on.
	Receiving, Sending int
}

// Contents reads the rings. It changes nothing and is not for the hot path.
func (q *Queue) Contents() Contents {
	fillProducer, fillConsumer := atomic.LoadUint32(q.fill.producer), atomic.LoadUint32(q.fill.consumer)
	txProducer, txConsumer := atomic.LoadUint32(q.tx.producer), atomic.LoadUint32(q.tx.consumer)
	rxProducer, rxConsumer := atomic.LoadUint32(q.rx.producer), atomic.LoadUint32(q.rx.consumer)
	doneProducer, doneConsumer := atomic.LoadUint32(q.completion.producer), atomic.LoadUint32(q.completion.consumer)

	c := Contents{
		Fill:       q.fill.between(fillConsumer, fillProducer),
		TX:         addresses(q.tx.between(txConsumer, txProducer)),
		RX:         addresses(q.rx.between(rxConsumer, rxProducer)),
		Completion: q.completion.between(doneConsumer, doneProducer),
		Receiving:  int(fillProducer - rxConsumer),
		Sending:    int(txProducer - doneConsumer),
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

// Settle makes this process the rings' user: it takes over where the last one
// stopped, however long ago the queue was attached, and the custody table
// speaks of this queue's socket from now on. Package handover calls it when the
// marks have been made right and nobody else uses the rings any more.
func (q *Queue) Settle() {
	q.resume()
	atomic.StoreUint32(&q.record.fillIntent, q.fill.next)
	atomic.StoreUint32(&q.record.txIntent, q.tx.next)
	atomic.StoreUint64(&q.record.cookie, q.cookie)
}

// resume takes this side's indices from where they are shared.
func (q *Queue) resume() {
	q.fill.startProducing()
	q.tx.startProducing()
	q.rx.startConsuming()
	q.completion.startConsuming()
}

func addresses(descs []desc) []uint64 {
	addrs := make([]uint64, len(descs))
	for i, d := range descs {
		addrs[i] = d.addr
	}
	return addrs
}
