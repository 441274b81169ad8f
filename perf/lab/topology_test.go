package lab

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var topologies = []struct {
	name  string
	build func(Config) (*Topology, error)
	cfg   Config
}{
	{"one arm", OneArm, Config{Backends: 2}},
	{"one arm, four queues", OneArm, Config{Backends: 1, Queues: 4}},
	{"two arms", TwoArm, Config{Backends: 2, MTU: 3000}},
	{"two arms, router", TwoArm, Config{Backends: 2, Router: true}},
}

func newTopology(t *testing.T, build func(Config) (*Topology, error), cfg Config) *Topology {
	t.Helper()
	topo, err := build(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, topo)
	return topo
}

// Everybody reaches everybody who should be reached, over both families, with
// no load balancer: real TCP, so that checksums and routes both ways are right.
func TestTopologiesConnect(t *testing.T) {
	for _, tc := range topologies {
		t.Run(tc.name, func(t *testing.T) {
			topo := newTopology(t, tc.build, tc.cfg)
			ctx := testContext(t)
			check := func(from, to *Host, addrs ...netip.Addr) {
				t.Helper()
				for _, a := range addrs {
					if err := roundTrip(ctx, from, to, a); err != nil {
						t.Errorf("%s to %s at %s: %v", from.Name, to.Name, a, err)
					}
				}
			}
			check(topo.Client.Host, topo.LB, topo.Front.IPv4, topo.Front.IPv6)
			check(topo.LB, topo.Client.Host, topo.Client.IPv4, topo.Client.IPv6)
			for _, b := range topo.Backends {
				check(topo.LB, b.Host, b.IPv4, b.IPv6)
				check(topo.Client.Host, b.Host, b.IPv4, b.IPv6)
			}
		})
	}
}

// Virtual addresses arrive at the load balancer, routed and on-link: proved by
// giving them to the load balancer's host itself.
func TestVirtualAddressesLeadToTheLoadBalancer(t *testing.T) {
	for _, tc := range topologies {
		t.Run(tc.name, func(t *testing.T) {
			topo := newTopology(t, tc.build, tc.cfg)
			ctx := testContext(t)
			vips := []netip.Addr{topo.VIP4(1), topo.VIP6(1), topo.OnLinkVIP4(1), topo.OnLinkVIP6(1)}
			for _, a := range vips {
				if err := topo.Front.Interface.AddAddress(netip.PrefixFrom(a, a.BitLen())); err != nil {
					t.Fatal(err)
				}
				if err := roundTrip(ctx, topo.Client.Host, topo.LB, a); err != nil {
					t.Errorf("%s: %v", a, err)
				}
			}
		})
	}
}

// A backend that owns a virtual address quietly is not found by ARP.
func TestQuietAddressesAreNotAnnounced(t *testing.T) {
	topo := newTopology(t, OneArm, Config{Backends: 1})
	b := topo.Backends[0]
	vip := topo.OnLinkVIP4(1)
	if err := b.OwnQuietly(vip, topo.OnLinkVIP6(1)); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	// It does own it ...
	if err := roundTrip(ctx, b.Host, b.Host, vip); err != nil {
		t.Errorf("on the backend itself: %v", err)
	}
	// ... but the client's question stays without an answer: the kernel gives
	// up after three of them.
	_, err := topo.Client.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 7000).String())
	if err == nil || !strings.HasSuffix(err.Error(), unix.EHOSTUNREACH.Error()) {
		t.Errorf("dialling: %v, want %v", err, unix.EHOSTUNREACH)
	}
}

func TestAddressPlan(t *testing.T) {
	topo := newTopology(t, TwoArm, Config{Backends: 1, Router: true})
	for _, c := range []struct {
		name string
		got  netip.Addr
		want string
	}{
		{"client", topo.Client.IPv4, "198.18.20.2"},
		{"client", topo.Client.IPv6, "2001:db8:20::2"},
		{"front", topo.Front.IPv4, "198.18.0.1"},
		{"front", topo.Front.IPv6, "2001:db8::1"},
		{"gateway", topo.Front.Gateway4, "198.18.0.254"},
		{"gateway", topo.Front.Gateway6, "2001:db8::fe"},
		{"back", topo.Back.IPv4, "198.18.10.1"},
		{"back", topo.Back.IPv6, "2001:db8:10::1"},
		{"b1", topo.Backends[0].IPv4, "198.18.10.11"},
		{"b1", topo.Backends[0].IPv6, "2001:db8:10::b"},
		{"vip", topo.VIP4(1), "198.18.100.1"},
		{"vip", topo.VIP6(1), "2001:db8:100::1"},
		{"on-link vip", topo.OnLinkVIP4(1), "198.18.0.101"},
		{"on-link vip", topo.OnLinkVIP6(1), "2001:db8::65"},
		{"snat", topo.SNAT4(1), "198.18.10.201"},
		{"snat", topo.SNAT6(1), "2001:db8:10::c9"},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestImpossibleTopologies(t *testing.T) {
	for _, c := range []struct {
		build func(Config) (*Topology, error)
		cfg   Config
		want  string
	}{
		{OneArm, Config{Backends: 90}, "90 backends: there can be 1 to 89"},
		{TwoArm, Config{Backends: -1}, "-1 backends: there can be 1 to 89"},
		{OneArm, Config{Router: true}, "a one-arm topology has no router"},
	} {
		if _, err := c.build(c.cfg); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// Cutting a cable and mending it: carrier is lost and comes back.
func TestInterfaceDownAndUp(t *testing.T) {
	l := newLab(t)
	a, b := addHost(t, l, "a"), addHost(t, l, "b")
	aEnd, bEnd, err := l.Cable(a, "eth0", b, "eth0", LinkConfig{Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := aEnd.SetDown(); err != nil {
		t.Fatal(err)
	}
	err = waitFor("carrier is lost", 5*time.Second, func() (bool, error) {
		link, err := bEnd.link()
		return err == nil && link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := aEnd.SetUp(); err != nil {
		t.Fatal(err)
	}
	if err := bEnd.waitUp(); err != nil {
		t.Error(err)
	}
	if err := aEnd.SetMTU(1280); err != nil {
		t.Error(err)
	}
	if err := aEnd.SetQueues(1, 1); err != nil {
		t.Error(err)
	}
	err = aEnd.SetQueues(3, 1)
	if want := "host a: interface eth0: 3 rx and 1 tx queues: " + unix.EINVAL.Error(); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	err = aEnd.SetFeatures(true, "tx-telepathy")
	if want := `host a: interface eth0: the kernel knows no feature "tx-telepathy"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	if err := aEnd.Delete(); err != nil {
		t.Error(err)
	}
	if _, err := bEnd.link(); err == nil || err.Error() != "host b: interface eth0: Link not found" {
		t.Errorf("the other end: %v", err)
	}
}

// Frames pass whole: VLAN tags, one or two, are what was sent, and a host does
// not see its own frames.
func TestPacketConnKeepsTags(t *testing.T) {
	l := newLab(t)
	a, b := addHost(t, l, "a"), addHost(t, l, "b")
	aEnd, bEnd, err := l.Cable(a, "eth0", b, "eth0", LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(h *Host) *PacketConn {
		c, err := h.PacketConn("eth0")
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, c)
		return c
	}
	from, to := open(a), open(b)
	header := string(bEnd.MAC) + string(aEnd.MAC)
	// 0x88b5 is the EtherType for local experiments.
	payload := "\x88\xb5" + strings.Repeat("payload ", 10)
	frames := []string{
		header + payload,
		header + "\x81\x00\x20\x05" + payload,
		header + "\x88\xa8\x00\x64" + "\x81\x00\x0f\xfe" + payload,
	}
	for _, f := range frames {
		if err := from.WriteFrame([]byte(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(frames); {
		got, err := to.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(got), header) {
			continue // the kernel's own multicast
		}
		if string(got) != frames[i] {
			t.Errorf("frame %d:\n% x, want\n% x", i, got, frames[i])
		}
		i++
	}
	if err := from.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := from.ReadFrame()
		if err == nil && !strings.HasPrefix(string(got), header) {
			continue
		}
		if !os.IsTimeout(err) {
			t.Errorf("the sender read % x, %v", got, err)
		}
		return
	}
}

// The queues of a link share the flows, also through a switch, as an XDP
// program in native mode sees them.
func TestQueuesShareFlows(t *testing.T) {
	topo := newTopology(t, OneArm, Config{Backends: 1, Queues: 4})
	ctx := testContext(t)
	b := topo.Backends[0]
	count := countByQueue(t, b.Interface, 4)
	conn, err := b.ListenPacket("udp", netip.AddrPortFrom(b.IPv4, 7000).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for port := range 64 {
		local := netip.AddrPortFrom(topo.Client.IPv4, uint16(20000+port))
		out, err := topo.Client.DialFrom(ctx, local, "udp", conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		out.Close()
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	for n := range 64 {
		if _, _, err := conn.ReadFrom(buf); err != nil {
			t.Fatalf("after %d datagrams: %v", n, err)
		}
	}
	used := 0
	for _, n := range count() {
		if n > 0 {
			used++
		}
	}
	if used < 3 {
		t.Errorf("64 flows used %d of 4 queues: %v", used, count())
	}
}
