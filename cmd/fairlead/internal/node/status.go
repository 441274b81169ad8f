package node

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// Version is the version of the binary, set when it is built.
var Version = "dev"

// servicesAtOnce is how many services are looked at before a change may come in
// between.
const servicesAtOnce = 16

// lookAt calls f for the services in some slots from first on, and reports
// whether there are slots after these.
func (n *Node) lookAt(first int, f func(*view, *fib.Service)) (more bool) {
	v := n.view()
	if v == nil {
		return false
	}
	defer v.close()
	services := v.snapshot.Services()
	last := min(first+servicesAtOnce, len(services))
	for i := first; i < last; i++ {
		if services[i].ID != 0 {
			f(v, &services[i])
		}
	}
	return last < len(services)
}

// Summary implements api.StatusProvider.
func (n *Node) Summary(context.Context) (api.Summary, error) {
	s, missing := n.summary()
	s.Counts = n.counts(&s)
	n.summarizeDesired(&s)
	n.judge(&s, missing)
	return s, nil
}

// summary is what the node knows of itself, and the interfaces that are missing.
func (n *Node) summary() (s api.Summary, missing []string) {
	r := n.reconciler.Status()
	n.mu.Lock()
	defer n.mu.Unlock()
	s = api.Summary{
		Node: n.cfg.Node.Name, Version: Version, UptimeMS: time.Since(n.started).Milliseconds(),
		Generation: api.Generation{Published: r.Generation}, Warnings: slices.Concat(r.Warnings, n.conflicts()), Steering: n.steering(), Sockets: n.socketStatistics(),
	}
	if n.data != nil {
		s.Data = api.DataProcess{
			PID: n.data.ready.PID, UID: n.data.ready.UID, Workers: len(n.workers), Restarts: n.restarts,
			Upgrades: n.upgrades, Standby: n.standby(), Version: n.data.ready.Version,
		}
	}
	for i := range n.ports {
		p := &n.ports[i]
		s.Interfaces = append(s.Interfaces, api.Interface{Name: p.Name, Index: p.index, MAC: net.HardwareAddr(p.mac[:]).String(), MTU: p.mtu, Queues: p.queues})
		if p.index == 0 {
			missing = append(missing, p.Name)
		}
	}
	if n.counters == nil || n.image.snapshot == nil {
		return s, missing
	}
	s.Generation.Acknowledged = ^uint64(0)
	for i := range n.counters.Workers {
		l := n.counters.Workers[i].Ledger
		s.Generation.Acknowledged = min(s.Generation.Acknowledged, atomic.LoadUint64(&l.Generation))
		s.Workers = append(s.Workers, api.Worker{Received: l.Received, Transmitted: l.Sum(reason.Transmit), Dropped: l.Sum(reason.Drop)})
	}
	s.Ledger = n.ledger()
	return s, missing
}

func (n *Node) ledger() api.Ledger {
	total := n.counters.Total()
	total.Add(&n.past)
	l := api.Ledger{
		Received: total.Received, Created: total.Created, InFlight: total.InFlight,
		Transmitted: total.Sum(reason.Transmit), Passed: total.Sum(reason.Pass), Dropped: total.Sum(reason.Drop),
		Reasons: make(map[string]uint64),
	}
	l.Difference = int64(l.Received + l.Created - l.Transmitted - l.Passed - l.Dropped - l.InFlight)
	for r, count := range total.Ended {
		if count > 0 {
			l.Reasons[reason.Reason(r).String()] = count
		}
	}
	return l
}

func (n *Node) steering() map[string]uint64 {
	all, err := n.steer.Counters()
	if err != nil {
		n.log.Warn("counters of the XDP program", "error", err)
		return nil
	}
	sum := make(map[string]uint64)
	for _, c := range all {
		sum["passed"] += c.Passed
		sum["redirected"] += c.Redirected
		sum["fail_dropped"] += c.FailDropped
		sum["fail_passed"] += c.FailPassed
		sum["denied"] += c.Denied
		sum["oversize"] += c.Oversize
		sum["memo"] += c.Memo
		sum["shed"] += c.Shed
	}
	return sum
}

// socketStatistics are frames that the kernel could not hand to a socket: they
// never reached a worker, so no ledger has them.
func (n *Node) socketStatistics() map[string]uint64 {
	sum := make(map[string]uint64)
	for _, w := range n.workers {
		for _, s := range w.sockets {
			k, err := s.Statistics()
			if err != nil {
				n.log.Debug("statistics of a socket", "error", err)
				continue
			}
			sum["rx_dropped"] += k.RXDropped
			sum["rx_ring_full"] += k.RXRingFull
			sum["fill_ring_empty"] += k.FillRingEmpty
			sum["rx_invalid"] += k.RXInvalid
			sum["tx_invalid"] += k.TXInvalid
		}
	}
	return sum
}

func protocolName(proto uint8) string {
	switch proto {
	case packet.ProtoTCP:
		return "tcp"
	case packet.ProtoUDP:
		return "udp"
	case packet.ProtoSCTP:
		return "sctp"
	}
	return strconv.Itoa(int(proto))
}

func portsText(svc *fib.Service) string {
	switch {
	case svc.AllPorts():
		return "all"
	case svc.PortFirst == svc.PortLast:
		return strconv.Itoa(int(svc.PortFirst))
	}
	return fmt.Sprintf("%d-%d", svc.PortFirst, svc.PortLast)
}
