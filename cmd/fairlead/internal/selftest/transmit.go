package selftest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"fairlead/dataplane/nic"
)

// transmit sends on all queues at once, each from a thread of its own.
func (all lines) transmit(ctx context.Context, from, to net.HardwareAddr, d time.Duration, cpus []int) ([]QueueResult, error) {
	results, errs := make([]QueueResult, len(all)), make([]error, len(all))
	done := make(chan struct{})
	for i, l := range all {
		go func() {
			errs[i] = onCPU(cpus[i%len(cpus)], func() (err error) {
				results[i], err = l.send(ctx, from, to, d)
				return err
			})
			if errs[i] != nil {
				errs[i] = fmt.Errorf("send on queue %d: %w", l.queue, errs[i])
			}
			done <- struct{}{}
		}()
	}
	for range all {
		<-done
	}
	return results, errors.Join(errs...)
}

// completeTime bounds the wait for the last frames to be sent.
const completeTime = time.Second

// send sends frames as fast as the queue takes them.
func (l *line) send(ctx context.Context, from, to net.HardwareAddr, d time.Duration) (QueueResult, error) {
	r := QueueResult{Queue: l.queue}
	free := l.write(from, to)
	addrs := make([]uint64, nic.BatchSize)
	before, err := threadTime()
	if err != nil {
		return r, err
	}
	begin, sent := time.Now(), 0
	for ctx.Err() == nil && time.Since(begin) < d {
		n, err := l.push(&free, addrs)
		if err != nil {
			return r, err
		}
		sent += n
	}
	// What is in the ring was not sent in that time.
	took := time.Since(begin)
	after, err := threadTime()
	if err != nil {
		return r, err
	}
	for begin := time.Now(); l.pool.Count(nic.OwnerTX) > 0 && time.Since(begin) < completeTime; {
		if err := l.rings.Kick(); err != nil {
			return r, err
		}
		l.complete(&free, addrs)
	}
	if sent == 0 {
		return r, errors.New("no frame was sent")
	}
	r.Mpps = float64(sent) / took.Seconds() / 1e6
	r.NS = float64(after-before) / float64(sent)
	return r, context.Cause(ctx)
}

// write takes all chunks that are free and puts a frame into each, from ports of
// its own: a receiver spreads them over its queues.
func (l *line) write(from, to net.HardwareAddr) []nic.Frame {
	frame := udpFrame(testSource, testVIP, oneHop)
	copy(frame, to)
	copy(frame[6:], from)
	udp := frame[offIP+ipv4Len:]
	udp[6], udp[7] = 0, 0 // no checksum (RFC 768): ports differ
	var frames []nic.Frame
	for {
		addr, ok := l.pool.Get()
		if !ok {
			return frames
		}
		addr += uint64(l.pool.Headroom())
		binary.BigEndian.PutUint16(udp, uint16(1024+len(frames)))
		copy(l.pool.Mem[addr:], frame)
		frames = append(frames, nic.Frame{Addr: addr, Len: uint32(len(frame))})
	}
}

// push hands over a batch of the free frames and takes back what was sent.
func (l *line) push(free *[]nic.Frame, addrs []uint64) (sent int, err error) {
	rest := max(0, len(*free)-nic.BatchSize)
	batch := (*free)[rest:]
	n := l.rings.Transmit(batch)
	l.pool.Sent(batch[:n])
	*free = append((*free)[:rest], batch[n:]...)
	if err := l.rings.Kick(); err != nil {
		return 0, err
	}
	return l.complete(free, addrs), nil
}

// complete takes back frames that were sent, to send them again.
func (l *line) complete(free *[]nic.Frame, addrs []uint64) int {
	n := l.rings.Complete(addrs)
	l.pool.Completed(addrs[:n])
	for range n {
		// The chunk freed last comes first; its frame is still in it.
		addr, _ := l.pool.Get()
		*free = append(*free, nic.Frame{Addr: addr + uint64(l.pool.Headroom()), Len: minFrame})
	}
	return n
}
