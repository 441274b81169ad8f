package selftest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
	"fairlead/xdp/ethtool"
	"fairlead/xdp/steer"
)

// Interface is what was found out about an interface.
type Interface struct {
	Name     string    `json:"name"`
	Driver   string    `json:"driver"`
	Firmware string    `json:"firmware,omitempty"`
	MTU      int       `json:"mtu"`
	MAC      string    `json:"mac"`
	Queues   Direction `json:"queues"`
	// Rings are the NIC's own, in frames a queue; nil where the driver has none.
	Rings    *Direction `json:"rings,omitempty"`
	Findings []string   `json:"findings"` // what `fairlead check` would say of it
	Traffic  *Traffic   `json:"traffic,omitempty"`
}

// Direction is a number for receiving and one for sending, and how large each
// may be made.
type Direction struct {
	RX    int `json:"rx"`
	TX    int `json:"tx"`
	MaxRX int `json:"maxRx"`
	MaxTX int `json:"maxTx"`
}

// Traffic is what the interface did under load.
type Traffic struct {
	XDPMode    string `json:"xdpMode"` // native or generic
	ModeReason string `json:"modeReason,omitempty"`
	ZeroCopy   bool   `json:"zeroCopy"`
	CopyReason string `json:"copyReason,omitempty"` // why not zero copy
	// Receive is what queue 0 did: the kernel makes frames for that one alone.
	Receive  QueueResult   `json:"receive"`
	Transmit []QueueResult `json:"transmit,omitempty"` // all queues at once
}

// QueueResult is what one queue did.
type QueueResult struct {
	Queue   int     `json:"queue"`
	Mpps    float64 `json:"mpps"`
	NS      float64 `json:"nsPerFrame"`            // CPU time of the thread that serves the queue
	Offered float64 `json:"offeredMpps,omitempty"` // made and given to the queue
}

// measureInterface looks at an interface and, if asked, puts load on it.
func measureInterface(ctx context.Context, o Options, cpus []int, progress func(string)) (*Interface, error) {
	cfg, err := configs.Parse("self-test", fmt.Appendf(nil, "[[interface]]\nname = %q\n", o.Interface))
	if err != nil {
		return nil, err
	}
	found := preflight.Machine(cfg)
	if err := preflight.Errors(found); err != nil {
		return nil, err
	}
	r, err := describe(o.Interface)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.Level == preflight.Note && f.Subject != "interface "+o.Interface {
			continue // of a configuration that there is not
		}
		r.Findings = append(r.Findings, fmt.Sprintf("%s: %v", f.Level, f))
	}
	if o.Traffic {
		r.Traffic, err = measureTraffic(ctx, o, cfg, r, cpus, progress)
	}
	return r, err
}

// describe asks the kernel and the driver.
func describe(name string) (*Interface, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	r := &Interface{Name: name, MTU: link.Attrs().MTU, MAC: link.Attrs().HardwareAddr.String()}
	if driver, err := ethtool.GetDriver(name); err == nil {
		r.Driver, r.Firmware = driver.Name, driver.Firmware
	}
	queues, err := ethtool.GetChannels(name)
	if err != nil {
		return nil, err
	}
	r.Queues = Direction{RX: queues.RX, TX: queues.TX, MaxRX: queues.MaxRX, MaxTX: queues.MaxTX}
	if rings, err := ethtool.GetRings(name); err == nil {
		r.Rings = &Direction{RX: rings.RX, TX: rings.TX, MaxRX: rings.MaxRX, MaxTX: rings.MaxTX}
	}
	return r, nil
}

// testVIP is what frames of the self-test are for, so that nothing else on the
// network is taken for one: of the addresses for benchmarks (RFC 2544).
var testVIP = netip.MustParseAddrPort("198.18.0.2:9")

// testSource is where they come from.
var testSource = netip.MustParseAddrPort("198.18.0.1:1024")

// oneHop keeps routers from forwarding what the self-test sends.
const oneHop = 1

// measureTraffic attaches the XDP program, and takes it off at the end.
func measureTraffic(ctx context.Context, o Options, cfg *configs.Config, at *Interface, cpus []int, progress func(string)) (t *Traffic, err error) {
	link, err := netlink.LinkByName(o.Interface)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", o.Interface, err)
	}
	s, err := steer.Open(steer.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Remove()) }()
	a, err := s.Attach(link.Attrs().Index, o.Interface, steer.ModeAuto)
	if errors.Is(err, steer.ErrInUse) {
		return nil, fmt.Errorf("%w; stop what uses it, perhaps a running Fairlead, before this test", err)
	}
	if err != nil {
		return nil, err
	}
	if _, _, err := s.SetLocals([]steer.Local{{Addr: testVIP.Addr(), Kind: steer.VIP}}); err != nil {
		return nil, err
	}
	t = &Traffic{XDPMode: string(a.Mode), ModeReason: a.Reason}
	lines, err := openLines(link.Attrs().Index, o.Interface, at.Queues.RX, &cfg.Dataplane)
	defer func() { err = errors.Join(err, lines.close()) }()
	if err != nil {
		return nil, err
	}
	facts := lines[0].socket.Facts()
	t.ZeroCopy, t.CopyReason = facts.ZeroCopy, facts.CopyReason
	progress("receiving on queue 0 of " + o.Interface)
	if t.Receive, err = lines[0].receive(ctx, s, o.Duration, cpus); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	if o.Transmit != nil {
		progress(fmt.Sprintf("sending from %s to %s for %v", o.Interface, o.Transmit, o.Duration.Round(time.Millisecond)))
		t.Transmit, err = lines.transmit(ctx, link.Attrs().HardwareAddr, o.Transmit, o.Duration, cpus)
	}
	return t, err
}
