package decap

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is where in the kernel the program runs.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // native, or generic where the driver cannot
	ModeNative  Mode = "native"  // in the driver
	ModeGeneric Mode = "generic" // in the stack, after the kernel has made an skb: any interface, slower
)

// Attached says how a program runs on an interface.
type Attached struct {
	IfIndex int
	Name    string
	Mode    Mode   // ModeNative or ModeGeneric
	Frags   bool   // the driver needed a program that accepts frames in several buffers
	Adopted bool   // it runs in place of one that an earlier process had left
	Reason  string // why it is not native or not without frags; empty if it is
}

// ErrInUse is the error of Attach when the interface has another XDP program.
var ErrInUse = errors.New("another XDP program is attached to the interface")

// run loads the program and gets it running in the first way that works: in
// place of the one that an earlier process has left, or on a new link.
func (d *Decap) run(cfg Config) error {
	device, err := netlink.LinkByIndex(d.attached.IfIndex)
	if err != nil {
		return err
	}
	if adopted, err := d.adopt(cfg, device); adopted || err != nil {
		return err
	}
	if err := d.attachNew(cfg, device.Attrs().MTU); err != nil {
		return err
	}
	if d.pin == "" {
		return nil
	}
	if err := d.link.Pin(d.pin); err != nil {
		return errors.Join(fmt.Errorf("pin at %s: %w", d.pin, err), d.detach())
	}
	return nil
}

func (d *Decap) attachNew(cfg Config, mtu int) error {
	if cfg.Mode != ModeGeneric {
		d.attached.Mode = ModeNative
		err := d.withFrags(cfg, mtu, d.linkWith(link.XDPDriverMode))
		if err == nil || cfg.Mode == ModeNative || !driverCannot(err) {
			return err
		}
		d.attached.Reason = err.Error()
	}
	d.attached.Mode = ModeGeneric
	return d.start(cfg, false, d.linkWith(link.XDPGenericMode))
}

// withFrags installs a plain program, and when the driver refuses because frames
// may be larger than one buffer (drivers say ERANGE, EINVAL or EOPNOTSUPP to
// that), one that accepts frames in several.
func (d *Decap) withFrags(cfg Config, mtu int, install func(*ebpf.Program) error) error {
	err := d.start(cfg, false, install)
	large := errors.Is(err, unix.ERANGE) ||
		mtu > 1500 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP))
	if err == nil || !large {
		return err
	}
	if second := d.start(cfg, true, install); second != nil {
		return fmt.Errorf("with MTU %d: %w (accepting frames in several buffers: %w)", mtu, err, second)
	}
	d.attached.Frags = true
	d.attached.Reason = fmt.Sprintf("MTU %d needs a program that accepts frames in several buffers", mtu)
	return nil
}

// start loads the program and installs it.
func (d *Decap) start(cfg Config, frags bool, install func(*ebpf.Program) error) error {
	if err := d.load(cfg, frags); err != nil {
		return err
	}
	if err := install(d.objects.Decap); err != nil {
		d.objects.Close()
		return err
	}
	return nil
}

// linkWith installs a program by a new link.
func (d *Decap) linkWith(flags link.XDPAttachFlags) func(*ebpf.Program) error {
	return func(p *ebpf.Program) error {
		l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: d.attached.IfIndex, Flags: flags})
		if err != nil {
			return refusal(flags, err)
		}
		d.link = l
		return nil
	}
}

// refusal says what the kernel's answer means for the operator.
func refusal(flags link.XDPAttachFlags, err error) error {
	mode := ModeNative
	if flags == link.XDPGenericMode {
		mode = ModeGeneric
	}
	hint := ""
	switch {
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST):
		return ErrInUse
	case errors.Is(err, unix.EOPNOTSUPP):
		hint = "the driver does not support it, or not with this MTU: "
	case errors.Is(err, unix.ERANGE):
		hint = "the MTU is too large for it: "
	case errors.Is(err, unix.ENOSPC):
		hint = "the interface has too few queues for it (a veth needs as many receive queues as its peer has transmit queues): "
	case errors.Is(err, unix.EPERM):
		hint = "CAP_NET_ADMIN is needed: "
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("%s XDP: %s%w", mode, hint, err)
}

// driverCannot tells a driver's refusal from an error that generic mode would
// meet as well.
func driverCannot(err error) bool {
	for _, other := range []error{ErrInUse, unix.EPERM, unix.EACCES, unix.ENODEV} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}
