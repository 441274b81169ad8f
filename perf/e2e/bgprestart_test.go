package e2e

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestBGPOutlivesControlProcess upgrades a node and kills its control process
// under traffic: the router, which has graceful restart and BFD, keeps the route
// all the time.
func TestBGPOutlivesControlProcess(t *testing.T) {
	t.Parallel()
	w := newBGPWorld(t, `protocol bgp one4 from node4 { neighbor 198.18.0.1 as 65010; graceful restart on; bfd on; error wait time 1, 2; }`)
	n := w.first()
	n.extra = `restart_time = "60s"`
	// A detection time in which the control process can be killed and started
	// again on a busy machine.
	n.peer = "[[bgp.peer]]\naddress = \"198.18.0.254\"\nasn = 65000\nbfd = { enabled = true, multiplier = 50 }\n"
	w.serveBGP()
	w.startNode(n)
	w.hops(bgpVIP4, n.front4)
	steady := func() bool {
		out, err := w.bird.Ask(w.ctx, "show protocols all one4")
		w.must(err)
		peers, err := n.bgp(w.ctx)
		return err == nil && strings.Contains(out, "Established") && !strings.Contains(out, "graceful restart active") &&
			len(peers.Peers) == 1 && peers.Peers[0].State == "established" && peers.Peers[0].BFD != nil && peers.Peers[0].BFD.State == "up"
	}
	w.until("both sessions stand", steady)
	removed := w.watchRoute()
	tally := w.load(func() {
		w.must(n.Upgrade(w.ctx))
		w.until("the sessions stand again after an upgrade", steady)
		w.must(n.KillControl(w.ctx))
		w.until("the sessions stand again after the control process was killed", steady)
	})
	t.Logf("meanwhile %d answers", tally.Answers)
	if c := removed(); c != 0 {
		t.Errorf("the router has removed the route %d times", c)
	}
	w.must(n.Stop())
	w.hops(bgpVIP4)
}

// watchRoute counts how often the router's kernel removes the route to the IPv4
// VIP, from now until it is asked.
func (w *bgpWorld) watchRoute() (removed func() int) {
	w.t.Helper()
	ns, err := netns.GetFromName(w.topo.Router.Namespace)
	w.must(err)
	defer ns.Close()
	updates, done := make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	w.must(netlink.RouteSubscribeAt(ns, updates, done))
	count, over := 0, make(chan struct{})
	go func() {
		defer close(over)
		for u := range updates {
			if u.Type == unix.RTM_DELROUTE && u.Dst != nil && u.Dst.String() == bgpVIP4.String()+"/32" {
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
