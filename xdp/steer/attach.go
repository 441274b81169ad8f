package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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
	Mode    Mode // ModeNative or ModeGeneric
	Frags   bool // the driver needed a program that accepts frames in several buffers
	Adopted bool // the pinned link of an earlier process was taken over without a gap
	// Redirectable says that flow memos may send by this interface what came in
	// by another one.
	Redirectable bool
	SendsBack    bool   // they send by it what came in by itself with XDP_TX, and not by a redirect
	Reason       string // why it is not native or not without frags; empty if it is
}

// ErrNotAttached is the error of calls about an interface that has no program.
var ErrNotAttached = errors.New("no steering program is attached")

// ErrInUse is the error of Attach when the interface has another XDP program.
var ErrInUse = errors.New("another XDP program is attached to the interface")

// iface is one interface's program and its own maps.
type iface struct {
	attached Attached
	prog     *ebpf.Program
	link     link.Link
	xsks     *ebpf.Map
	counts   *ebpf.Map
}

func (i *iface) close() error {
	var errs []error
	if i.link != nil {
		errs = append(errs, i.link.Close())
	}
	if i.prog != nil {
		errs = append(errs, i.prog.Close())
	}
	for _, m := range []*ebpf.Map{i.xsks, i.counts} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Attach runs the program on an interface. A link that an earlier process
// pinned is taken over, sockets and counters included, and its program is
// replaced in one step; only a change from generic to native or back needs a
// moment without a program. Attaching an interface again does the same. When
// taking over fails, the earlier program goes on.
func (s *Steer) Attach(ifindex int, name string, mode Mode) (Attached, error) {
	fail := func(err error) (Attached, error) {
		return Attached{}, fmt.Errorf("attach to %s: %w", name, err)
	}
	if mode != ModeAuto && mode != ModeNative && mode != ModeGeneric {
		return fail(fmt.Errorf("unknown mode %q", mode))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Attached{}, ErrClosed
	}
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fail(err)
	}
	spec, err := loadObject()
	if err != nil {
		return fail(err)
	}
	i, again := s.ifaces[ifindex]
	if !again {
		if i, err = s.openIface(ifindex, spec); err != nil {
			return fail(err)
		}
	}
	s.memo.size(spec)
	s.admissions.place(ifindex)
	before := i.attached
	i.attached = Attached{IfIndex: ifindex, Name: name, SendsBack: s.memo.sendsBack(ifindex, device.Type())}
	err = s.run(i, device, spec, mode)
	switch {
	case err == nil:
		s.ifaces[ifindex] = i
		i.attached.Redirectable = s.memo.admit(ifindex)
		return i.attached, nil
	case i.link == nil:
		delete(s.ifaces, ifindex)
		delete(s.admissions.places, ifindex)
		err = errors.Join(err, i.close(), s.pins.removeIface(ifindex))
	case again:
		i.attached = before
	default:
		err = errors.Join(err, i.close())
	}
	return fail(err)
}

// openIface makes or adopts an interface's own maps, and its pinned link if
// that is still alive.
func (s *Steer) openIface(ifindex int, spec *ebpf.CollectionSpec) (*iface, error) {
	i := &iface{}
	var err error
	if i.link, err = s.pinnedLink(ifindex); err != nil {
		return nil, err
	}
	if i.xsks, err = s.pins.openMap(ifaceName(ifindex, objectMapXsks), spec.Maps[objectMapXsks]); err == nil {
		i.counts, err = s.pins.openMap(ifaceName(ifindex, objectMapCounts), spec.Maps[objectMapCounts])
	}
	if err != nil {
		return nil, errors.Join(err, i.close())
	}
	return i, nil
}

// pinnedLink opens the pinned link of an interface. A link whose interface is
// gone, or that is not the one that runs on the interface, is unpinned with
// all that belongs to it. The link is nil when there is none.
func (s *Steer) pinnedLink(ifindex int) (link.Link, error) {
	path := s.pins.path(ifaceName(ifindex, linkPin))
	if path == "" {
		return nil, nil
	}
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link %s: %w", path, err)
	}
	alive, err := runsOn(l, ifindex)
	if err == nil && alive {
		return l, nil
	}
	l.Close()
	if err != nil {
		return nil, err
	}
	return nil, s.pins.removeIface(ifindex)
}

// runsOn reports whether l is what runs on the interface of that number in this
// network namespace.
func runsOn(l link.Link, ifindex int) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	if x := info.XDP(); x == nil || int(x.Ifindex) != ifindex {
		return false, nil
	}
	_, id, err := running(ifindex)
	return err == nil && id == uint32(info.Program), err
}

// running says in which mode an XDP program runs on an interface, and which;
// the mode is "" when there is none.
func running(ifindex int) (Mode, uint32, error) {
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return "", 0, err
	}
	x := device.Attrs().Xdp
	if x == nil || !x.Attached {
		return "", 0, nil
	}
	if x.AttachMode == nl.XDP_ATTACHED_SKB {
		return ModeGeneric, x.ProgId, nil
	}
	return ModeNative, x.ProgId, nil
}

// run gets a new program running on the interface: by replacing the one of
// i.link, or by a new link.
func (s *Steer) run(i *iface, device netlink.Link, spec *ebpf.CollectionSpec, mode Mode) error {
	if i.link != nil {
		alive, err := runsOn(i.link, i.attached.IfIndex)
		if err != nil {
			return err
		}
		if !alive {
			if err := s.unlink(i); err != nil {
				return err
			}
		}
	}
	if i.link != nil {
		now, _, err := running(i.attached.IfIndex)
		if err != nil {
			return err
		}
		if mode == ModeAuto || mode == now {
			i.attached.Mode, i.attached.Adopted = now, true
			if now == ModeGeneric && mode == ModeAuto {
				i.attached.Reason = "an earlier process attached it in generic mode"
			}
			return s.withFrags(i, device, spec, func(p *ebpf.Program) error { return i.link.Update(p) })
		}
		if err := s.unlink(i); err != nil {
			return err
		}
	}
	return s.attach(i, device, spec, mode)
}

// unlink takes the program off the interface.
func (s *Steer) unlink(i *iface) error {
	if path := s.pins.path(ifaceName(i.attached.IfIndex, linkPin)); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unpin: %w", err)
		}
	}
	err := errors.Join(i.link.Detach(), i.link.Close())
	i.link = nil
	return err
}

// attach makes a new link, and pins it.
func (s *Steer) attach(i *iface, device netlink.Link, spec *ebpf.CollectionSpec, mode Mode) error {
	native := func(p *ebpf.Program) error { return i.newLink(p, link.XDPDriverMode) }
	generic := func(p *ebpf.Program) error { return i.newLink(p, link.XDPGenericMode) }

	var err error
	if mode != ModeGeneric {
		i.attached.Mode = ModeNative
		err = s.withFrags(i, device, spec, native)
	}
	if mode == ModeAuto && err != nil && driverCannot(err) {
		i.attached.Reason = err.Error()
		mode = ModeGeneric
	}
	if mode == ModeGeneric {
		i.attached.Mode = ModeGeneric
		err = s.load(i, spec, false, generic)
	}
	if err != nil {
		return err
	}
	if path := s.pins.path(ifaceName(i.attached.IfIndex, linkPin)); path != "" {
		if err := i.link.Pin(path); err != nil {
			return fmt.Errorf("pin link at %s: %w", path, err)
		}
	}
	return nil
}

func (i *iface) newLink(p *ebpf.Program, flags link.XDPAttachFlags) error {
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: i.attached.IfIndex, Flags: flags})
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		_, id, _ := running(i.attached.IfIndex)
		return fmt.Errorf("%w (program %d): detach it first (ip link set dev %s xdp off, or remove its link)", ErrInUse, id, i.attached.Name)
	}
	if err != nil {
		return refusal(flags, err)
	}
	i.link = l
	return nil
}

// refusal says what the kernel's answer means for the operator.
func refusal(flags link.XDPAttachFlags, err error) error {
	mode := ModeNative
	if flags == link.XDPGenericMode {
		mode = ModeGeneric
	}
	hint := ""
	switch {
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

// withFrags loads the program and gets it running by start; when a driver
// refuses because frames may be larger than one buffer, it tries a program that
// accepts frames in several. Drivers say ERANGE, EINVAL or EOPNOTSUPP to that.
func (s *Steer) withFrags(i *iface, device netlink.Link, spec *ebpf.CollectionSpec, start func(*ebpf.Program) error) error {
	err := s.load(i, spec, false, start)
	mtu := device.Attrs().MTU
	large := errors.Is(err, unix.ERANGE) ||
		mtu > 1500 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP))
	if err == nil || !large {
		return err
	}
	if second := s.load(i, spec, true, start); second != nil {
		return fmt.Errorf("with MTU %d: %w (accepting frames in several buffers: %w)", mtu, err, second)
	}
	i.attached.Frags = true
	i.attached.Reason = fmt.Sprintf("MTU %d needs a program that accepts frames in several buffers: larger ones are dropped and counted as oversize", mtu)
	return nil
}

// load loads the program and calls start with it; the program stays i's if
// that succeeds.
func (s *Steer) load(i *iface, spec *ebpf.CollectionSpec, frags bool, start func(*ebpf.Program) error) error {
	spec = spec.Copy()
	if frags {
		spec.Programs[objectProgSteer].Flags |= unix.BPF_F_XDP_HAS_FRAGS
		if err := spec.Variables[objectVarFrags].Set(uint32(1)); err != nil {
			return fmt.Errorf("load program: %w", err)
		}
	}
	if err := s.memo.configure(spec, &i.attached); err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	if err := s.admissions.configure(spec, i.attached.IfIndex); err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	maps := map[string]*ebpf.Map{
		objectMapLocals: s.shared.locals,
		objectMapDenied: s.shared.denied,
		objectMapConfig: s.shared.config,
		objectMapXsks:   i.xsks,
		objectMapCounts: i.counts,

		objectMapAdmissions: s.admissions.accounts,
	}
	s.memo.replace(maps)
	var progs objectPrograms
	err := spec.LoadAndAssign(&progs, &ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	if err := start(progs.Steer); err != nil {
		progs.Close()
		return err
	}
	if i.prog != nil {
		i.prog.Close()
	}
	i.prog = progs.Steer
	return nil
}

// Detach takes the program off an interface and forgets its counters: all its
// frames go to the host.
func (s *Steer) Detach(ifindex int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.detach(ifindex)
}

func (s *Steer) detach(ifindex int) error {
	i, ok := s.ifaces[ifindex]
	if !ok {
		return fmt.Errorf("detach interface %d: %w", ifindex, ErrNotAttached)
	}
	delete(s.ifaces, ifindex)
	s.memo.expel(ifindex)
	delete(s.admissions.places, ifindex)
	err := errors.Join(s.unlink(i), i.close(), s.pins.removeIface(ifindex))
	if err != nil {
		return fmt.Errorf("detach from %s: %w", i.attached.Name, err)
	}
	return nil
}

// DetachStale takes off the programs that an earlier process pinned on
// interfaces that have not been attached since Open, and returns the numbers of
// those interfaces.
func (s *Steer) DetachStale() ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	pinned, err := s.pins.ifaces()
	if err != nil {
		return nil, err
	}
	var stale []int
	var errs []error
	for _, ifindex := range pinned {
		if _, ok := s.ifaces[ifindex]; ok {
			continue
		}
		stale = append(stale, ifindex)
		errs = append(errs, s.pins.removeIface(ifindex))
	}
	return stale, errors.Join(errs...)
}
