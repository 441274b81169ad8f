package e2e

import (
	"fmt"
	"slices"
	"testing"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
)

// TestNeighborsFound runs the node without a single [[neighbor]]: by the time it
// forwards it has found every backend, in both families, and not one packet is
// lost to a MAC address that is not known yet.
func TestNeighborsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	w.config.Neighbors = nil
	sites := []*site{w.addSite(nat4), w.addSite(nat6), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct4), w.addSite(direct6)}
	w.serve()
	w.start()
	for _, s := range sites {
		w.spread(s, w.http(s, 60))
		w.udp(s, 30, 2)
	}
	if warnings := w.status().Warnings; len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
	w.balance()
	w.must(w.node.Stop())
}

// TestNewBackendIsKnownWhenUsed adds backends that the node has never spoken to,
// under load. They get connections as soon as they are in force, and no packet
// is dropped because the way to them is not known yet.
func TestNewBackendIsKnownWhenUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 6}})
	w.config.Neighbors = nil
	sites := []*site{w.addSite(nat4), w.addSite(direct6)}
	for _, s := range sites {
		s.members = members(w.topo.Backends[0])
	}
	w.serve()
	w.start()
	p := w.ping(10, sites...)
	for n := 2; n <= len(w.topo.Backends); n++ {
		for _, s := range sites {
			s.members = members(w.topo.Backends[n-1])
		}
		w.reload()
		for _, s := range sites {
			w.onlyTo(s, w.http(s, 20), fmt.Sprintf("backend %d instead of %d", n, n-1))
		}
	}
	p.await(2)
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}

// TestBackendWithAnotherMAC gives every backend another Ethernet address, as when
// its address moves to another machine. The kernel sends nothing to backends; it
// keeps their neighbour entries for the node all the same, and finds out.
func TestBackendWithAnotherMAC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	w.config.Neighbors = nil
	// The kernel trusts an entry for 15 to 45 seconds; here for about one.
	for _, family := range []string{"ipv4", "ipv6"} {
		of := "net." + family + ".neigh." + w.topo.Back.Interface.Name
		w.must(w.topo.LB.Sysctl(of+".base_reachable_time_ms", "1000"))
		w.must(w.topo.LB.Sysctl(of+".delay_first_probe_time", "1"))
		w.must(w.topo.LB.Sysctl(of+".retrans_time_ms", "200"))
	}
	sites := []*site{w.addSite(nat4), w.addSite(gue6)}
	w.serve()
	w.start()
	p := w.ping(10, sites...)
	for i, b := range w.topo.Backends {
		mac := slices.Clone(b.Interface.MAC)
		mac[1], mac[5] = 0xbb, byte(i)
		link, err := b.Netlink().LinkByName(b.Interface.Name)
		w.must(err)
		w.must(b.Netlink().LinkSetHardwareAddr(link, mac))
	}
	p.await(2)
	p.stop()
	for _, s := range sites {
		w.spread(s, w.http(s, 60))
	}
	w.must(w.node.Stop())
}

// TestBackendThatIsNotThere starts the node with a backend that nobody answers
// for. The node comes up, says which it is, and serves from the others.
func TestBackendThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	w.config.Neighbors = nil
	s := w.addSite(nat4)
	absent := w.topo.Backends[2]
	w.must(absent.Interface.SetDown())
	w.serve()
	w.start()
	state := func(name string) func(*api.Status) bool {
		return func(s *api.Status) bool {
			for _, b := range s.Services[0].Backends {
				if b.Name == absent.Name {
					return b.State == name
				}
			}
			return false
		}
	}
	w.must(w.node.Until(w.ctx, state("unresolved")))
	want := fmt.Sprintf("pool %q: backend %s has no known MAC address", s.service(webPort), absent.Name)
	if warnings := w.status().Warnings; !slices.Contains(warnings, want) {
		t.Errorf("warnings %q do not have %q", warnings, want)
	}
	w.must(absent.Interface.SetUp())
	w.must(w.node.Until(w.ctx, state("up")))
	w.spread(s, w.http(s, 60))
	w.balance()
	w.must(w.node.Stop())
}
