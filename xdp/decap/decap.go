package decap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// DefaultGUEPort is the UDP port that IANA assigned to GUE.
const DefaultGUEPort = 6080

// Config says what to decapsulate.
type Config struct {
	// VIPs are the inner destinations that are ours. Without any, every
	// tunnelled packet is; then other tunnels that end on this machine are
	// taken as well.
	VIPs []netip.Addr

	// LoadBalancers are the outer sources that may send to us; tunnelled
	// packets for us from anywhere else are dropped. Without any, all may.
	LoadBalancers []netip.Prefix

	// GUEPort is the UDP destination port of GUE; 0 means DefaultGUEPort.
	GUEPort uint16

	// Mode is where the program runs; "" means ModeAuto.
	Mode Mode

	// PinPath is a directory on a BPF file system that keeps the program when
	// the process ends without Close; the next Attach replaces it without a gap.
	// With "" it goes with the process.
	PinPath string
}

// Decap is the program on one interface.
type Decap struct {
	attached Attached
	objects  objectObjects
	link     link.Link
	pin      string // of link, "" when it is not kept
	close    func() error
}

// Attach runs the program on an interface of the calling thread's network
// namespace. It goes when Close is called, or, unless it is pinned, when the
// process ends.
func Attach(ifindex int, name string, cfg Config) (*Decap, error) {
	d, err := attach(ifindex, name, cfg)
	if err != nil {
		return nil, fmt.Errorf("attach decapsulation to %s: %w", name, err)
	}
	return d, nil
}

func attach(ifindex int, name string, cfg Config) (*Decap, error) {
	switch cfg.Mode {
	case "":
		cfg.Mode = ModeAuto
	case ModeAuto, ModeNative, ModeGeneric:
	default:
		return nil, fmt.Errorf("unknown mode %q", cfg.Mode)
	}
	if cfg.GUEPort == 0 {
		cfg.GUEPort = DefaultGUEPort
	}
	d := &Decap{attached: Attached{IfIndex: ifindex, Name: name}}
	var err error
	if d.pin, err = pinFor(cfg.PinPath, ifindex); err != nil {
		return nil, err
	}
	if err := d.run(cfg); err != nil {
		return nil, err
	}
	d.close = sync.OnceValue(d.detach)
	return d, nil
}

// detach undoes run.
func (d *Decap) detach() error {
	return errors.Join(unpin(d.pin), d.link.Detach(), d.link.Close(), d.objects.Close())
}

// load makes the program and its maps, filled from cfg.
func (d *Decap) load(cfg Config, frags bool) error {
	spec, err := loadObject()
	if err != nil {
		return err
	}
	if frags {
		spec.Programs[objectProgDecap].Flags |= unix.BPF_F_XDP_HAS_FRAGS
	}
	err = errors.Join(
		spec.Variables[objectVarGuePort].Set(cfg.GUEPort),
		spec.Variables[objectVarCheckVip].Set(flag(len(cfg.VIPs) > 0)),
		spec.Variables[objectVarCheckSource].Set(flag(len(cfg.LoadBalancers) > 0)),
	)
	if err != nil {
		return err
	}
	var o objectObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return fmt.Errorf("load program (Linux 5.18 or later, CAP_BPF and CAP_NET_ADMIN are needed): %w", err)
	}
	if err := errors.Join(fillVIPs(o.Vips, cfg.VIPs), fillLoadBalancers(o.LoadBalancers, cfg.LoadBalancers)); err != nil {
		o.Close()
		return err
	}
	d.objects = o
	return nil
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// key is an address as the program looks it up.
func key(a netip.Addr) objectAddr {
	var k objectAddr
	raw := a.AsSlice()
	k.Family = 6
	if a.Is4() {
		k.Family = 4
	}
	for i := range len(raw) / 4 {
		k.Word[i] = binary.NativeEndian.Uint32(raw[4*i:])
	}
	return k
}

func fillVIPs(m *ebpf.Map, vips []netip.Addr) error {
	for _, vip := range vips {
		vip = vip.Unmap()
		if !vip.IsValid() || vip.Zone() != "" || vip.IsUnspecified() || vip.IsMulticast() {
			return fmt.Errorf("VIP %s is not the address of a host", vip)
		}
		if err := m.Put(key(vip), uint8(1)); err != nil {
			return fmt.Errorf("add VIP %s: %w", vip, err)
		}
	}
	return nil
}

// familyBits is the part of a prefix key that comes before the address.
const familyBits = 32

func fillLoadBalancers(m *ebpf.Map, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("load balancer %s is not a prefix", p)
		}
		k := objectPrefix{Bits: uint32(familyBits + p.Bits()), Addr: key(p.Masked().Addr())}
		if err := m.Put(k, uint8(1)); err != nil {
			return fmt.Errorf("add load balancer %s: %w", p, err)
		}
	}
	return nil
}

// Attached says how the program runs.
func (d *Decap) Attached() Attached { return d.attached }

// Close takes the program off the interface.
func (d *Decap) Close() error {
	if err := d.close(); err != nil {
		return fmt.Errorf("detach decapsulation from %s: %w", d.attached.Name, err)
	}
	return nil
}
