package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/model"
	"fairlead/perf/lab"
	"fairlead/perf/lab/router"
)

// inside marks the process that runs in a network namespace of its own: GoBGP
// opens its sockets on any thread, so all threads must be in it.
const inside = "FAIRLEAD_BGP_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fmt.Fprintln(os.Stderr, "making a network namespace needs root:", err)
			os.Exit(1)
		}
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), inside+"=1"))
		fmt.Fprintln(os.Stderr, "running in the namespace:", err)
		os.Exit(1)
	}
	// GoBGP empties the queue of a session that it ends without waiting for what
	// is on its way into it; sometimes the queue's goroutine stays.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}

// world is this process's namespace with a router beside it.
type world struct {
	t      *testing.T
	ctx    context.Context
	lab    *lab.Lab
	router *lab.Host
	dir    string
}

// The link between us and the router, and what is announced over it.
var (
	own4, router4 = netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.254")
	own6, router6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::fe")
	other4        = netip.MustParseAddr("198.18.0.2") // a second speaker's
	vip4, vip6    = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:100::1")
)

const (
	ownASN    = 65010
	routerASN = 65000
)

func newWorld(t *testing.T) *world {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, lab: l, dir: t.TempDir()}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w.router, err = l.AddHost("router")
	w.must(err)
	w.must(w.router.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	w.cable()
	return w
}

// cable joins this process's namespace to the router's.
func (w *world) cable() {
	w.t.Helper()
	ns, err := netns.GetFromName(w.router.Namespace)
	w.must(err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "down0"
	veth.PeerNamespace = netlink.NsFd(int(ns))
	w.must(netlink.LinkAdd(veth))
	w.t.Cleanup(func() { netlink.LinkDel(veth) })
	there := w.router.Netlink()
	peer, err := there.LinkByName("down0")
	w.must(err)
	add := func(h interface {
		AddrAdd(netlink.Link, *netlink.Addr) error
	}, link netlink.Link, all ...netip.Prefix) {
		for _, p := range all {
			a, err := netlink.ParseAddr(p.String())
			w.must(err)
			if p.Addr().Is6() {
				a.Flags = unix.IFA_F_NODAD
			}
			w.must(h.AddrAdd(link, a))
		}
	}
	here, err := netlink.NewHandle()
	w.must(err)
	defer here.Close()
	w.must(os.WriteFile("/proc/sys/net/ipv6/conf/up0/accept_dad", []byte("0"), 0))
	w.must(os.WriteFile("/proc/sys/net/ipv6/conf/up0/accept_ra", []byte("0"), 0))
	add(here, veth, netip.PrefixFrom(own4, 24), netip.PrefixFrom(other4, 24), netip.PrefixFrom(own6, 64))
	add(there, peer, netip.PrefixFrom(router4, 24), netip.PrefixFrom(router6, 64))
	w.must(there.LinkSetUp(peer))
	w.must(here.LinkSetUp(veth))
	w.until("the cable has carrier", func() bool {
		l, err := here.LinkByName("up0")
		return err == nil && l.Attrs().OperState == netlink.OperUp
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// until polls until a condition holds.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for !holds() {
		if w.ctx.Err() != nil {
			w.t.Fatalf("not so within the test's time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// config is a configuration with one IPv4 peer, which changes are made to.
func config(change ...func(*model.BGP)) model.BGP {
	b := model.DefaultBGP()
	b.Enabled, b.ASN, b.RouterID, b.ConnectRetry = true, ownASN, own4, 2*time.Second
	b.Peers = []model.BGPPeer{peer4()}
	for _, f := range change {
		f(&b)
	}
	return b
}

func peer4() model.BGPPeer {
	return model.BGPPeer{Address: router4, ASN: routerASN, External: true, Port: 179, Multihop: 1,
		Families: []model.BGPFamily{model.IPv4Unicast}, BFD: model.DefaultBFD()}
}

func peer6() model.BGPPeer {
	p := peer4()
	p.Address, p.Families = router6, []model.BGPFamily{model.IPv6Unicast}
	return p
}

// speak starts a speaker that is closed with the test.
func (w *world) speak(cfg model.BGP, o Options) *Speaker {
	w.t.Helper()
	if o.Log == nil {
		o.Log = logger(w.t)
	}
	s, err := New(cfg, o)
	w.must(err)
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return s
}

// logger writes into the test's log, and nothing after its end.
func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// told are VIPs that are announced plainly.
func told(addrs ...netip.Addr) []announce.VIP {
	var all []announce.VIP
	for _, a := range addrs {
		all = append(all, announce.VIP{Address: a})
	}
	return all
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// hops waits until the router's kernel sends a VIP to these next hops and no
// others.
func (w *world) hops(vip netip.Addr, want ...netip.Addr) {
	w.t.Helper()
	var got []netip.Addr
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the router's next hops to %s are %v", vip, got)
		}
	}()
	w.until(fmt.Sprintf("the router sends %s to %v", vip, want), func() bool {
		var err error
		got, err = router.NextHops(w.router, host(vip))
		w.must(err)
		return slices.Equal(got, want)
	})
}

// established waits for a session.
func (w *world) established(s *Speaker, name string) Peer {
	w.t.Helper()
	var p Peer
	w.until("the session with "+name+" stands", func() bool {
		for _, p = range s.Peers() {
			if p.Name == name && p.State == Established {
				return true
			}
		}
		return false
	})
	return p
}

// bird starts BIRD on the router, with protocols on top of what every one of
// these routers has.
func (w *world) bird(protocols string) *router.Bird {
	w.t.Helper()
	b, err := router.StartBird(w.ctx, w.router, w.dir, birdBase+protocols)
	w.must(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			out, _ := b.Ask(context.Background(), "show protocols all")
			w.t.Logf("BIRD says:\n%s\n%s", b.Output(), out)
		}
	})
	return b
}

const birdBase = `
router id 198.18.0.254;
log stderr all;
protocol device { }
protocol direct { ipv4; ipv6; } # what next hops of internal routes are found by
protocol kernel { ipv4 { export where source = RTS_BGP; import none; }; merge paths on; }
protocol kernel { ipv6 { export where source = RTS_BGP; import none; }; merge paths on; }
template bgp fairlead {
	local as 65000;
	passive on;
	hold time 9;
	ipv4 { import all; export none; };
}
`

// watchRoute counts how often the router's kernel removes the route to a VIP,
// from now until it is asked.
func (w *world) watchRoute(vip netip.Addr) (removed func() int) {
	w.t.Helper()
	ns, err := netns.GetFromName(w.router.Namespace)
	w.must(err)
	defer ns.Close()
	updates, done := make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	w.must(netlink.RouteSubscribeAt(ns, updates, done))
	count, over := 0, make(chan struct{})
	go func() {
		defer close(over)
		for u := range updates {
			if u.Type == unix.RTM_DELROUTE && u.Dst != nil && u.Dst.String() == host(vip).String() {
				count++
			}
		}
	}()
	return func() int {
		close(done)
		<-over
		return count
	}
}
