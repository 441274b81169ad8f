package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tunnel carries checks to backends by the method of their service. The sockets
// of such checks are connected to the VIP, which is no address of this host, and
// carry a mark; a routing rule sends marked packets into a TUN device, and so
// back to us. Each is known by its source port, wrapped, and sent as a frame to
// the backend's next hop, as the data path would. Answers come from the VIP to
// the source address by themselves, and the host's stack brings them to the
// socket: the XDP program takes only what is for a VIP or a SNAT address.
//
// The device is there from the first such check on. Everything goes when the
// tunnel is closed; what a killed process has left behind is a rule that
// matches nothing, which the next one removes or uses.
type tunnel struct {
	nextHop func(netip.Addr) (Hop, bool)
	log     *slog.Logger
	ctx     context.Context

	mu       sync.RWMutex // guards what follows
	device   *device      // nil before the first check
	retry    time.Time    // a device that could not be made is tried again then
	failed   error
	passages map[ident]*passage
	released []*passage     // in the order in which they were
	warned   map[int]bool   // interfaces, by number, that were looked at
	done     sync.WaitGroup // the goroutines of the device
}

// passage is what one check sends through the tunnel.
type passage struct {
	tunnel  *tunnel
	ident   ident
	backend netip.Addr
	way     Way
	used    atomic.Bool // something of it has come into the tunnel
	until   time.Time   // when it may be forgotten; set by release
}

// result is what a check that took the passage has found. When nothing of it
// has come into the tunnel, it has asked somebody else: this node itself, which
// has the VIP as an address of its own. Without a passage it is err.
func (p *passage) result(err error) error {
	if p == nil || p.used.Load() || errors.As(err, new(ownFault)) || errors.Is(err, errEnded) {
		return err
	}
	return own(errors.New("nothing of the check came into the tunnel: the VIP may be an address of this node itself"))
}

// Times of the tunnel.
const (
	linger      = 2 * time.Second // what a socket says last is carried after it is closed
	retryAfter  = time.Second
	repairEvery = 5 * time.Second
)

func newTunnel(ctx context.Context, cfg *Config) *tunnel {
	t := &tunnel{nextHop: cfg.NextHop, log: cfg.Log, ctx: ctx, passages: make(map[ident]*passage), warned: make(map[int]bool)}
	if err := removeStale(); err != nil {
		t.log.Debug("rules of earlier checks", "error", err)
	}
	return t
}

// open lets what is known by id through to a backend, until it is released.
func (t *tunnel) open(id ident, backend netip.Addr, w Way) (*passage, error) {
	hop, ok := Hop{}, false
	if t.nextHop != nil {
		hop, ok = t.nextHop(backend)
	}
	if !ok {
		return nil, errors.New("no route, or no Ethernet address of the next hop, is known")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(id.source.Addr().Is6()); err != nil {
		return nil, own(fmt.Errorf("tunnel for checks: %w", err))
	}
	t.look(hop.Interface, id)
	now := time.Now()
	t.forget(now)
	p := &passage{tunnel: t, ident: id, backend: backend, way: w}
	t.passages[id] = p
	return p, nil
}

// release ends a passage, but not at once.
func (p *passage) release() {
	if p == nil {
		return
	}
	t := p.tunnel
	t.mu.Lock()
	defer t.mu.Unlock()
	p.until = time.Now().Add(linger)
	t.released = append(t.released, p)
}

// forget forgets passages that were released long ago.
func (t *tunnel) forget(now time.Time) {
	n := 0
	for ; n < len(t.released) && now.After(t.released[n].until); n++ {
		p := t.released[n]
		t.released[n] = nil
		if t.passages[p.ident] == p { // the port may be another's by now
			delete(t.passages, p.ident)
		}
	}
	t.released = t.released[n:]
}

// ready sees to it that there is a device for a family.
func (t *tunnel) ready(is6 bool) error {
	if t.ctx.Err() != nil {
		return errEnded
	}
	now := time.Now()
	if t.device == nil {
		if now.Before(t.retry) {
			return t.failed
		}
		d, err := newDevice()
		if err != nil {
			t.failed, t.retry = err, now.Add(retryAfter)
			return err
		}
		t.device, t.failed = d, nil
		t.log.Info("checks go through a tunnel", "device", d.name, "mark", fwMark, "table", routeTable)
		t.done.Go(func() { t.read(d) })
		t.done.Go(func() { t.keep(d) })
	}
	if is6 {
		return t.device.err6
	}
	return t.device.err4
}

// read carries what the host's stack sends into the device.
func (t *tunnel) read(d *device) {
	buf := make([]byte, headroom+2048)
	for {
		n, err := d.file.Read(buf[headroom:])
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			if t.ctx.Err() == nil {
				t.log.Error("the device of checks cannot be read; another is made", "device", d.name, "error", err)
			}
			t.discard(d)
			return
		}
		t.carry(d, buf, headroom+n)
	}
}

// carry sends one packet to the backend that it is for. What nobody knows is
// not sent: neighbour discovery of the kernel's, or a late word of a check that
// is long over.
func (t *tunnel) carry(d *device, buf []byte, end int) {
	id, ok := identify(buf[headroom:end])
	if !ok {
		return
	}
	t.mu.RLock()
	p := t.passages[id]
	t.mu.RUnlock()
	if p == nil {
		return
	}
	p.used.Store(true)
	hop, ok := t.nextHop(p.backend)
	if !ok {
		return
	}
	frame := wrap(buf, end, p.backend, &p.way, &hop)
	to := &unix.SockaddrLinklayer{Ifindex: hop.Interface, Halen: 6}
	copy(to.Addr[:], hop.Destination[:])
	if err := unix.Sendto(d.packet, frame, 0, to); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
		t.log.Debug("check not sent", "backend", p.backend, "error", err)
	}
}

// discard gives up a device that has failed. The next check makes another.
func (t *tunnel) discard(d *device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.device == d {
		t.device, t.retry = nil, time.Now().Add(retryAfter)
		t.failed = errors.New("the device has failed")
		d.file.Close()
		unix.Close(d.packet)
	}
}

// keep puts rules and routes back that somebody else has removed: network
// managers do that with what they do not know.
func (t *tunnel) keep(d *device) {
	ticker := time.NewTicker(repairEvery)
	defer ticker.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-ticker.C:
		}
		t.mu.Lock()
		if t.device != d {
			t.mu.Unlock()
			return
		}
		before4, before6 := d.err4, d.err6
		mended := d.mend()
		if mended || errText(before4) != errText(d.err4) || errText(before6) != errText(d.err6) {
			t.log.Warn("routing of checks was changed by others and is put back", "device", d.name, "error", errors.Join(d.err4, d.err6))
		}
		t.mu.Unlock()
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// close removes the device and what leads to it.
func (t *tunnel) close() error {
	t.mu.Lock()
	d := t.device
	t.device = nil
	t.mu.Unlock()
	var err error
	if d != nil {
		err = d.file.Close() // which ends the reading
	}
	t.done.Wait()
	if d != nil {
		err = errors.Join(err, d.close())
	}
	return err
}

// look warns, once for each interface, of a reverse path filter that drops
// answers: they come from the VIP, and the route to that may be elsewhere.
func (t *tunnel) look(index int, id ident) {
	if t.warned[index] || id.source.Addr().Is6() {
		return
	}
	t.warned[index] = true
	if name, strict := strictFilter(index); strict {
		t.log.Warn("rp_filter is strict: answers to checks through the tunnel are dropped unless the route to the VIP is by the same interface; set it to 2 or 0",
			"interface", name, "setting", "net.ipv4.conf."+name+".rp_filter")
	}
}
