package neighbor

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// newLab is a lab for tests of the inside of the package.
func newLab(t testing.TB, cfg lab.Config) *lab.Topology {
	t.Helper()
	topo, err := lab.TwoArm(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	return topo
}

// dialIn opens a connection to the kernel in a host's namespace.
func dialIn(t testing.TB, h *lab.Host) (c *conn) {
	t.Helper()
	err := h.Do(func() (err error) {
		c, err = dial()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

// TestTablesAgainstNetlink reads links, neighbours and routes and compares them
// with what another implementation of the protocol reads.
func TestTablesAgainstNetlink(t *testing.T) {
	topo := newLab(t, lab.Config{Backends: 3})
	nl, c, back := topo.LB.Netlink(), dialIn(t, topo.LB), topo.Back.Interface.Index
	for i, b := range topo.Backends {
		for _, n := range []netlink.Neigh{
			{IP: b.IPv4.AsSlice(), State: netlink.NUD_PERMANENT, HardwareAddr: b.Interface.MAC},
			{IP: b.IPv6.AsSlice(), State: netlink.NUD_STALE, HardwareAddr: b.Interface.MAC},
		} {
			n.LinkIndex = back
			if err := nl.NeighSet(&n); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range []netlink.Route{
			{Dst: cidr(fmt.Sprintf("192.0.2.%d/28", i<<4)).IPNet, Gw: b.IPv4.AsSlice()},
			{Dst: cidr(fmt.Sprintf("2001:db8:fff%d::/48", i)).IPNet, Gw: b.IPv6.AsSlice(), LinkIndex: back},
			{Dst: cidr(fmt.Sprintf("203.0.113.%d/28", i<<4)).IPNet, Type: []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT}[i]},
		} {
			if err := nl.RouteAdd(&r); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The kernel enters the routes of an IPv6 address a little after the address.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if r, err := nl.RouteGet(topo.Back.IPv6.AsSlice()); err == nil && r[0].LinkIndex == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the load balancer's own address is not local")
		}
	}
	compareLinks(t, nl, c)
	compareEntries(t, nl, c)
	compareRoutes(t, nl, c)
}

// cidr is a prefix as netlink wants it.
func cidr(s string) *netlink.Addr {
	a, err := netlink.ParseAddr(s)
	if err != nil {
		panic(err)
	}
	return a
}

func compareLinks(t *testing.T, nl *netlink.Handle, c *conn) {
	t.Helper()
	want, err := nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var got []link
	if err := c.dump(putLinks, func() { got = nil }, func(m *message) {
		if l, ok := parseLink(m.body); ok {
			got = append(got, l)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(got) != 3 {
		t.Fatalf("%d links, want %d", len(got), len(want))
	}
	for i, w := range want {
		a, g := w.Attrs(), &got[i]
		if g.index != a.Index || g.name != a.Name || g.mtu != a.MTU || g.flags != a.RawFlags ||
			!g.ethernet || g.mac != [6]byte{} && !slices.Equal(g.mac[:], a.HardwareAddr) {
			t.Errorf("link %+v, want %+v", g, a)
		}
	}
}

func compareEntries(t *testing.T, nl *netlink.Handle, c *conn) {
	t.Helper()
	want, err := nl.NeighList(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[entryKey]entry{}
	if err := c.dump(putEntries, func() { clear(got) }, func(m *message) {
		if n, ok := parseEntry(m.body); ok {
			got[entryKey{n.index, n.addr}] = n
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(got) < 6 {
		t.Errorf("%d entries, want %d, and 6 or more", len(got), len(want))
	}
	for _, w := range want {
		a, _ := netip.AddrFromSlice(w.IP)
		g := got[entryKey{w.LinkIndex, a}]
		if int(g.state) != w.State || g.ethernet != (len(w.HardwareAddr) == 6) || g.ethernet && !slices.Equal(g.mac[:], w.HardwareAddr) {
			t.Errorf("entry %+v, want %+v", g, w)
		}
		one := readEntry(t, c, w.LinkIndex, a)
		if one != g {
			t.Errorf("alone, the entry is %+v, in the table %+v", one, g)
		}
	}
}

func readEntry(t *testing.T, c *conn, index int, a netip.Addr) (n entry) {
	t.Helper()
	err := c.batch(1, func(_ int, e *encoder) { putEntry(e, index, a) }, func(_ int, m *message) {
		if m.err() == nil {
			n, _ = parseEntry(m.body)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func compareRoutes(t *testing.T, nl *netlink.Handle, c *conn) {
	t.Helper()
	var targets []netip.Addr
	for i := range 100 {
		targets = append(targets, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}),
			netip.AddrFrom4([4]byte{198, 18, byte(i), 1}), netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", 0xfff0+i%4)),
			netip.MustParseAddr(fmt.Sprintf("2001:db8:10::%x", i)))
	}
	answered := 0
	err := c.batch(len(targets), func(i int, e *encoder) { putLookup(e, targets[i], 0) }, func(i int, m *message) {
		answered++
		got := parseRoute(m)
		want, err := nl.RouteGet(targets[i].AsSlice())
		if err != nil || got.err != nil {
			if fmt.Sprint(err) != fmt.Sprint(got.err) {
				t.Errorf("%s: %v, want %v", targets[i], got.err, err)
			}
			return
		}
		via, _ := netip.AddrFromSlice(want[0].Gw)
		local := want[0].Type != unix.RTN_UNICAST // its entry names the interface that has the address
		used := func(p path) bool {
			return (p.index == want[0].LinkIndex || local) && p.via == via.Unmap() && p.weight > 0
		}
		if !slices.ContainsFunc(got.paths, used) || int(got.kind) != want[0].Type {
			t.Errorf("%s: %+v, want %+v", targets[i], got, want[0])
		}
	})
	if err != nil || answered != len(targets) {
		t.Errorf("%d of %d questions answered: %v", answered, len(targets), err)
	}
}

// FuzzMessages asserts that nothing the kernel could send brings a parser down,
// and that what is taken out of a datagram lies in it.
func FuzzMessages(f *testing.F) {
	var e encoder
	for _, put := range []func(){
		func() { putLinks(&e) },
		func() { putManage(&e, 3, netip.MustParseAddr("192.0.2.1")) },
		func() { putRelease(&e, 3, netip.MustParseAddr("2001:db8::1")) },
		func() { putLookup(&e, netip.MustParseAddr("192.0.2.1"), 4) },
		func() { putProbe(&e, 3, netip.MustParseAddr("192.0.2.1")) },
	} {
		e.buf = nil
		put()
		f.Add(slices.Clone(e.buf))
	}
	f.Add([]byte{20, 0, 0, 0, unix.RTM_NEWROUTE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 99, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		total := 0
		for m := range messages(datagram) {
			total += unix.NLMSG_HDRLEN + len(m.body)
			parseLink(m.body)
			parseEntry(m.body)
			parseRoute(&m)
			if p, ok := parsePrefix(m.body); ok && p != p.Masked() {
				t.Errorf("prefix %v has bits beyond its length", p)
			}
			s := emptySet()
			s.notification(&m)
		}
		if total > len(datagram) {
			t.Errorf("%d bytes of messages in %d", total, len(datagram))
		}
	})
}

// TestEncoder asserts that what is written can be taken apart again.
func TestEncoder(t *testing.T) {
	var e encoder
	e.seq = 7
	putManage(&e, 3, netip.MustParseAddr("192.0.2.1"))
	first := len(e.buf)
	e.seq = 8
	putRelease(&e, 4, netip.MustParseAddr("2001:db8::1"))
	var seqs []uint32
	for m := range messages(e.buf) {
		seqs = append(seqs, m.seq)
		n, ok := parseEntry(m.body)
		want := entry{index: 3, addr: netip.MustParseAddr("192.0.2.1"), managed: true, protocol: ourProtocol}
		if m.seq == 8 {
			want = entry{index: 4, addr: netip.MustParseAddr("2001:db8::1"), protocol: unix.RTPROT_KERNEL}
		}
		if !ok || n != want || m.kind != unix.RTM_NEWNEIGH {
			t.Errorf("message %d: %+v, want %+v", m.seq, n, want)
		}
	}
	if !slices.Equal(seqs, []uint32{7, 8}) || first%4 != 0 {
		t.Errorf("messages %v, the second at byte %d", seqs, first)
	}
}
