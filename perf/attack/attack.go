package attack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/rig"
)

// Setup says what is to be tried.
type Setup struct {
	Binary string // fairlead
	Dir    string // for the node's files
	Method string
	// FlowMemo is "on" or "off": whether the kernel forwards established flows.
	FlowMemo    string
	Connections int
	Pace        time.Duration // from one request on a connection to the next
	TableSize   int           // most flows in the node's table
	Duration    time.Duration // of each of the two measurements
	FloodCPU    int
	WorkerCPU   int
}

// Half is what happened while something was sent at full rate beside the
// connections.
type Half struct {
	Duration  time.Duration
	Exchanges uint64 // requests that were answered on the connections
	Resent    uint64 // TCP segments that had to be sent again
	Frames    uint64 // that the flood consisted of
}

// Rate is exchanges a second.
func (h Half) Rate() float64 { return float64(h.Exchanges) / h.Duration.Seconds() }

// Result is what came out.
type Result struct {
	// Control was measured while the flood was sent to a station that is not
	// there: it took as much of the machine, and the node's network interface
	// had to look at every frame.
	Control Half
	// Attack was measured while the flood was sent to the service itself.
	Attack Half
	Broken int   // connections
	Why    error // the first broke
	Status *api.Status
}

// Share is what part of the exchanges that the control allowed took place under
// attack.
func (r *Result) Share() float64 { return r.Attack.Rate() / r.Control.Rate() }

// Run opens the connections, and measures what they carry beside a flood that is
// none of the node's business and beside one that is.
func Run(ctx context.Context, s Setup) (r *Result, err error) {
	w, err := newWorld(s.Method)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	node, err := rig.Start(ctx, s.Binary, s.Dir, w.lb, w.config(&s).Text())
	if err != nil {
		return nil, err
	}
	release, err := keepTo(s.WorkerCPU)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	t, err := talk(ctx, w.client, vip, s.Connections, s.Pace)
	if err != nil {
		return nil, err
	}
	r = &Result{}
	if r.Control, err = s.measure(ctx, w, t, nobody, [6]byte{2, 0x66, 0x66, 0, 0, 1}); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if r.Attack, err = s.measure(ctx, w, t, vip, [6]byte(w.in.MAC)); err != nil {
		return nil, fmt.Errorf("attack: %w", err)
	}
	r.Broken, r.Why = t.Stop(ctx)
	if r.Status, err = node.Balance(ctx); err != nil {
		return nil, err
	}
	return r, node.Stop()
}

// settling is how long a flood goes on before what happens beside it counts.
const settling = 500 * time.Millisecond

func (s *Setup) measure(ctx context.Context, w *world, t *talks, to netip.AddrPort, mac [6]byte) (h Half, err error) {
	f, err := startFlood(w.wire, mac, to, s.FloodCPU)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Stop()) }()
	if err := rest(ctx, settling); err != nil {
		return h, err
	}
	begin, exchanges := time.Now(), t.exchanges.Load()
	frames, err := f.Sent()
	if err != nil {
		return h, err
	}
	again, err := resent(w.client, w.server)
	if err != nil {
		return h, err
	}
	if err := rest(ctx, s.Duration); err != nil {
		return h, err
	}
	h.Duration, h.Exchanges = time.Since(begin), t.exchanges.Load()-exchanges
	after, err := f.Sent()
	if err != nil {
		return h, err
	}
	h.Frames = after - frames
	h.Resent, err = resent(w.client, w.server)
	h.Resent -= again
	return h, err
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// String is the result in a few lines.
func (r *Result) String() string {
	half := func(h Half) string {
		return fmt.Sprintf("%.0f exchanges/s, %d segments sent again, beside %.2f Mpps", h.Rate(), h.Resent, float64(h.Frames)/h.Duration.Seconds()/1e6)
	}
	return fmt.Sprintf("control: %s\nattack: %s\nshare %.3f, %d connections broke; ledger %v; XDP program %v; sockets %v",
		half(r.Control), half(r.Attack), r.Share(), r.Broken, r.Status.Ledger.Reasons, r.Status.Steering, r.Status.Sockets)
}
