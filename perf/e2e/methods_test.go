package e2e

import (
	"testing"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// megabytes of the transfers. What passes the node is a lot: both ways with
// NAT, the client's own bytes with direct reply.
const (
	passing = 100 << 20
	beside  = 20 << 20
)

// TestMethods runs every method with every pair of families it carries through
// the same body, over the three shapes of network.
func TestMethods(t *testing.T) {
	oneArm := worldConfig{shape: lab.OneArm}
	twoArm := worldConfig{shape: lab.TwoArm}
	routed := worldConfig{shape: lab.TwoArm, lab: lab.Config{Router: true}}
	onLink := true
	for _, c := range []struct {
		name   string
		world  worldConfig
		onLink bool // the VIP is in the clients' segment
		method method
	}{
		{"two-arm", twoArm, !onLink, nat4},
		{"routed", routed, !onLink, nat6},
		{"one-arm", oneArm, onLink, nat4},
		{"one-arm", oneArm, !onLink, nat6},
		{"one-arm", oneArm, !onLink, ipip4},
		{"routed", routed, onLink, ipip6},
		{"two-arm", twoArm, !onLink, method{"ipip", false, true}},
		{"one-arm", oneArm, onLink, method{"ipip", true, false}},
		{"routed", routed, !onLink, gue4},
		{"two-arm", twoArm, !onLink, gue6},
		{"one-arm", oneArm, !onLink, method{"gue", false, true}},
		{"routed", routed, !onLink, method{"gue", true, false}},
		{"two-arm", twoArm, !onLink, direct4},
		{"one-arm", oneArm, !onLink, direct6},
	} {
		t.Run(c.method.String()+" "+c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.world)
			var s *site
			switch {
			case !c.onLink:
				s = w.addSite(c.method)
			case c.method.vip6:
				s = w.addSiteAt(c.method, w.topo.OnLinkVIP6(1))
			default:
				s = w.addSiteAt(c.method, w.topo.OnLinkVIP4(1))
			}
			w.serve()
			w.start()
			testMethod(w, s)
		})
	}
}

func testMethod(w *world, s *site) {
	const connections, flows = 200, 100
	web := w.http(s, connections)
	w.spread(s, web)
	w.sees(s, web)
	name := w.udp(s, flows, 3)
	w.spread(s, name)
	w.sees(s, name)

	w.transfer(s, traffic.Upload, passing)
	if s.direct() {
		w.transfer(s, traffic.Download, beside)
	} else {
		w.transfer(s, traffic.Download, passing)
	}

	// Only a packet that must be answered as too big is not carried, and that
	// is an answer, not a drop.
	status := w.balance()
	w.flows(status, s, webPort, connections, connections)
	w.flows(status, s, namePort, flows/2, flows) // the kernel may give a port out again
	w.flows(status, s, streamPort, 2, 2)
	if tooBig := status.Ledger.Reasons["too_big_reply"]; s.tunnel() != (tooBig > 0) {
		w.t.Errorf("%s: %d packets were answered as too big", s.method, tooBig)
	}
	w.must(w.node.Stop())
}
