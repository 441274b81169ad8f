package bgp

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/model"
	"fairlead/perf/lab/router"
)

const frrBase = `
frr defaults datacenter
log stdout warnings
no ipv6 forwarding
`

// frr starts FRR on the router.
func (w *world) frr(config string) *router.FRR {
	w.t.Helper()
	f, err := router.StartFRR(w.ctx, w.router, frrBase+config)
	w.must(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			for _, ask := range []string{"show bgp summary", "show bgp neighbors", "show bgp ipv4 unicast", "show bfd peers"} {
				out, _ := f.Ask(context.Background(), ask)
				w.t.Logf("FRR: %s\n%s", ask, out)
			}
			w.t.Logf("FRR says:\n%s", f.Output())
		}
	})
	return f
}

// route is what FRR knows of a VIP.
type frrRoute struct {
	Paths []struct {
		Valid     bool
		LocalPref int `json:"locPrf"`
		Metric    int
		Community struct{ String string }
		Large     struct{ String string } `json:"largeCommunity"`
		ASPath    struct{ String string }
		Nexthops  []struct{ IP, Scope string }
	}
}

func (w *world) frrRoute(f *router.FRR, family string, vip netip.Addr) (r frrRoute) {
	w.t.Helper()
	out, err := f.Ask(w.ctx, "show bgp "+family+" unicast "+host(vip).String()+" json")
	w.must(err)
	w.must(json.Unmarshal([]byte(out), &r))
	return r
}

// TestFRR is a session with FRR for both families, and one over IPv6 that
// carries IPv4 routes (RFC 8950).
func TestFRR(t *testing.T) {
	w := newWorld(t)
	f := w.frr(`
router bgp 65000
 bgp router-id 198.18.0.254
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor 2001:db8::1 remote-as 65010
 neighbor 2001:db8::1 passive
 neighbor 2001:db8::1 capability extended-nexthop
 address-family ipv4 unicast
  neighbor 2001:db8::1 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8::1 activate
 exit-address-family
`)
	s := w.speak(config(func(b *model.BGP) {
		p := peer6()
		p.Families = []model.BGPFamily{model.IPv4Unicast, model.IPv6Unicast}
		b.Peers = []model.BGPPeer{p}
	}), Options{})
	w.must(s.Set([]announce.VIP{{Address: vip4, Communities: "65000:100 65010:1:2 no-export", MED: 12}, {Address: vip6}}))
	w.hops(vip6, own6)
	w.hops(vip4, own6)
	r := w.frrRoute(f, "ipv4", vip4)
	if len(r.Paths) != 1 || r.Paths[0].Community.String != "65000:100 no-export" || r.Paths[0].Large.String != "65010:1:2" ||
		r.Paths[0].Metric != 12 || r.Paths[0].ASPath.String != "65010" {
		t.Errorf("FRR knows the route as %+v", r)
	}
	w.must(s.Set(told(vip6)))
	w.hops(vip4)
	w.hops(vip6, own6)
}

// TestUnnumbered finds FRR by its router advertisements, and is found by its
// own: no address is configured at either end.
func TestUnnumbered(t *testing.T) {
	w := newWorld(t)
	w.frr(`
interface down0
 ipv6 nd ra-interval 1
 no ipv6 nd suppress-ra
exit
router bgp 65000
 bgp router-id 198.18.0.254
 no bgp ebgp-requires-policy
 neighbor down0 interface remote-as external
 neighbor down0 passive
 address-family ipv6 unicast
  neighbor down0 activate
 exit-address-family
`)
	s := w.speak(config(func(b *model.BGP) {
		b.Peers = []model.BGPPeer{{Interface: "up0", External: true, Port: 179, Multihop: 1, BFD: model.DefaultBFD(),
			Families: []model.BGPFamily{model.IPv4Unicast, model.IPv6Unicast}}}
	}), Options{})
	w.must(s.Set(told(vip4, vip6)))
	own := w.linkLocal()
	w.hops(vip4, own)
	w.hops(vip6, own)
	p := w.established(s, "up0")
	if p.ASN != routerASN || p.Address.Zone() != "up0" || !p.Address.IsLinkLocalUnicast() {
		t.Errorf("the peer is %+v", p)
	}
}

// linkLocal is our own link-local address.
func (w *world) linkLocal() netip.Addr {
	w.t.Helper()
	link, err := netlink.LinkByName("up0")
	w.must(err)
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	w.must(err)
	i := slices.IndexFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() })
	if i < 0 {
		w.t.Fatal("the interface has no link-local address")
	}
	a, _ := netip.AddrFromSlice(addrs[i].IP)
	return a
}

// TestFRRBFD has BFD with FRR over IPv4 and IPv6; a cable that carries nothing
// any more takes the routes away long before the hold time.
func TestFRRBFD(t *testing.T) {
	w := newWorld(t)
	f := w.frr(`
bfd
 profile quick
  receive-interval 300
  transmit-interval 300
 exit
exit
router bgp 65000
 bgp router-id 198.18.0.254
 no bgp ebgp-requires-policy
 timers bgp 30 90
 neighbor 198.18.0.1 remote-as 65010
 neighbor 198.18.0.1 passive
 neighbor 198.18.0.1 bfd profile quick
 neighbor 2001:db8::1 remote-as 65010
 neighbor 2001:db8::1 passive
 neighbor 2001:db8::1 bfd profile quick
 address-family ipv6 unicast
  neighbor 2001:db8::1 activate
 exit-address-family
`)
	s := w.speak(config(func(b *model.BGP) {
		b.HoldTime = 90e9
		b.Peers = append(b.Peers, peer6())
		for i := range b.Peers {
			b.Peers[i].BFD.Enabled = true
		}
	}), Options{})
	w.must(s.Set(told(vip4, vip6)))
	w.hops(vip4, own4)
	w.hops(vip6, own6)
	w.until("BFD is up at both ends", func() bool {
		out, err := f.Ask(w.ctx, "show bfd peers json")
		w.must(err)
		up := 0
		for _, p := range s.Peers() {
			if p.BFD.State == "up" {
				up++
			}
		}
		return up == 2 && strings.Count(out, `"status":"up"`) == 2
	})
	link, err := netlink.LinkByName("up0")
	w.must(err)
	// The far end keeps its carrier: only packets cease.
	w.must(blackhole(link))
	w.hops(vip4)
	w.hops(vip6)
	w.until("our end has noticed, too", func() bool {
		for _, p := range s.Peers() {
			if p.State == Established {
				return false
			}
		}
		return true
	})
}

// blackhole has an interface drop what it would send.
func blackhole(link netlink.Link) error {
	qdisc := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, QdiscType: "blackhole"}
	return netlink.QdiscReplace(qdisc)
}
