package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
	"fairlead/dataplane/tap"
)

// Looking at packets: how often the workers' rings are emptied, how many bytes
// one who looks may lag behind, and how long a tap may take to be in force.
const (
	tapEvery  = 10 * time.Millisecond
	tapBehind = 16 << 20
	tapWait   = 3 * time.Second
)

// taps are all who look at packets, and the memory in which workers show them.
// The rings are emptied by one goroutine, which lives while somebody looks.
type taps struct {
	log      *slog.Logger
	watchers chan struct{} // one in it for each who watches drops
	captures chan struct{} // and for each capture

	mu      sync.Mutex
	fd      int // -1: there is no memory
	mem     []byte
	reader  *tap.Reader
	open    [tap.MaxTaps]*packetTap
	stop    chan struct{} // closed to end the goroutine; nil when there is none
	stopped chan struct{}
}

func newTaps(log *slog.Logger) *taps {
	return &taps{log: log, fd: -1, watchers: make(chan struct{}, mostWatchers), captures: make(chan struct{}, capturesAtOnce)}
}

// take takes one of so many places.
func (t *taps) take(places chan struct{}, format string, most int) (give func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, api.Errorf(api.TooMany, format, most)
	}
}

// errTapsClosed says that the node stops.
var errTapsClosed = errors.New("the node stops")

// make makes memory for so many workers. Who looks already goes on looking.
func (t *taps) make(workers int) error {
	size := tap.Size(workers)
	fd, err := memfd("fairlead-taps", size)
	if err != nil {
		return err
	}
	mem, err := mapMemfd(fd, size)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	reader, err := tap.NewReader(mem, workers)
	if err != nil {
		return errors.Join(err, unix.Munmap(mem), unix.Close(fd))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	looking := t.open
	if t.reader != nil {
		t.read()
		for _, p := range looking {
			if p != nil {
				p.sum = p.counts()
				p.before = tap.Counts{}
			}
		}
	}
	err = t.unmap()
	t.fd, t.mem, t.reader, t.open = fd, mem, reader, [tap.MaxTaps]*packetTap{}
	for _, p := range looking {
		if p != nil {
			err = errors.Join(err, t.put(p))
		}
	}
	return err
}

func (t *taps) unmap() error {
	if t.fd < 0 {
		return nil
	}
	err := errors.Join(unix.Munmap(t.mem), unix.Close(t.fd))
	t.fd, t.mem, t.reader = -1, nil, nil
	return err
}

// put puts a tap's filter in force.
func (t *taps) put(p *packetTap) error {
	slot, epoch, err := t.reader.Open(&p.filter)
	if err != nil {
		return err
	}
	p.slot, p.epoch, p.before = slot, epoch, t.reader.Counts(slot)
	t.open[slot] = p
	return nil
}

// close ends all taps and gives the memory back.
func (t *taps) close() error {
	t.mu.Lock()
	for _, p := range t.open {
		if p != nil {
			t.remove(p, errTapsClosed)
		}
	}
	stopped := t.stopped
	t.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unmap()
}

// shown is one packet that a worker has shown. The frame is the receiver's.
type shown struct {
	tap.Record
	frame []byte
}

// packetTap is somebody's look at packets.
type packetTap struct {
	taps   *taps
	filter tap.Filter
	slot   int
	epoch  uint64
	before tap.Counts // of the slot, when the filter was put there
	sum    tap.Counts // of earlier memory, and of those that found the queue full; of everything, once the tap is over

	queue []shown
	bytes int
	some  chan struct{} // there is something in the queue, or the tap is over
	over  error
}

// Open begins to look at the packets that a filter selects.
func (t *taps) openTap(f tap.Filter) (*packetTap, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		return nil, errors.New("there are no workers at the moment")
	}
	p := &packetTap{taps: t, filter: f, some: make(chan struct{}, 1)}
	if err := t.put(p); err != nil {
		return nil, err
	}
	if t.stop == nil {
		t.stop, t.stopped = make(chan struct{}), make(chan struct{})
		go t.serve(t.stop, t.stopped)
	}
	return p, nil
}

// close ends the look.
func (p *packetTap) close() {
	p.taps.mu.Lock()
	defer p.taps.mu.Unlock()
	p.taps.remove(p, errTapsClosed)
}

// remove takes a tap out; the last one ends the goroutine.
func (t *taps) remove(p *packetTap, why error) {
	if p.over != nil {
		return
	}
	p.sum = p.counts()
	p.over = why
	p.tell()
	t.reader.Close(p.slot)
	t.open[p.slot] = nil
	for _, other := range t.open {
		if other != nil {
			return
		}
	}
	close(t.stop)
	t.stop = nil
}

func (p *packetTap) tell() {
	select {
	case p.some <- struct{}{}:
	default:
	}
}

// serve empties the rings until stop is closed.
func (t *taps) serve(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	ticker := time.NewTicker(tapEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			t.round()
		}
	}
}

func (t *taps) round() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		return
	}
	t.reader.Beat()
	t.read()
}

// read takes what the workers have shown.
func (t *taps) read() {
	if _, err := t.reader.Read(t.deliver); err != nil {
		t.log.Warn("packets that workers show", "error", err)
	}
}

// deliver gives a record to all who want it.
func (t *taps) deliver(r *tap.Record) {
	var frame []byte
	for slot, p := range t.open {
		if p == nil || r.Taps>>slot&1 == 0 {
			continue
		}
		if p.bytes >= tapBehind {
			p.sum.Lost++
			continue
		}
		if frame == nil {
			frame = append(make([]byte, 0, len(r.Frame)), r.Frame...)
		}
		one := shown{Record: *r, frame: frame[:min(len(frame), int(p.filter.Snap))]}
		one.Frame = nil
		p.queue = append(p.queue, one)
		p.bytes += len(one.frame) + shownSize
		p.tell()
	}
}

// shownSize is about what a shown packet takes besides its frame.
const shownSize = 128

// take returns the packets that are there, in the order of their times, or an
// error when the tap is over. some says when there may be any.
func (p *packetTap) take() ([]shown, error) {
	p.taps.mu.Lock()
	defer p.taps.mu.Unlock()
	got := p.queue
	p.queue, p.bytes = nil, 0
	if len(got) == 0 && p.over != nil {
		return nil, p.over
	}
	// Each worker's are in order; those of several are mixed here.
	slices.SortStableFunc(got, func(a, b shown) int { return a.Time.Compare(b.Time) })
	return got, nil
}

// counts are what workers say of the tap since it was opened, and how many
// packets were lost on the way here. The lock is held.
func (p *packetTap) counts() tap.Counts {
	if p.over != nil {
		return p.sum
	}
	c := p.taps.reader.Counts(p.slot)
	c.Matched += p.sum.Matched - p.before.Matched
	c.Lost += p.sum.Lost - p.before.Lost
	return c
}

// total is counts for those who do not hold the lock.
func (p *packetTap) total() tap.Counts {
	p.taps.mu.Lock()
	defer p.taps.mu.Unlock()
	return p.counts()
}

// inForce waits until all workers use the filter, and, where packets of flows
// are wanted that the XDP program forwards by itself, until it no longer does.
func (p *packetTap) inForce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tapWait, fmt.Errorf("the workers did not take the filter over within %v", tapWait))
	defer cancel()
	for {
		p.taps.mu.Lock()
		reader, over := p.taps.reader, p.over
		ready := reader != nil && reader.InForce(p.epoch) && (p.filter.Flags&tap.AllPaths == 0 || reader.Swept(p.epoch))
		p.taps.mu.Unlock()
		switch {
		case over != nil:
			return over
		case ready:
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
