package l2announce

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// port is one of our interfaces as it is now.
type port struct {
	Name    string
	index   int // the kernel's number; 0: there is no such interface
	mac     [6]byte
	up      bool // it carries frames
	subnets []netip.Prefix
}

// sees reports whether what was announced on a port before is still known on
// the segment that it is at now.
func (p *port) sees(before *port) bool {
	return p.index == before.index && p.mac == before.mac && (before.up || !p.up)
}

// place is where an address is announced: indexes into ports.
func place(where Place, ports []port, a Address) (at []int) {
	if where != All {
		for i := range ports {
			if slices.ContainsFunc(ports[i].subnets, func(p netip.Prefix) bool { return p.Contains(a.Addr) }) {
				at = append(at, i)
			}
		}
		if len(at) > 0 || where == OnLink || a.Routed {
			return at
		}
	}
	for i := range ports {
		at = append(at, i)
	}
	return at
}

// links reads interfaces and hears of their changes.
type links struct {
	wanted []Interface
	handle *netlink.Handle
	ns     *netns.NsHandle // where threads are sent for their sockets; nil: they are all there
	log    *slog.Logger
	stop   chan struct{}
	ended  sync.WaitGroup
}

// subscribeAgain is how long to wait before changes are subscribed to again.
const subscribeAgain = time.Second

// watchLinks begins to watch interfaces in the network namespace of the calling
// thread. changed is called, from several goroutines, when any may be another.
func watchLinks(wanted []Interface, log *slog.Logger, changed func()) (*links, error) {
	l := &links{wanted: wanted, log: log, stop: make(chan struct{})}
	several, err := severalNamespaces()
	if err != nil {
		return nil, err
	}
	if several {
		ns, err := netns.Get()
		if err != nil {
			return nil, fmt.Errorf("own network namespace: %w", err)
		}
		l.ns = &ns
	}
	if l.handle, err = l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink socket: %w", err), l.leave())
	}
	l.ended.Go(func() { l.subscribe(changed) })
	return l, nil
}

func (l *links) close() error {
	close(l.stop)
	l.ended.Wait()
	l.handle.Close()
	return l.leave()
}

func (l *links) open() (*netlink.Handle, error) {
	if l.ns == nil {
		return netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	return netlink.NewHandleAt(*l.ns, unix.NETLINK_ROUTE)
}

func (l *links) leave() error {
	if l.ns == nil {
		return nil
	}
	return l.ns.Close()
}

// severalNamespaces reports whether threads of this process may be in several
// network namespaces. Without CAP_SYS_ADMIN none can have left that of the
// others (setns(2)), and none could be sent there.
func severalNamespaces() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("own capabilities: %w", err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0, nil
}

// subscribe hears of changed links and addresses until close. A subscription
// that ends, because notifications were lost, is begun anew; what was missed is
// read then.
func (l *links) subscribe(changed func()) {
	for {
		done := make(chan struct{})
		linkUpdates, addrUpdates := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
		failed := func(err error) { l.log.Debug("changes of interfaces", "error", err) }
		err := netlink.LinkSubscribeWithOptions(linkUpdates, done, netlink.LinkSubscribeOptions{Namespace: l.ns, ErrorCallback: failed})
		if err != nil {
			close(linkUpdates)
		}
		if more := netlink.AddrSubscribeWithOptions(addrUpdates, done, netlink.AddrSubscribeOptions{Namespace: l.ns, ErrorCallback: failed}); more != nil {
			close(addrUpdates)
			err = errors.Join(err, more)
		}
		if err != nil {
			l.log.Warn("changes of interfaces cannot be subscribed to; it is tried again", "error", err, "again_in", subscribeAgain)
		}
		changed()
		stopped := l.pass(linkUpdates, addrUpdates, changed)
		close(done)
		drain(linkUpdates)
		drain(addrUpdates)
		if stopped {
			return
		}
		select {
		case <-l.stop:
			return
		case <-time.After(subscribeAgain):
		}
	}
}

// pass passes changes on until one of the subscriptions ends, or close.
func (l *links) pass(linkUpdates chan netlink.LinkUpdate, addrUpdates chan netlink.AddrUpdate, changed func()) (stopped bool) {
	for {
		ok := false
		select {
		case <-l.stop:
			return true
		case _, ok = <-linkUpdates:
		case _, ok = <-addrUpdates:
		}
		if !ok {
			return false
		}
		changed()
	}
}

// drain takes what a subscription still has until it ends.
func drain[T any](updates chan T) {
	for range updates {
	}
}

// read reads our interfaces as they are now, in the order they were given. One
// that is not there has number 0.
func (l *links) read() ([]port, error) {
	ports := make([]port, len(l.wanted))
	for i, w := range l.wanted {
		ports[i] = port{Name: w.Name}
		link, err := l.handle.LinkByName(w.Name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", w.Name, err)
		}
		if err := l.describe(&ports[i], &w, link); err != nil {
			return nil, fmt.Errorf("interface %s: %w", w.Name, err)
		}
	}
	return ports, nil
}

func (l *links) describe(p *port, w *Interface, link netlink.Link) error {
	attrs := link.Attrs()
	if len(attrs.HardwareAddr) != len(p.mac) {
		return nil // no Ethernet: nothing can be announced on it
	}
	p.index, p.mac = attrs.Index, w.MAC
	if p.mac == [6]byte{} {
		p.mac = [6]byte(attrs.HardwareAddr)
	}
	p.up = attrs.Flags&net.FlagUp != 0 && attrs.OperState != netlink.OperDown && attrs.OperState != netlink.OperLowerLayerDown
	addrs, err := l.handle.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ip = ip.Unmap(); !ok || ip.IsLinkLocalUnicast() || ones == ip.BitLen() {
			continue
		}
		if subnet, err := ip.Prefix(ones); err == nil {
			p.subnets = append(p.subnets, subnet)
		}
	}
	return nil
}
