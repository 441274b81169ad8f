package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 keeps named namespaces: `ip netns exec` finds
// the hosts of a lab by name.
const namespaceDir = "/run/netns"

// Host is one network namespace. Only the network is its own: files, BPF pins
// and process numbers are shared with the caller.
type Host struct {
	// Name is what the lab calls the host, for example "client".
	Name string
	// Namespace is the name under which `ip netns exec` knows it.
	Namespace string

	lab  *Lab
	ns   netns.NsHandle
	id   namespaceID
	link *netlink.Handle

	mu        sync.Mutex
	processes []*Process
}

// hostSysctls are set in every namespace before its first link exists, so that
// nothing appears on the wire that the test did not ask for: no duplicate
// address detection, no router solicitation, no redirects; and no reverse path
// filter, because direct server return is asymmetric by design.
var hostSysctls = []struct{ key, value string }{
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.default.rp_filter", "0"},
	{"net.ipv4.conf.all.send_redirects", "0"},
	{"net.ipv4.conf.default.send_redirects", "0"},
	{"net.ipv4.conf.all.accept_redirects", "0"},
	{"net.ipv4.conf.default.accept_redirects", "0"},
	{"net.ipv4.ip_forward", "0"},
	{"net.ipv6.conf.all.forwarding", "0"},
	{"net.ipv6.conf.default.accept_ra", "0"},
	{"net.ipv6.conf.default.accept_redirects", "0"},
	{"net.ipv6.conf.default.autoconf", "0"},
	{"net.ipv6.conf.default.accept_dad", "0"},
	{"net.ipv6.conf.default.dad_transmits", "0"},
	{"net.ipv6.conf.default.router_solicitations", "0"},
}

// AddHost makes a host with a loopback interface and nothing else.
func (l *Lab) AddHost(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the lab is closed")
	}
	for _, h := range l.hosts {
		if h.Name == name {
			return nil, fmt.Errorf("the lab already has a host %q", name)
		}
	}
	h := &Host{Name: name, Namespace: l.name + name, lab: l, ns: netns.None()}
	// Registered before it is complete, so that Close removes what there is.
	l.hosts = append(l.hosts, h)
	if err := h.create(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

func (h *Host) create() error {
	if err := h.createNamespace(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h.ns), &st); err != nil {
		return fmt.Errorf("identifying the namespace: %w", err)
	}
	h.id = namespaceID{dev: st.Dev, inode: st.Ino}
	link, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	h.link = link
	for _, s := range hostSysctls {
		if err := h.Sysctl(s.key, s.value); err != nil {
			return err
		}
	}
	lo, err := h.link.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := h.link.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return nil
}

// createNamespace leaves the calling thread in the namespace it came from.
func (h *Host) createNamespace() error {
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer before.Close()
	ns, err := netns.NewNamed(h.Namespace)
	if restore := netns.Set(before); restore != nil {
		// The thread stays locked: it must never run anything else.
		return errors.Join(err, fmt.Errorf("returning to the own namespace: %w", restore))
	}
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("making the namespace: %w", err)
	}
	h.ns = ns
	return nil
}

// Remove kills what runs on the host, as KillAll does, and removes it with its
// links before the lab is closed. The host is not to be used afterwards.
func (h *Host) Remove() error {
	l := h.lab
	l.mu.Lock()
	i := slices.Index(l.hosts, h)
	if l.closed || i < 0 {
		l.mu.Unlock()
		return nil // Close removes it, or it is removed already
	}
	l.hosts = slices.Delete(l.hosts, i, i+1)
	l.mu.Unlock()
	return errors.Join(killInside(h.id), h.stopProcesses(stopGrace), h.remove())
}

// remove deletes the namespace; the kernel removes its links with it.
func (h *Host) remove() error {
	if h.link != nil {
		h.link.Close()
	}
	if h.ns.IsOpen() {
		if err := h.ns.Close(); err != nil {
			return fmt.Errorf("host %s: closing the namespace: %w", h.Name, err)
		}
	}
	if err := removeNamespace(h.Namespace); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	return nil
}

// Do runs f in the host's namespace, on the calling goroutine with its thread
// locked. Sockets f makes belong to the namespace for ever, from whichever
// goroutine they are used; goroutines f starts run outside of it. Do may be
// nested, and f may leave by runtime.Goexit (as testing.T.Fatal does).
func (h *Host) Do(f func() error) (err error) {
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer before.Close()
	if err := netns.Set(h.ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering host %s: %w", h.Name, err)
	}
	defer func() {
		if restore := netns.Set(before); restore != nil {
			// The thread stays locked: it must never run anything else.
			err = errors.Join(err, fmt.Errorf("leaving host %s: %w", h.Name, restore))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Sysctl writes one kernel setting of the namespace, named as sysctl(8) does
// with dots between the parts. An interface whose own name contains a dot is
// written with a slash in its place.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error {
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0); err != nil {
			return fmt.Errorf("host %s: sysctl %s=%s: %w", h.Name, key, value, err)
		}
		return nil
	})
}

// ReadSysctl returns one kernel setting of the namespace.
func (h *Host) ReadSysctl(key string) (value string, err error) {
	err = h.Do(func() error {
		data, err := os.ReadFile(sysctlPath(key))
		if err != nil {
			return fmt.Errorf("host %s: sysctl %s: %w", h.Name, key, err)
		}
		value = strings.TrimSpace(string(data))
		return nil
	})
	return value, err
}

// sysctlPath swaps dots and slashes, as sysctl(8) does.
func sysctlPath(key string) string {
	swapped := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
	return filepath.Join("/proc/sys", swapped)
}

// Netlink is a route netlink socket in the namespace, for what the lab has no
// method of its own for. It is closed with the lab.
func (h *Host) Netlink() *netlink.Handle { return h.link }

// Lab returns the lab the host belongs to.
func (h *Host) Lab() *Lab { return h.lab }

// Dial connects from the host; address must not need name resolution.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialWith(ctx, &net.Dialer{}, network, address)
}

// DialFrom connects from one address and port (0: the kernel picks it) of the host.
func (h *Host) DialFrom(ctx context.Context, local netip.AddrPort, network, address string) (net.Conn, error) {
	d := &net.Dialer{}
	switch network {
	case "tcp", "tcp4", "tcp6":
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	case "udp", "udp4", "udp6":
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	default:
		return nil, fmt.Errorf("host %s: dialling from an address over %q", h.Name, network)
	}
	return h.DialWith(ctx, d, network, address)
}

// DialWith connects from the host with the caller's settings.
func (h *Host) DialWith(ctx context.Context, d *net.Dialer, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a stream listener on the host. Multipath TCP is off, so that
// what is on the wire is plain TCP. The caller closes it.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false)
	err = h.Do(func() error {
		ln, err = cfg.Listen(context.Background(), network, address)
		return err
	})
	return ln, err
}

// ListenPacket opens a datagram socket on the host. The caller closes it.
func (h *Host) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	err = h.Do(func() error {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}
