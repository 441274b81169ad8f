package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// ownersWorld is a cluster of three nodes that answer for VIPs on the clients'
// segment, with backends that reply directly, and a client who asks who answers.
type ownersWorld struct {
	*clusterWorld
	vips    []netip.Addr
	pingers []*traffic.Pinger
}

// ownerVIPs are the VIPs of a rack: more of IPv4 than of IPv6.
func ownerVIPs(rack *lab.Rack) (vips []netip.Addr) {
	for i := 1; i <= 8; i++ {
		vips = append(vips, rack.VIP4(i))
	}
	for i := 1; i <= 4; i++ {
		vips = append(vips, rack.VIP6(i))
	}
	return vips
}

// ownerText is the configuration of a node that pins its programs below a path.
func ownerText(rack *lab.Rack, pins string) string {
	c := rig.Config{
		PinPath: pins, Options: "[arp]\nrepeat_interval = \"200ms\"\n", Interfaces: []rig.Interface{{Name: "eth0"}},
		Pools: []rig.Pool{{Name: "four"}, {Name: "six"}},
	}
	for _, b := range rack.Backends {
		c.Pools[0].Backends = append(c.Pools[0].Backends, rig.Backend{Address: b.IPv4, Weight: 1, Name: b.Name})
		c.Pools[1].Backends = append(c.Pools[1].Backends, rig.Backend{Address: b.IPv6, Weight: 1, Name: b.Name})
	}
	for i, vip := range ownerVIPs(rack) {
		pool := "four"
		if vip.Is6() {
			pool = "six"
		}
		c.Services = append(c.Services,
			rig.Service{Name: fmt.Sprintf("stream%d", i), VIP: vip, Protocol: "tcp", Port: streamPort, Pool: pool, Method: "l2"},
			rig.Service{Name: fmt.Sprintf("name%d", i), VIP: vip, Protocol: "udp", Port: namePort, Pool: pool, Method: "l2"})
	}
	return "hold_down = \"1s\"\n" + c.Text() // the first line is of [cluster]
}

func newOwnersWorld(t *testing.T) *ownersWorld {
	t.Helper()
	pins := filepath.Dir((&world{t: t}).bpffs())
	w := &ownersWorld{clusterWorld: newClusterWorld(t, 3, lab.Config{Backends: 3}, func(rack *lab.Rack, i int) string {
		return ownerText(rack, filepath.Join(pins, rack.Balancers[i].Name))
	})}
	w.vips = ownerVIPs(w.Rack)
	for _, b := range w.Backends {
		w.must(rig.Own(b, w.vips...))
		_, err := traffic.ServeStream(b.Host, fmt.Sprintf(":%d", streamPort))
		w.must(err)
	}
	// Until all have settled, those that have own what the others will.
	for i := range w.Nodes {
		w.until("every node has settled", func() bool { return strings.Contains(w.scrape(i), "\nfairlead_cluster_owner_settled 1\n") })
	}
	w.shared(0, 1, 2)
	return w
}

// until polls cond until it holds, or ends the test with its context.
func (w *ownersWorld) until(what string, cond func() bool) {
	w.t.Helper()
	for !cond() {
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("waited in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// told are the owners of all VIPs as a node knows them, and those that it answers
// for.
func (w *ownersWorld) told(i int) (owners map[netip.Addr]string, answered map[netip.Addr]bool) {
	w.t.Helper()
	owners, answered = map[netip.Addr]string{}, map[netip.Addr]bool{}
	w.must(w.Nodes[i].Client().Addresses(w.ctx, nil, func(a *api.Address) error {
		if a.Kind == "vip" {
			vip := netip.MustParseAddr(a.Address)
			owners[vip], answered[vip] = a.Owner, a.Answered
		}
		return nil
	}))
	return owners, answered
}

// shared waits until some nodes agree on who owns which VIP, each has some, and
// each answers for its own and no other.
func (w *ownersWorld) shared(nodes ...int) (owners map[netip.Addr]string) {
	w.t.Helper()
	w.until(fmt.Sprintf("nodes %v share all VIPs", nodes), func() bool {
		owners = nil
		parts := map[string]int{}
		for _, i := range nodes {
			own, answered := w.told(i)
			if owners == nil {
				owners = own
			}
			if !maps.Equal(own, owners) || len(own) != len(w.vips) {
				return false
			}
			for vip, name := range own {
				if answered[vip] != (name == w.Balancers[i].Name) {
					return false
				}
				if answered[vip] {
					parts[name]++
				}
			}
		}
		sum := 0
		for _, n := range parts {
			sum += n
		}
		return len(parts) == len(nodes) && sum == len(w.vips)
	})
	return owners
}

// answerers asks on the client's segment who has each VIP, and returns the names
// of those nodes that say that they have.
func (w *ownersWorld) answerers() map[netip.Addr][]string {
	w.t.Helper()
	wire, err := w.Client.PacketConn(w.Client.Interface.Name)
	w.must(err)
	defer wire.Close()
	names := map[string]string{}
	for _, b := range w.Balancers {
		names[b.Interface.MAC.String()] = b.Name
	}
	found := map[netip.Addr][]string{}
	own := mac(w.Client.Interface)
	for range 2 { // one question may be lost
		for _, vip := range w.vips {
			if vip.Is4() {
				w.must(wire.WriteFrame(packettest.ARPRequest(w.Client.IPv4, vip, packettest.MACs([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, own))))
				continue
			}
			raw := vip.As16()
			w.must(wire.WriteFrame(packettest.NeighborSolicit(w.Client.IPv6, vip, packettest.MACs([6]byte{0x33, 0x33, 0xff, raw[13], raw[14], raw[15]}, own))))
		}
		// Whoever answers does so in microseconds.
		for w.must(wire.SetReadDeadline(time.Now().Add(300 * time.Millisecond))); ; {
			frame, err := wire.ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			w.must(err)
			for _, vip := range w.vips {
				if !answersFor(frame, vip) {
					continue
				}
				from := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", frame[6], frame[7], frame[8], frame[9], frame[10], frame[11])
				if name := names[from]; name != "" {
					from = name
				}
				if !slices.Contains(found[vip], from) {
					found[vip] = append(found[vip], from)
				}
			}
		}
	}
	return found
}

// oneEach demands that on the wire the owner of each VIP answers and nobody else.
func (w *ownersWorld) oneEach(owners map[netip.Addr]string) {
	w.t.Helper()
	found := w.answerers()
	for _, vip := range w.vips {
		if !slices.Equal(found[vip], []string{owners[vip]}) {
			w.t.Errorf("for %s, which is %s's, %v answer", vip, owners[vip], found[vip])
		}
	}
}

// ping opens connections to every VIP, on which something is always said.
func (w *ownersWorld) ping(each int) {
	w.t.Helper()
	for range each {
		for _, vip := range w.vips {
			p, err := traffic.StartPinger(w.ctx, w.Client.Host, traffic.PingerConfig{Target: netip.AddrPortFrom(vip, streamPort), Interval: 20 * time.Millisecond})
			w.must(err)
			w.pingers = append(w.pingers, p)
		}
	}
}

// goOn waits until every connection has had another echo.
func (w *ownersWorld) goOn() {
	w.t.Helper()
	for _, p := range w.pingers {
		before := p.Received()
		w.until("every connection goes on", func() bool {
			select {
			case <-p.Broken():
				_, err := p.Stop(w.ctx)
				w.t.Fatal(err)
			default:
			}
			return p.Received() > before
		})
	}
}

// hangUp ends the connections and demands that none has broken.
func (w *ownersWorld) hangUp() {
	w.t.Helper()
	var wg sync.WaitGroup
	var longest time.Duration
	var mu sync.Mutex
	for _, p := range w.pingers {
		wg.Go(func() {
			r, err := p.Stop(w.ctx)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, r.LongestGap)
			if err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
	w.t.Logf("%d connections, the longest gap between two echoes was %v", len(w.pingers), longest.Round(time.Millisecond))
	w.pingers = nil
}

// count sends a thousand numbered datagrams a second to a VIP.
func (w *ownersWorld) count(vip netip.Addr) *traffic.Counted {
	w.t.Helper()
	var sinks []*lab.Host
	for _, b := range w.Backends {
		sinks = append(sinks, b.Host)
	}
	c, err := traffic.StartCounted(w.ctx, w.Client.Host, traffic.CountedConfig{Target: netip.AddrPortFrom(vip, namePort), Rate: 1000}, namePort, sinks...)
	w.must(err)
	w.until("datagrams arrive", func() bool { return c.Report().Arrived > 20 })
	return c
}

// lossless ends the counting and demands that nothing is missing.
func (w *ownersWorld) lossless(what string, c *traffic.Counted) {
	w.t.Helper()
	r, err := c.Stop(w.ctx, 2*time.Second)
	w.must(err)
	if r.Missing > 0 || r.Doubled > 0 {
		w.t.Errorf("%s: of %d datagrams %d are missing and %d came twice: %v", what, r.Sent, r.Missing, r.Doubled, r.Holes)
	}
}

func (w *ownersWorld) post(i int, path string) {
	w.t.Helper()
	w.must(w.Nodes[i].Client().Call(w.ctx, http.MethodPost, path, nil, nil, nil))
}

// anyOf is a VIP of a node.
func anyOf(owners map[netip.Addr]string, name string) netip.Addr {
	list := slices.SortedFunc(maps.Keys(owners), netip.Addr.Compare)
	return list[slices.IndexFunc(list, func(a netip.Addr) bool { return owners[a] == name })]
}

// others demands that no VIP moved but those of one node.
func (w *ownersWorld) onlyMoved(of string, before, after map[netip.Addr]string) {
	w.t.Helper()
	for vip, was := range before {
		if after[vip] != was && was != of && after[vip] != of {
			w.t.Errorf("%s moved from %s to %s because of %s", vip, was, after[vip], of)
		}
	}
}

// TestVIPTakeover kills one of three nodes with -9, drains another and stops a
// third, under connections to VIPs of both families: the others answer for their
// VIPs, no other VIP moves, no connection breaks, and what is planned loses
// nothing.
func TestVIPTakeover(t *testing.T) {
	t.Parallel()
	w := newOwnersWorld(t)
	before := w.shared(0, 1, 2)
	w.oneEach(before)
	w.documented(w.scrape(0), "fairlead_cluster_owner_")
	w.ping(2)

	killed := w.Balancers[1].Name
	c := w.count(anyOf(before, killed))
	w.must(w.Kill(w.ctx, 1))
	after := w.shared(0, 2)
	w.onlyMoved(killed, before, after)
	w.goOn()
	r, err := c.Stop(w.ctx, time.Second)
	w.must(err)
	t.Logf("killed: %d of %d datagrams are missing, and no other", r.Missing, r.Sent)
	w.oneEach(after)

	w.must(w.Nodes[1].Launch(w.ctx))
	back := w.shared(0, 1, 2)
	if !maps.Equal(back, before) {
		t.Errorf("with the killed node back, VIPs are elsewhere than before: %v, before %v", back, before)
	}
	w.goOn()

	drained := w.Balancers[0].Name
	c = w.count(anyOf(before, drained))
	w.post(0, "/v1/drain")
	after = w.shared(1, 2)
	w.onlyMoved(drained, before, after)
	w.oneEach(after)
	w.lossless("drained", c)
	// The drain outlives the node, and ends where it is told to.
	w.must(w.Nodes[0].Stop())
	w.must(w.Nodes[0].Launch(w.ctx))
	w.until("the restarted node knows that it is drained", func() bool {
		var s api.DrainState
		w.must(w.Nodes[0].Client().Call(w.ctx, http.MethodGet, "/v1/drain", nil, nil, &s))
		return s.Phase == "drained"
	})
	w.onlyMoved(drained, before, w.shared(1, 2))
	w.oneEach(after)
	w.post(0, "/v1/undrain")
	w.shared(0, 1, 2)
	w.goOn()

	stopped := w.Balancers[2].Name
	c = w.count(anyOf(before, stopped))
	w.must(w.Nodes[2].Stop())
	w.onlyMoved(stopped, before, w.shared(0, 1))
	w.goOn()
	w.lossless("stopped", c)
	w.hangUp()
}

// TestVIPPartition parts one node from the others, while clients reach them all:
// both sides answer for every VIP, and when they find each other again one node
// does, without a broken connection.
func TestVIPPartition(t *testing.T) {
	t.Parallel()
	w := newOwnersWorld(t)
	before := w.shared(0, 1, 2)
	w.ping(1)
	w.must(w.Part([]*lab.Node{w.Balancers[1]}))
	w.shared(0, 2)
	w.shared(1)
	found := w.answerers()
	for _, vip := range w.vips {
		if len(found[vip]) != 2 || !slices.Contains(found[vip], w.Balancers[1].Name) {
			t.Errorf("while the cluster is parted, %v answer for %s", found[vip], vip)
		}
	}
	w.goOn()
	w.must(w.Part())
	after := w.shared(0, 1, 2)
	if !maps.Equal(after, before) {
		t.Errorf("after the partition VIPs are elsewhere than before: %v, before %v", after, before)
	}
	w.oneEach(after)
	w.goOn()

	// A plug that is pulled parts a node from everything, and it knows.
	port, err := w.Switch.Host().Netlink().LinkByName(w.Balancers[2].Name)
	w.must(err)
	w.must(w.Switch.Host().Netlink().LinkSetDown(port))
	w.onlyMoved(w.Balancers[2].Name, before, w.shared(0, 1))
	w.until("the node without a plug says what is wrong", func() bool {
		s, err := w.Nodes[2].Status(w.ctx)
		w.must(err)
		return slices.ContainsFunc(s.Summary.Conditions, func(c api.Condition) bool {
			return strings.Contains(c.Message, "VIPs go to other nodes of the cluster, as long as there are: interface eth0 has no carrier")
		})
	})
	w.goOn()
	w.must(w.Switch.Host().Netlink().LinkSetUp(port))
	w.shared(0, 1, 2)
	w.oneEach(before)
	w.goOn()
	w.hangUp()
}

// TestVIPsStayOverUpgrade upgrades both processes of each of three nodes, one after
// the other, and then kills a control process with -9: who continues another process
// keeps its VIPs; no datagram is lost, and no connection breaks.
func TestVIPsStayOverUpgrade(t *testing.T) {
	t.Parallel()
	w := newOwnersWorld(t)
	before := w.shared(0, 1, 2)
	w.ping(1)
	for i, n := range w.Nodes {
		c := w.count(anyOf(before, w.Balancers[i].Name))
		w.must(n.Upgrade(w.ctx))
		if after := w.shared(0, 1, 2); !maps.Equal(after, before) {
			t.Errorf("after an upgrade of %s VIPs are elsewhere than before: %v, before %v", w.Balancers[i].Name, after, before)
		}
		w.lossless("upgraded", c)
		w.goOn()
	}
	// A control process that dies may be taken for its node's death, and VIPs move and
	// come back; the data process serves meanwhile.
	c := w.count(anyOf(before, w.Balancers[1].Name))
	w.must(w.Nodes[1].KillControl(w.ctx))
	if after := w.shared(0, 1, 2); !maps.Equal(after, before) {
		t.Errorf("after the death of a control process VIPs are elsewhere than before: %v, before %v", after, before)
	}
	w.lossless("control process killed", c)
	w.goOn()
	w.oneEach(before)
	w.hangUp()
}
