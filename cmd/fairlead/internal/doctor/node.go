package doctor

import (
	"fmt"
	"maps"
	"slices"

	"fairlead/controlplane/api"
)

// node looks at what the running node says of itself.
func (d *doctor) node() {
	s := d.Node
	if s == nil {
		d.ok("node", "", "no node answers on the admin socket; the machine alone is examined")
		return
	}
	if s.Data.PID == 0 {
		d.add(Finding{Status: Error, Check: "node", Subject: s.Node, Found: "no data process forwards", Advice: "look in the log why it does not start", Command: "journalctl -u fairlead"})
	} else if g := s.Generation; g.Acknowledged < g.Published {
		d.add(Finding{Status: Error, Check: "node", Subject: s.Node, Found: fmt.Sprintf("a worker decides by generation %d, while %d is published", g.Acknowledged, g.Published),
			Advice: "ask again; when it stays, look in the log", Command: "fairlead status"})
	} else {
		d.ok("node", s.Node, "%d workers forward by generation %d", s.Data.Workers, g.Acknowledged)
	}
	if s.Data.Restarts > 0 {
		d.add(Finding{Status: Warning, Check: "restarts", Subject: s.Node, Found: fmt.Sprintf("the data process has ended by itself %d times since the node started", s.Data.Restarts),
			Advice: "look in the log why", Command: "journalctl -u fairlead"})
	}
	for _, c := range s.Conditions {
		status := Warning
		if c.Health == api.HealthFailing {
			status = Error
		}
		d.add(Finding{Status: status, Check: "condition", Subject: c.Subject, Found: c.Message, Advice: "see what the node says of it", Command: "fairlead status"})
	}
	d.losses()
	d.balance()
}

// losses are counters of frames that never reached a worker, or that it could
// not send, and what they mean.
var losses = map[string]struct{ what, advice string }{
	"rx_ring_full":    {"frames found a socket's ring full: the queue's worker does not keep up", "give it a CPU of its own (cpus of [dataplane]), the interface more queues, or raise ring_size"},
	"fill_ring_empty": {"frames found no memory to be put into: a worker was held up", "raise frames of [dataplane], and see who takes its CPU"},
	"rx_invalid":      {"descriptors were refused by the kernel, which is a bug", "report it"},
	"tx_invalid":      {"descriptors were refused by the kernel, which is a bug", "report it"},
	"oversize":        {"frames were too long for a frame of memory", "set frame_size = 4096 in [dataplane], or lower the MTU of who sends them"},
	"fail_dropped":    {"frames came while no socket was there for their queue", "see that every queue has a worker (queues of [[interface]]), and why the node was not running"},
}

// losses looks at what got lost on its way to the workers.
func (d *doctor) losses() {
	lost := false
	for _, counters := range []map[string]uint64{d.Node.Sockets, d.Node.Steering} {
		for _, name := range slices.Sorted(maps.Keys(counters)) {
			l, is := losses[name]
			if is && counters[name] > 0 {
				lost = true
				d.add(Finding{Status: Warning, Check: "losses", Subject: name, Found: fmt.Sprintf("%d %s", counters[name], l.what), Advice: l.advice})
			}
		}
	}
	if !lost {
		d.ok("losses", "", "no frame was lost on its way to a worker since the node started")
	}
	if n := d.Node.Ledger.Reasons["next_hop_unresolved"]; n > 0 {
		d.add(Finding{Status: Warning, Check: "losses", Subject: "next_hop_unresolved", Found: fmt.Sprintf("%d packets had no known way to their backend", n),
			Advice: "see which neighbours are not resolved", Command: "fairlead neighbors"})
	}
}

// Of enough packets, one worker should not get more than so many times its
// share.
const (
	enoughPackets = 100_000
	unevenFrom    = 3
)

// balance looks at how evenly workers are loaded.
func (d *doctor) balance() {
	var sum, most uint64
	busiest := 0
	for i, w := range d.Node.Workers {
		sum += w.Received
		if w.Received > most {
			most, busiest = w.Received, i
		}
	}
	if n := uint64(len(d.Node.Workers)); n > 1 && sum >= enoughPackets {
		if most > unevenFrom*sum/n || n == 2 && most > sum/100*95 {
			d.add(Finding{Status: Warning, Check: "worker_balance", Subject: fmt.Sprintf("worker %d", busiest), Found: fmt.Sprintf("it gets %d of %d packets, of %d workers: the interface does not spread them", most, sum, n),
				Advice: "see what the interface spreads packets by", Command: "ethtool -x INTERFACE; ethtool -n INTERFACE rx-flow-hash udp4"})
			return
		}
		d.ok("worker_balance", "", "%d workers get their shares of packets", n)
	}
}
