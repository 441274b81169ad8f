// Package xdptest makes what a test of real AF_XDP sockets needs: a network
// namespace with veth pairs, a native XDP program on each near end that
// redirects every frame to the sockets, and packet sockets on the far ends
// that play the network. It needs root, and fails without.
package xdptest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"fairlead/xdp/ethtool"
)

// EtherType marks the frames of tests (IEEE Std 802, local experimental
// EtherType 1), so that nothing else that a host sends is taken for one.
const EtherType = 0x88b5

// MTU of the links: frames of up to MTU+14 bytes pass.
const MTU = 1500

// Lab is a network namespace with veth pairs.
type Lab struct {
	ns    netns.NsHandle
	nl    *netlink.Handle
	links []*Link
}

// Link is one veth pair: the near end has the XDP program, the far end is the
// network.
type Link struct {
	Name, Peer string
	Index      int // of the near end

	queues  int
	sockets *ebpf.Map
	program *ebpf.Program
	attach  link.Link
	packet  int // packet socket on the far end
}

// New makes a lab of that many links with that many queues each; it is taken
// down when the test ends.
func New(t testing.TB, links, queues int) *Lab {
	t.Helper()
	l := &Lab{}
	err := onThread(func() error {
		var err error
		if l.ns, err = netns.New(); err != nil {
			return fmt.Errorf("new network namespace (root is needed): %w", err)
		}
		if l.nl, err = netlink.NewHandleAt(l.ns); err != nil {
			return err
		}
		// Neighbour discovery would disturb frame counts.
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	})
	t.Cleanup(func() { l.close() })
	if err != nil {
		t.Fatal(err)
	}
	for i := range links {
		l.links = append(l.links, &Link{Name: fmt.Sprintf("near%d", i), Peer: fmt.Sprintf("far%d", i), queues: queues, packet: -1})
		l.Add(t, i)
	}
	return l
}

// Link is the link of a port.
func (l *Lab) Link(port int) *Link { return l.links[port] }

// Do runs f on a thread inside the lab's namespace and waits for it; the test
// fails when f does. It must be called by the test's goroutine.
func (l *Lab) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := l.Run(f); err != nil {
		t.Fatal(err)
	}
}

// Run is Do for any goroutine: it returns f's error.
func (l *Lab) Run(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(l.ns); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, so that its namespace leaks
// nowhere.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Add makes a port's veth pair (again, after Remove), sets it up and attaches
// the program.
func (l *Lab) Add(t testing.TB, port int) {
	t.Helper()
	k := l.links[port]
	l.Do(t, func() error { return l.add(k) })
}

func (l *Lab) add(k *Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = k.Name, MTU
	attrs.NumRxQueues, attrs.NumTxQueues = k.queues, k.queues
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: k.Peer, PeerNumRxQueues: uint32(k.queues), PeerNumTxQueues: uint32(k.queues)}
	if err := l.nl.LinkAdd(pair); err != nil {
		return fmt.Errorf("add veth pair %s: %w", k.Name, err)
	}
	for _, name := range []string{k.Name, k.Peer} {
		end, err := l.nl.LinkByName(name)
		if err != nil {
			return err
		}
		if err := ethtool.SetTxChecksumOffload(name, false); err != nil {
			return err
		}
		if err := ethtool.SetChannels(name, k.queues, k.queues); err != nil {
			return err
		}
		if err := l.nl.LinkSetUp(end); err != nil {
			return err
		}
		if name == k.Name {
			k.Index = end.Attrs().Index
		}
	}
	if err := k.attachProgram(); err != nil {
		return err
	}
	var err error
	k.packet, err = openPacketSocket(k.Peer)
	return err
}

// redirector makes a map of sockets by queue and a program that redirects every
// frame to the socket of its queue, and passes it on where there is none.
func redirector(queues int) (*ebpf.Map, *ebpf.Program, error) {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		return nil, nil, fmt.Errorf("make map of sockets: %w", err)
	}
	const rxQueueIndex, pass = 16, 2 // offset in struct xdp_md; XDP_PASS
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Imm(asm.R3, pass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}})
	if err != nil {
		sockets.Close()
		return nil, nil, fmt.Errorf("load redirecting program: %w", err)
	}
	return sockets, program, nil
}

func (k *Link) attachProgram() (err error) {
	if k.sockets, k.program, err = redirector(k.queues); err != nil {
		return err
	}
	k.attach, err = link.AttachXDP(link.XDPOptions{Program: k.program, Interface: k.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("attach native XDP program to %s: %w", k.Name, err)
	}
	return nil
}

// Redirect sends what arrives at a port's queue to the socket fd.
func (l *Lab) Redirect(t testing.TB, port, queue, fd int) {
	t.Helper()
	if err := l.links[port].sockets.Put(uint32(queue), uint32(fd)); err != nil {
		t.Fatalf("redirect %s queue %d: %v", l.links[port].Name, queue, err)
	}
}

// SetUp sets the near end of a port up or down.
func (l *Lab) SetUp(t testing.TB, port int, up bool) {
	t.Helper()
	near, err := l.nl.LinkByName(l.links[port].Name)
	if err == nil && up {
		err = l.nl.LinkSetUp(near)
	} else if err == nil {
		err = l.nl.LinkSetDown(near)
	}
	if err != nil {
		t.Fatalf("set %s up=%v: %v", l.links[port].Name, up, err)
	}
}

// SetQueues changes the number of queues in use at both ends of a port, at
// most as many as the lab was made with.
func (l *Lab) SetQueues(t testing.TB, port, queues int) {
	t.Helper()
	k := l.links[port]
	l.Do(t, func() error {
		// The far end must never send to a queue the near end has not got.
		ends := []string{k.Peer, k.Name}
		if c, err := ethtool.GetChannels(k.Name); err != nil {
			return err
		} else if c.RX < queues {
			ends = []string{k.Name, k.Peer}
		}
		for _, name := range ends {
			if err := ethtool.SetChannels(name, queues, queues); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove deletes a port's veth pair, as if the card were pulled.
func (l *Lab) Remove(t testing.TB, port int) {
	t.Helper()
	if err := l.links[port].remove(l.nl); err != nil {
		t.Fatal(err)
	}
}

func (k *Link) remove(nl *netlink.Handle) error {
	near, err := nl.LinkByName(k.Name)
	if err == nil {
		err = nl.LinkDel(near)
	}
	return errors.Join(err, k.close())
}

func (k *Link) close() (err error) {
	if k.packet >= 0 {
		err = unix.Close(k.packet)
		k.packet = -1
	}
	if k.attach != nil {
		err = errors.Join(err, k.attach.Close())
		k.attach = nil
	}
	if k.program != nil {
		err = errors.Join(err, k.program.Close(), k.sockets.Close())
		k.program = nil
	}
	return err
}

// close takes everything down; the namespace and its links go with the last
// reference.
func (l *Lab) close() {
	for _, k := range l.links {
		k.close()
	}
	if l.nl != nil {
		l.nl.Close()
	}
	if l.ns.IsOpen() {
		l.ns.Close()
	}
}
