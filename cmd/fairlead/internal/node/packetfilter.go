package node

import (
	"slices"
	"strings"

	"fairlead/cmd/fairlead/internal/headers"
	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

// packetFilter makes a filter of what is asked for. all are the reasons that
// are meant when none is named, and of which those that are named must be.
func (n *Node) packetFilter(q *api.PacketFilter, all tap.Set, is string) (tap.Filter, error) {
	f := tap.Filter{Reasons: all}
	if len(q.Reasons) > 0 {
		f.Reasons = tap.Set{}
		for _, name := range q.Reasons {
			r, err := reasonNamed(name, all, is)
			if err != nil {
				return f, err
			}
			one := tap.SetOf(r)
			f.Reasons[0] |= one[0]
			f.Reasons[1] |= one[1]
		}
	}
	if q.Client != nil {
		net := q.Client.Masked()
		f.Client, f.ClientMask = packet.AddrFrom(net.Addr()), tap.Mask(net.Bits(), net.Addr().Is4())
	}
	var err error
	if f.Services[0], err = n.serviceID(q.Service); err != nil {
		return f, err
	}
	if q.Backend == "" {
		return f, nil
	}
	ids, err := n.backendIDs(q.Backend, q.Service)
	if err != nil {
		return f, err
	}
	if len(ids) > tap.MaxNames {
		return f, api.Errorf(api.BadRequest, "backend %q is in %d pools, which is more than the %d that can be looked at at a time: name a service too", q.Backend, len(ids), tap.MaxNames)
	}
	copy(f.Backends[:], ids)
	return f, nil
}

// reasonNamed finds a reason by its stable name.
func reasonNamed(name string, among tap.Set, is string) (reason.Reason, error) {
	var near []string
	for _, r := range reason.All() {
		switch known := r.String(); {
		case known == name && among.Has(r):
			return r, nil
		case known == name:
			return 0, api.Errorf(api.BadRequest, "%q is no reason to %s a packet", name, is)
		case name != "" && (strings.Contains(known, name) || strings.Contains(name, known)) && among.Has(r):
			near = append(near, known)
		}
	}
	if len(near) > 0 {
		slices.Sort(near)
		return 0, api.Errorf(api.BadRequest, "there is no reason %q; is it %s?", name, strings.Join(near, " or "))
	}
	return 0, api.Errorf(api.BadRequest, "there is no reason %q", name)
}

// packetLook writes packets for people.
type packetLook struct {
	node       *Node
	interfaces []string // by port
	queues     [][]queueOf
}

func (n *Node) packetLook() *packetLook {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &packetLook{node: n}
	for i := range n.ports {
		l.interfaces = append(l.interfaces, n.ports[i].Name)
	}
	for _, w := range n.workers {
		l.queues = append(l.queues, w.queues)
	}
	return l
}

// packets describes packets that workers have shown.
func (l *packetLook) packets(list []shown) []api.Packet {
	out := make([]api.Packet, len(list))
	for i := range list {
		out[i] = l.packet(&list[i])
	}
	l.name(list, out)
	return out
}

func (l *packetLook) packet(s *shown) api.Packet {
	p := api.Packet{
		Time: s.Time, Worker: s.Worker, Queue: -1, Action: s.Reason.Action().String(), Reason: s.Reason.String(), Sent: s.Sent, Altered: s.Altered,
		Length: int(s.Length), Summary: headers.Line(s.frame), Data: s.frame,
	}
	if int(s.Port) < len(l.interfaces) {
		p.Interface = l.interfaces[s.Port]
	}
	if s.Worker < len(l.queues) && int(s.Queue) < len(l.queues[s.Worker]) && !s.Sent {
		if q := l.queues[s.Worker][s.Queue]; q.port == int(s.Port) {
			p.Queue = q.queue
		}
	}
	return p
}

// name adds the names of services and backends.
func (l *packetLook) name(list []shown, out []api.Packet) {
	v := l.node.view()
	if v == nil {
		return
	}
	defer v.close()
	for i := range list {
		if svc := v.snapshot.ServiceByID(fib.ID(list[i].Service)); svc != nil {
			out[i].Service = v.snapshot.Name(svc.Name)
		}
		if b := v.snapshot.BackendByID(fib.ID(list[i].Backend)); b != nil {
			out[i].Backend = v.snapshot.BackendName(b)
		}
	}
}
