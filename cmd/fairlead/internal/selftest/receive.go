package selftest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"fairlead/dataplane/nic"
	"fairlead/xdp/steer"
)

// injected is how many frames are made by one system call: few enough that a
// test ends soon after it is told to.
const injected = 1 << 16

// receive has frames made on one CPU and received on another, where there is
// one, through the XDP program and the socket of queue 0. Nothing is on the wire.
func (l *line) receive(ctx context.Context, s *steer.Steer, d time.Duration, cpus []int) (QueueResult, error) {
	r := QueueResult{Queue: l.queue}
	// The fill ring is full before the first frame comes.
	l.refill(make([]uint64, nic.BatchSize))
	if err := s.SetSocket(l.index, l.queue, l.socket.FD()); err != nil {
		return r, err
	}
	var stop atomic.Bool
	var offered atomic.Uint64
	frame := udpFrame(testSource, testVIP, oneHop)
	source := make(chan error, 1)
	go func() {
		source <- onCPU(cpus[0], func() error {
			for !stop.Load() {
				if err := s.Inject(l.index, frame, injected); err != nil {
					return err
				}
				offered.Add(injected)
			}
			return nil
		})
	}()
	err := onCPU(cpus[len(cpus)-1], func() error {
		defer stop.Store(true)
		return l.drain(ctx, d, &offered, &r)
	})
	return r, errors.Join(err, <-source, s.ClearSocket(l.index, l.queue))
}

// drain receives frames and frees them, for as long as the measurement takes.
func (l *line) drain(ctx context.Context, d time.Duration, offered *atomic.Uint64, r *QueueResult) error {
	frames, addrs := make([]nic.Frame, nic.BatchSize), make([]uint64, nic.BatchSize)
	for begin := time.Now(); l.take(frames, addrs) == 0; {
		if ctx.Err() != nil || time.Since(begin) > d+patience {
			return errNoFrame
		}
	}
	before, err := threadTime()
	if err != nil {
		return err
	}
	begin, made, received := time.Now(), offered.Load(), 0
	for ctx.Err() == nil && (time.Since(begin) < d || received == 0 && time.Since(begin) < d+patience) {
		for range batches {
			received += l.take(frames, addrs)
		}
	}
	took := time.Since(begin)
	after, err := threadTime()
	if err != nil {
		return err
	}
	if received == 0 {
		return errNoFrame
	}
	r.Mpps = float64(received) / took.Seconds() / 1e6
	r.NS = float64(after-before) / float64(received)
	r.Offered = max(r.Mpps, float64(offered.Load()-made)/took.Seconds()/1e6)
	return context.Cause(ctx)
}

// patience is how much longer the first frame is waited for: on a busy machine
// neither side may have run yet.
const patience = 5 * time.Second

// errNoFrame says that the test is worth nothing.
var errNoFrame = errors.New("no frame has arrived")

// take receives a batch and makes room for the next.
func (l *line) take(frames []nic.Frame, addrs []uint64) int {
	n := l.rings.Receive(frames)
	l.pool.Received(frames[:n])
	for _, f := range frames[:n] {
		l.pool.Put(f.Addr)
	}
	l.refill(addrs)
	return n
}

// refill gives the kernel as many chunks as it takes, a batch at a time.
func (l *line) refill(addrs []uint64) {
	for {
		n := l.pool.TakeForFill(addrs)
		accepted := l.rings.Refill(addrs[:n])
		l.pool.Filled(accepted)
		if accepted < len(addrs) {
			return
		}
	}
}
