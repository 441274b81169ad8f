package l2announce

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// patience is how long a test waits for what must happen.
const patience = 15 * time.Second

// rig is a lab on whose load balancer addresses are announced.
type rig struct {
	t *testing.T
	*lab.Topology
	*Announcer
	log logBuffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	topo, err := lab.TwoArm(lab.Config{Backends: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, Topology: topo}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// fast is a configuration for both arms that does not take long.
func (r *rig) fast() Config {
	return Config{
		Interfaces: []Interface{{Name: r.Front.Interface.Name}, {Name: r.Back.Interface.Name}},
		Place:      Auto, Repeat: 3, RepeatInterval: 20 * time.Millisecond, Rate: 1000,
	}
}

// start announces until the test ends.
func (r *rig) start(cfg Config) {
	r.t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.must(r.LB.Do(func() (err error) {
		r.Announcer, err = Start(r.t.Context(), cfg)
		return err
	}))
	r.t.Cleanup(func() {
		r.must(r.Announcer.Close())
		if r.t.Failed() {
			r.t.Logf("log:\n%s", r.log.String())
		}
	})
}

// own makes addresses those of the load balancer.
func (r *rig) own(addrs []netip.Addr) {
	var list []Address
	for _, a := range addrs {
		list = append(list, Address{Addr: a})
	}
	r.SetAddresses(list)
}

// until polls for a condition.
func (r *rig) until(what string, cond func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			status, counters := r.Status()
			r.t.Fatalf("not after %v: %s\nstatus: %+v %+v\nlog:\n%s", patience, what, status, counters, r.log.String())
		}
	}
}

// announced waits until an address was announced so many times.
func (r *rig) announced(a netip.Addr, times int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s announced %d times", a, times), func() bool {
		all, _ := r.Status()
		i := slices.IndexFunc(all, func(s AddressStatus) bool { return s.Address == a })
		return i >= 0 && all[i].Announced >= times
	})
}

// believes gives a host a wrong idea of where an address is.
func (r *rig) believes(n *lab.Node, a netip.Addr, mac [6]byte) {
	r.t.Helper()
	r.must(n.Netlink().NeighSet(&netlink.Neigh{LinkIndex: n.Interface.Index, IP: a.AsSlice(), HardwareAddr: mac[:], State: unix.NUD_STALE}))
}

// knows waits until a host has an address at a MAC address.
func (r *rig) knows(n *lab.Node, a netip.Addr, mac net.HardwareAddr) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s knows %s at %s", n.Name, a, mac), func() bool {
		all, err := n.Netlink().NeighList(n.Interface.Index, 0)
		r.must(err)
		for _, one := range all {
			if got, _ := netip.AddrFromSlice(one.IP); got.Unmap() == a && bytes.Equal(one.HardwareAddr, mac) {
				return true
			}
		}
		return false
	})
}

// tap is a host's cable. Frames are read until somebody ends it.
func (r *rig) tap(n *lab.Node) *lab.PacketConn {
	r.t.Helper()
	c, err := n.PacketConn(n.Interface.Name)
	r.must(err)
	r.t.Cleanup(func() { c.Close() })
	return c
}

// tally is what a host was told of an address.
type tally struct{ claims, probes int }

// told reads a cable until a sign was announced so many times, and counts what
// was told of every address until then.
func (r *rig) told(c *lab.PacketConn, mac net.HardwareAddr, sign netip.Addr, times int) map[netip.Addr]tally {
	r.t.Helper()
	r.must(c.SetReadDeadline(time.Now().Add(patience)))
	all := make(map[netip.Addr]tally)
	for all[sign].claims < times {
		frame, err := c.ReadFrame()
		if err != nil {
			r.t.Fatalf("%s was announced %d times: %v", sign, all[sign].claims, err)
		}
		from := net.HardwareAddr(frame[6:12])
		if one, ok := claimIn(frame); ok && bytes.Equal(from, mac) {
			if !bytes.Equal(one.mac[:], mac) {
				r.t.Errorf("%s is announced at %x, want %s", one.addr, one.mac, mac)
			}
			all[one.addr] = tally{all[one.addr].claims + 1, all[one.addr].probes}
		}
		status, _ := r.Status()
		for _, s := range status {
			if bytes.Equal(frame, probe(s.Address, [6]byte(mac))) {
				all[s.Address] = tally{all[s.Address].claims, all[s.Address].probes + 1}
			}
		}
	}
	return all
}

// TestAnnounce has neighbours with wrong ideas learn where addresses are, on
// the segment that they are in, so many times and not more.
func TestAnnounce(t *testing.T) {
	r := newRig(t)
	near4, near6, far4, far6 := r.OnLinkVIP4(1), r.OnLinkVIP6(1), r.VIP4(1), r.VIP6(1)
	for _, a := range []netip.Addr{near4, near6} {
		r.believes(r.Client, a, other)
	}
	front, back := r.tap(r.Client), r.tap(r.Backends[0])
	r.start(r.fast())
	r.own([]netip.Addr{near4, near6, near4})
	r.SetActive(true)
	for _, a := range []netip.Addr{near4, near6} {
		r.announced(a, 3)
		r.knows(r.Client, a, r.Front.Interface.MAC)
	}
	r.own([]netip.Addr{near4, near6, far4, far6})
	want := map[netip.Addr]tally{near4: {6, 0}, near6: {3, 0}, far4: {6, 0}, far6: {3, 0}}
	r.announced(far4, 3)
	if got := r.told(front, r.Front.Interface.MAC, far6, 3); !maps.Equal(got, want) {
		t.Errorf("the client was told %v, want %v", got, want)
	}
	delete(want, near4)
	delete(want, near6)
	if got := r.told(back, r.Back.Interface.MAC, far6, 3); !maps.Equal(got, want) {
		t.Errorf("the backend was told %v, want %v", got, want)
	}
	if _, counters := r.Status(); counters != (Counters{Sent: 9 + 2*9}) {
		t.Errorf("counted: %+v, want %d sent", counters, 9+2*9)
	}
	r.own([]netip.Addr{far4})
	if all, _ := r.Status(); len(all) != 1 || all[0].Address != far4 || !slices.Equal(all[0].Interfaces, []string{"eth0", "eth1"}) || all[0].Last.IsZero() {
		t.Errorf("status: %+v", all)
	}
}

// TestOnlyWhileActive announces nothing before the node forwards, nothing while
// it does not, and everything anew when it was inactive for longer than a
// moment.
func TestOnlyWhileActive(t *testing.T) {
	r := newRig(t)
	vip := r.OnLinkVIP4(1)
	r.start(r.fast())
	r.own([]netip.Addr{vip})
	r.until("interfaces are known", func() bool {
		all, _ := r.Status()
		return len(all[0].Interfaces) == 1
	})
	if all, counters := r.Status(); counters.Sent != 0 || all[0].Announced != 0 {
		t.Errorf("announced while inactive: %+v", all)
	}
	r.SetActive(true)
	r.announced(vip, 3)
	_, before := r.Status()
	r.SetActive(false)
	r.SetActive(true) // only a moment
	r.own([]netip.Addr{vip, r.OnLinkVIP4(2)})
	r.announced(r.OnLinkVIP4(2), 3)
	if all, _ := r.Status(); all[0].Announced != 3 {
		t.Errorf("announced again after a moment: %+v", all[0])
	}
	r.SetActive(false)
	r.mu.Lock()
	r.idleSince = r.idleSince.Add(-restAfter - time.Second)
	r.mu.Unlock()
	r.SetActive(true)
	r.until("everything announced anew", func() bool {
		_, counters := r.Status()
		return counters.Sent == before.Sent+3*2+2*3*2
	})
}

// TestRefresh announces again and again.
func TestRefresh(t *testing.T) {
	r := newRig(t)
	cfg := r.fast()
	cfg.Refresh = 10 * time.Millisecond
	r.start(cfg)
	r.own([]netip.Addr{r.OnLinkVIP4(1), r.OnLinkVIP6(1)})
	r.SetActive(true)
	r.announced(r.OnLinkVIP4(1), 12)
	r.announced(r.OnLinkVIP6(1), 12)
}

// TestInterfaceChanges announces anew what others can no longer know: at another
// MAC address, after the cable was out, on a new interface, in a new subnet.
// TestRenew corrects neighbours that somebody else has told otherwise since.
func TestRenew(t *testing.T) {
	r := newRig(t)
	r.start(r.fast())
	addrs := []netip.Addr{r.OnLinkVIP4(1), r.OnLinkVIP6(1)}
	r.own(addrs)
	r.SetActive(true)
	for _, a := range addrs {
		r.announced(a, 3)
	}
	for _, a := range addrs {
		r.believes(r.Client, a, [6]byte{2, 0, 0, 0, 0, 0x77})
	}
	r.Renew()
	for _, a := range addrs {
		r.knows(r.Client, a, r.Front.Interface.MAC)
		r.announced(a, 3)
	}
}

// TestGrace has addresses claimed by others: who does it once is not told of, for a
// node that has the address no longer says so with its last breath; who goes on is.
func TestGrace(t *testing.T) {
	r := newRig(t)
	cfg := r.fast()
	cfg.Detect, cfg.Grace = true, 300*time.Millisecond
	r.start(cfg)
	taken, disputed := r.OnLinkVIP4(1), r.OnLinkVIP4(2)
	r.own([]netip.Addr{taken, disputed})
	r.SetActive(true)
	r.announced(taken, 3)
	rival := [6]byte{2, 0, 0, 0, 0, 0x66}
	wire := r.tap(r.Client)
	claim := func(a netip.Addr) {
		for _, frame := range announcements(a, rival) {
			r.must(wire.WriteFrame(frame))
		}
	}
	claim(taken)
	r.until("a claim is heard", func() bool { _, c := r.Status(); return c.Rivals > 0 })
	if list := r.Conflicts(); len(list) > 0 {
		t.Errorf("conflicts at once: %+v", list)
	}
	r.until("the other address is disputed", func() bool { claim(disputed); return len(r.Conflicts()) > 0 })
	if list := r.Conflicts(); len(list) != 1 || list[0].Address != disputed || list[0].Conflict.MAC != rival {
		t.Errorf("conflicts: %+v", list)
	}
	r.Renew()
	if list := r.Conflicts(); len(list) > 0 {
		t.Errorf("conflicts of addresses that are announced anew: %+v", list)
	}
}

func TestInterfaceChanges(t *testing.T) {
	r := newRig(t)
	vip, far := r.OnLinkVIP4(1), r.VIP4(1)
	r.believes(r.Client, vip, other)
	r.start(r.fast())
	r.own([]netip.Addr{vip})
	r.SetActive(true)
	r.announced(vip, 3)
	r.knows(r.Client, vip, r.Front.Interface.MAC)

	link, err := r.LB.Netlink().LinkByName(r.Front.Interface.Name)
	r.must(err)
	mac := net.HardwareAddr{2, 0xaa, 0, 0, 0, 1}
	r.must(r.LB.Netlink().LinkSetHardwareAddr(link, mac))
	r.knows(r.Client, vip, mac)
	r.announced(vip, 3)

	again := func(what string, change func()) {
		t.Helper()
		_, before := r.Status()
		change()
		r.until(what, func() bool {
			all, now := r.Status()
			return now.Sent >= before.Sent+6 && all[0].Announced >= 3
		})
	}
	again("announced after the cable was out", func() {
		r.must(r.Front.Interface.Peer.SetDown())
		r.until("the carrier is missed", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return !r.ports[0].up
		})
		r.must(r.Front.Interface.Peer.SetUp())
	})
	again("announced on the new interface", func() {
		r.must(r.Front.Interface.Delete())
		r.until("the interface is missed", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.ports[0].index == 0
		})
		end, err := r.FrontSwitch.Plug(r.LB, r.Front.Interface.Name, lab.LinkConfig{})
		r.must(err)
		r.must(end.AddAddress(netip.PrefixFrom(r.Front.IPv4, 24)))
	})
	r.own([]netip.Addr{far})
	r.until("announced everywhere", func() bool {
		all, _ := r.Status()
		return len(all[0].Interfaces) == 2 && all[0].Announced >= 3
	})
	again("announced in its subnet", func() {
		r.must(r.Back.Interface.AddAddress(netip.PrefixFrom(far.Next(), 24)))
		r.until("the subnet is found", func() bool {
			all, _ := r.Status()
			return slices.Equal(all[0].Interfaces, []string{r.Back.Interface.Name})
		})
		end := &lab.Interface{Host: r.LB, Name: r.Front.Interface.Name}
		r.must(end.AddAddress(netip.PrefixFrom(far.Next().Next(), 24)))
	})
}

// twin is a second interface of the load balancer on its front segment.
func (r *rig) twin() *lab.Interface {
	r.t.Helper()
	sw := r.FrontSwitch.Host()
	end, port, err := r.Cable(r.LB, "eth7", sw, "lb-eth7", lab.LinkConfig{})
	r.must(err)
	bridge, err := sw.Netlink().LinkByName("br0")
	r.must(err)
	link, err := sw.Netlink().LinkByName(port.Name)
	r.must(err)
	r.must(sw.Netlink().LinkSetMaster(link, bridge))
	return end
}

// TestRouted has an address that no subnet has announced nowhere while routers
// are told of it, and everywhere when they no longer are.
func TestRouted(t *testing.T) {
	r := newRig(t)
	near, far := r.OnLinkVIP4(1), r.VIP4(1)
	r.start(r.fast())
	r.SetActive(true)
	on := func(a netip.Addr) []string {
		all, _ := r.Status()
		i := slices.IndexFunc(all, func(s AddressStatus) bool { return s.Address == a })
		return all[i].Interfaces
	}
	r.SetAddresses([]Address{{near, true}, {far, true}})
	r.announced(near, 3)
	if got := on(far); len(got) != 0 {
		t.Errorf("announced on %v while it is routed", got)
	}
	if got := on(near); !slices.Equal(got, []string{r.Front.Interface.Name}) {
		t.Errorf("the one on the link is announced on %v", got)
	}
	_, before := r.Status()
	if before.Sent != 3*2 {
		t.Errorf("%d frames, want %d", before.Sent, 3*2)
	}
	r.SetAddresses([]Address{{near, false}, {far, false}})
	r.until("announced everywhere", func() bool {
		_, now := r.Status()
		return len(on(far)) == 2 && now.Sent == before.Sent+2*3*2
	})
}

// TestConflict finds another host that has our addresses, by asking, and one
// that says so by itself; a second interface of ours on the same segment is
// none.
func TestConflict(t *testing.T) {
	r := newRig(t)
	asked4, asked6, said, quiet := r.OnLinkVIP4(1), r.OnLinkVIP6(1), r.OnLinkVIP4(2), r.OnLinkVIP4(3)
	twin := r.twin()
	r.must(twin.AddAddress(netip.PrefixFrom(quiet, 24))) // answers on both interfaces
	r.must(r.Client.Interface.AddAddress(netip.PrefixFrom(asked4, 32)))
	r.must(r.Client.Interface.AddAddress(netip.PrefixFrom(asked6, 128)))
	cfg := r.fast()
	cfg.Detect = true
	cfg.Refresh = 100 * time.Millisecond // a host takes a moment until it answers for a new address
	cfg.Interfaces = append(cfg.Interfaces, Interface{Name: "eth7"})
	r.start(cfg)
	addrs := []netip.Addr{asked4, said, quiet, asked6}
	r.own(addrs)
	r.SetActive(true)
	rival := func(a netip.Addr) *Conflict {
		for _, s := range r.Conflicts() {
			if s.Address == a {
				return s.Conflict
			}
		}
		return nil
	}
	r.until("conflicts by asking", func() bool { return rival(asked4) != nil && rival(asked6) != nil })
	wire := r.tap(r.Client)
	r.until("a conflict that another tells of", func() bool {
		r.must(wire.WriteFrame(announcements(said, [6]byte(r.Client.Interface.MAC))[1]))
		return rival(said) != nil
	})
	for _, a := range addrs {
		r.announced(a, 3)
	}
	for _, a := range []netip.Addr{asked4, asked6, said} {
		c := rival(a)
		if net.HardwareAddr(c.MAC[:]).String() != r.Client.Interface.MAC.String() || c.Last.Before(c.First) ||
			c.Interface != r.Front.Interface.Name && c.Interface != "eth7" {
			t.Errorf("%s: %+v", a, c)
		}
	}
	if c := rival(quiet); c != nil {
		t.Errorf("our own second interface is taken for another host: %+v", c)
	}
	text := "another host claims an address of this node: some of its traffic goes there"
	if n := strings.Count(r.log.String(), text+`" address=`+asked4.String()); n != 1 {
		t.Errorf("the conflict is %d times in the log", n)
	}
	r.mu.Lock()
	next := r.forgetRivals(time.Now().Add(rivalFor / 2))
	kept := len(r.rivals)
	r.forgetRivals(time.Now().Add(rivalFor + time.Second))
	left := len(r.rivals)
	r.mu.Unlock()
	if kept != 3 || left != 0 || next <= 0 || next > readLinksEvery {
		t.Errorf("%d conflicts are kept and %d left, to be looked at after %v", kept, left, next)
	}
}

// TestManyAddresses asserts that the rate holds, and that a new address does not
// wait for those that are announced again.
func TestManyAddresses(t *testing.T) {
	r := newRig(t)
	cfg := r.fast()
	cfg.Place, cfg.Rate, cfg.Repeat, cfg.Refresh = All, 2000, 1, time.Millisecond
	r.start(cfg)
	var addrs []netip.Addr
	for a := netip.MustParseAddr("203.0.113.0"); len(addrs) < 256; a = a.Next() {
		addrs = append(addrs, a)
	}
	begin := time.Now()
	r.own(addrs)
	r.SetActive(true)
	r.until("all announced and some again", func() bool {
		_, counters := r.Status()
		return counters.Sent > 3*256*4
	})
	news := r.OnLinkVIP4(1)
	_, before := r.Status()
	r.own(append(addrs, news))
	r.announced(news, 1)
	_, after := r.Status()
	if most := 0.1*2000 + 2000*time.Since(begin).Seconds() + 4; float64(after.Sent) > most {
		t.Errorf("%d frames were sent in %v", after.Sent, time.Since(begin))
	}
	// A round of all is 1,024 frames; what may be sent at once is 200.
	if n := after.Sent - before.Sent; n > 600 {
		t.Errorf("the new address waited for %d frames", n)
	}
}

// TestMistakes are told.
func TestMistakes(t *testing.T) {
	_, err := Start(t.Context(), Config{Repeat: 0, RepeatInterval: time.Second, Rate: 10})
	if want := "announce 0 times every 1s, refresh every 0s, 10 frames a second: out of range"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
