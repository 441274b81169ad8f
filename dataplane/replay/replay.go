// Package replay carries captured frames through the data path: the worker
// that `fairlead run` forwards with, over queues in memory, with the capture's
// time for a clock. Frames come one at a time; what they leave behind (flows,
// NAT bindings, held fragments) stays for those that follow.
//
// The same snapshot and the same frames always give the same result, byte for
// byte.
package replay

import (
	"errors"
	"fmt"
	"time"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// KernelHeadroom is what the kernel keeps free in a chunk before the
// configured headroom (XDP_PACKET_HEADROOM). Replay does too, so that the same
// frames are too long.
const KernelHeadroom = 256

// Config says what is replayed on.
type Config struct {
	Snapshot  *fib.Snapshot
	Flows     int // most flows at a time
	ChunkSize int // bytes of a chunk, a power of two
	Headroom  int // bytes kept before each frame beyond KernelHeadroom
}

// Frame is one captured frame.
type Frame struct {
	Data []byte
	Time time.Time // the zero Time: as the frame before
	Port uint16    // the interface it arrives on: index in the snapshot's interfaces
}

// Ended is how one frame's journey ended.
type Ended struct {
	N                uint64 // which frame: they are counted from 1
	Verdict          dataplane.Verdict
	Service, Backend string // the names of those the verdict is about, "" for none
	Generation       uint64 // of the snapshot it was made by
}

// Sent is one frame that is transmitted.
type Sent struct {
	Data []byte
	Time time.Time // of the frame that it was sent on
	Port uint16    // the interface it leaves by
}

// Replay is a worker without a network. It belongs to one goroutine.
type Replay struct {
	snapshots dataplane.Publisher
	pool      *nic.Pool
	queues    []*queue
	worker    *dataplane.Worker
	flows     *flow.Table
	counters  ledger.Counters
	clock     clock

	frames  uint64            // taken so far
	inside  map[uint64]uint64 // chunk of a frame on its journey: the frame's number
	pending []Ended           // from frame number first on; Reason None: still on its journey
	first   uint64
	sent    []Sent
}

// spareChunks are the chunks beyond those that fragments may be held in: one
// in each queue, one on its way, and what the largest frame is cut into when
// the path ahead carries as little as IPv4 may.
const spareChunks = nic.MaxPorts + 1 + 128

// spareSlots are counters for services and backends that a later snapshot adds.
const spareSlots = 64

// New makes a replay that has seen nothing yet.
func New(cfg Config) (*Replay, error) {
	ports := len(cfg.Snapshot.Interfaces())
	if ports == 0 || ports > nic.MaxPorts {
		return nil, fmt.Errorf("replay: %d interfaces, 1 to %d are possible", ports, nic.MaxPorts)
	}
	hold := int(cfg.Snapshot.Settings().FragHold)
	pool, err := nic.NewPool(make([]byte, (hold+spareChunks)*cfg.ChunkSize), cfg.ChunkSize, KernelHeadroom+cfg.Headroom)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	flows, err := flow.New(make([]byte, flow.Size(cfg.Flows)), flow.Config{Flows: cfg.Flows, Workers: 1})
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r := &Replay{
		pool: pool, flows: flows, inside: make(map[uint64]uint64), first: 1, clock: newClock(),
		counters: ledger.New(len(cfg.Snapshot.Services())+spareSlots, len(cfg.Snapshot.Backends())+spareSlots),
	}
	queues := make([]dataplane.PortQueue, ports)
	for i := range queues {
		q := &queue{pool: pool, port: uint16(i), sent: r.send}
		r.queues = append(r.queues, q)
		queues[i] = dataplane.PortQueue{Port: q.port, Queue: q}
	}
	r.snapshots.Publish(cfg.Snapshot)
	r.worker, err = dataplane.NewWorker(dataplane.Config{
		Pool: pool, Queues: queues, Flows: flows, Snapshots: &r.snapshots, Counters: r.counters,
		Clock: func() flow.Time { return r.clock.now }, HoldMost: hold, PassToHost: true, Trace: r.trace,
	})
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r.worker.Step() // fills the queues
	return r, nil
}

// Longest is the longest frame that fits a chunk.
func (r *Replay) Longest() int { return r.pool.ChunkSize() - r.pool.Headroom() }

// Frame carries one frame through. It returns, in the order that frames came,
// how journeys have ended that are not held up by an earlier frame's, and the
// frames that were sent.
func (r *Replay) Frame(f Frame) ([]Ended, []Sent, error) {
	if int(f.Port) >= len(r.queues) {
		return nil, nil, fmt.Errorf("replay: port %d, there are %d", f.Port, len(r.queues))
	}
	if gap := r.clock.advance(f.Time); gap > 0 {
		r.idle(gap)
	}
	r.frames++
	r.pending = append(r.pending, Ended{N: r.frames})
	if len(f.Data) > r.Longest() {
		r.refuse(f.Data)
	} else {
		chunk, ok := r.queues[f.Port].receive(f.Data)
		if !ok {
			return nil, nil, errors.New("replay: no chunk to receive a frame into")
		}
		r.inside[chunk] = r.frames
	}
	for r.worker.Step() > 0 {
	}
	ended, sent := r.take()
	return ended, sent, nil
}

// Publish makes s what frames from now on are decided by. It has the same
// interfaces, and identities that follow those of the snapshot before.
func (r *Replay) Publish(s *fib.Snapshot) error {
	have := r.snapshots.Current()
	if len(s.Interfaces()) != len(have.Interfaces()) {
		return fmt.Errorf("replay: a snapshot of %d interfaces cannot follow one of %d", len(s.Interfaces()), len(have.Interfaces()))
	}
	if len(s.Services()) > len(r.counters.Services) || len(s.Backends()) > len(r.counters.Backends) {
		return fmt.Errorf("replay: a snapshot of %d services and %d backends, there are counters for %d and %d",
			len(s.Services()), len(s.Backends()), len(r.counters.Services), len(r.counters.Backends))
	}
	r.snapshots.Publish(s)
	return nil
}

// End ends the journeys of the fragments that are still held and returns how
// all remaining ones have ended.
func (r *Replay) End() ([]Ended, error) {
	r.worker.Close()
	ended, _ := r.take()
	if len(r.pending) > 0 {
		return ended, fmt.Errorf("replay: frame %d has no verdict", r.first)
	}
	return ended, r.Check()
}

// Ledger is the worker's account of every frame.
func (r *Replay) Ledger() *ledger.Ledger { return r.counters.Ledger }

// Check returns an error when a frame is unaccounted for.
func (r *Replay) Check() error {
	if err := r.counters.Ledger.Check(); err != nil {
		return err
	}
	if l := r.counters.Ledger; l.Received != r.frames {
		return fmt.Errorf("ledger: received %d, but the capture had %d frames", l.Received, r.frames)
	}
	return r.pool.Check()
}

// idle lets time pass as a worker without packets does, which sweeps the flow
// table.
func (r *Replay) idle(gap time.Duration) {
	const (
		nap    = 50 * time.Millisecond // how often a sleeping worker wakes
		naps   = 4096                  // records it sweeps then
		stride = 24 * time.Hour        // no flow's deadline may come to lie half the clock's range back
	)
	for gap > 0 {
		step := min(gap, stride)
		gap -= step
		r.clock.now += flow.Time(step / time.Millisecond)
		r.flows.Worker(0).Sweep(r.clock.now, int(min(step/nap, time.Duration(r.flows.Capacity()/naps+1)))*naps)
	}
}

// refuse ends the journey of a frame that fits no chunk. On a network such a
// frame reaches the host when the XDP program finds that it is not ours; the
// others are lost.
func (r *Replay) refuse(frame []byte) {
	v := dataplane.Verdict{Action: reason.Drop, Reason: reason.Oversize, Service: fib.NoIndex, Backend: fib.NoIndex, NextHop: fib.NoIndex}
	var info packet.Info
	if s := r.snapshots.Current(); packet.Parse(frame, &info) == reason.None && s.Local(info.Dst) == nil {
		v = dataplane.Decide(&dataplane.Input{Snapshot: s, Frame: frame, Info: &info})
	}
	l := r.counters.Ledger
	l.Received++
	l.Bytes += uint64(len(frame))
	l.Ended[v.Reason]++
	r.end(r.frames, v)
}

// trace is told how the journey of the frame in a chunk ended.
func (r *Replay) trace(chunk uint64, v dataplane.Verdict) {
	r.end(r.inside[chunk], v)
	delete(r.inside, chunk)
}

func (r *Replay) end(n uint64, v dataplane.Verdict) {
	s := r.snapshots.Current()
	e := &r.pending[n-r.first]
	e.Verdict, e.Generation = v, s.Generation()
	if v.Service != fib.NoIndex {
		e.Service = s.Name(s.Services()[v.Service].Name)
	}
	if v.Backend != fib.NoIndex {
		e.Backend = s.BackendName(s.Backend(v.Backend))
	}
}

func (r *Replay) send(port uint16, frame []byte) {
	r.sent = append(r.sent, Sent{Data: append([]byte(nil), frame...), Time: r.clock.time, Port: port})
}

// take hands over what has been sent and the verdicts up to the first frame
// that has none yet.
func (r *Replay) take() (ended []Ended, sent []Sent) {
	n := 0
	for n < len(r.pending) && r.pending[n].Verdict.Reason != reason.None {
		n++
	}
	ended = append(ended, r.pending[:n]...)
	r.pending = append(r.pending[:0], r.pending[n:]...)
	r.first += uint64(n)
	sent, r.sent = r.sent, nil
	return ended, sent
}
