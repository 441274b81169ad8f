package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"fairlead/controlplane/model"
)

// TestAPIServerAway: watches that are dropped, a cable that is pulled, an API server
// that is killed with -9 and comes back. The client notices nothing of it, a node
// that starts in the meantime serves what it served last, and what was changed is in
// force when the API server is back.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{pinned: true})
	w.namespace("away")
	b := w.rack.Backends
	s := w.create(dual(newService("away", "web", webPort(), talkPort())))
	w.endpoints(s, allReady(b...)...)
	vips := w.assigned(s, 2)
	for _, vip := range vips {
		w.untilServed(vip, "tcp 80", 3)
		w.untilServed(vip, "tcp 7", 3)
	}
	vip, way := vips[0], w.ways[0]
	load, talk := w.load(vip), w.talk(vip, 6)
	// Endpoints that are not to get new connections keep those that they have.
	only := func(n int) {
		t.Helper()
		all := allReady(b[:n]...)
		for _, rest := range b[n:] {
			all = append(all, draining(rest))
		}
		w.endpoints(s, all...)
	}

	// Watches are dropped, and things change right afterwards.
	for i := range 10 {
		way.Cut()
		ready := 3 - i%2
		only(ready)
		w.untilServed(vip, "tcp 80", ready)
	}
	// Nothing passes for a while, as when a cable is pulled.
	way.Freeze()
	only(2)
	load.goOn(100)
	way.Forward()
	w.untilServed(vip, "tcp 80", 2)
	// The API server is not let in, and changes.
	way.Refuse()
	only(3)
	load.goOn(100)
	way.Forward()
	w.untilServed(vip, "tcp 80", 3)

	// The API server is killed.
	for _, vip := range vips {
		w.untilKept(0, vip, 80, 3)
	}
	w.must(w.api.StopAPI())
	load.goOn(100)
	w.must(w.nodes[0].KillControl(w.ctx))
	load.goOn(100)
	talk.await(5)
	talk.stop()
	load.end()
	w.untilServed(vip, "tcp 80", 3)
	// A node that begins from nothing but its disk.
	w.must(w.nodes[0].Stop())
	w.must(w.nodes[0].Launch(w.ctx))
	for _, vip := range vips {
		w.untilServed(vip, "tcp 80", 3)
		w.untilServed(vip, "tcp 7", 3)
		w.web(vip, 20)
	}
	load = w.load(vip)
	w.must(w.api.StartAPI(w.ctx))
	only(2)
	w.untilServed(vip, "tcp 80", 2)
	if got := addresses(w.read(s)); len(got) != 2 || got[0] != vips[0] || got[1] != vips[1] {
		t.Errorf("addresses %v, want %v as before", got, vips)
	}
	load.goOn(50)
	load.end()
	// Deleted while the node is away: gone when it is back.
	w.must(w.nodes[0].Stop())
	w.must(w.kube.CoreV1().Services("away").Delete(w.ctx, "web", deleteNow))
	w.must(w.nodes[0].Launch(w.ctx))
	w.untilServed(vip, "tcp 80", -1)
	w.until("the Service is gone", func() string { return w.there(s) })
	w.balance("service_not_found", "backend_gone", "flow_not_found", "tcp_not_syn")
}

// untilKept waits until a node has on disk that a port of a VIP has so many backends
// with a weight: what has changed in the last seconds before a node dies may not be
// there yet.
func (w *world) untilKept(node int, vip netip.Addr, port uint16, backends int) {
	w.t.Helper()
	name := filepath.Join(w.dir, w.rack.Balancers[node].Name, "state", "live", "kubernetes.json")
	w.until(fmt.Sprintf("%s has %s port %d with %d backends on disk", w.rack.Balancers[node].Name, vip, port, backends), func() string {
		data, err := os.ReadFile(name)
		if err != nil {
			return err.Error()
		}
		var kept struct{ Groups []model.Group }
		if err := json.Unmarshal(data, &kept); err != nil {
			return err.Error()
		}
		for _, g := range kept.Groups {
			for _, s := range g.Services {
				if s.VIP != vip || s.Ports.First != port {
					continue
				}
				weighted := 0
				for _, p := range g.Pools {
					for _, b := range p.Backends {
						if p.Name == s.Pool && b.Weight > 0 {
							weighted++
						}
					}
				}
				if weighted == backends {
					return ""
				}
			}
		}
		return string(data)
	})
}
