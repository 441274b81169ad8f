package node

import (
	"net/netip"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
)

// flowFilter is an api.FlowFilter in terms of the flow table.
type flowFilter struct {
	service     uint32 // 0: any
	backends    map[uint32]bool
	client, vip *api.Ends
	state       flow.State // StateFree: all but affinity records
	proto       uint8      // 0: any
	over, under time.Duration
}

// flowFilter finds what a filter names.
func (n *Node) flowFilter(q *api.FlowFilter) (*flowFilter, error) {
	if q.IdleUnder > 0 && q.IdleOver >= q.IdleUnder {
		return nil, api.Errorf(api.BadRequest, "no flow is idle for more than %v and less than %v", q.IdleOver, q.IdleUnder)
	}
	f := &flowFilter{client: q.Client, vip: q.VIP, over: time.Duration(q.IdleOver), under: time.Duration(q.IdleUnder)}
	for _, s := range flow.States() {
		if s.String() == q.State {
			f.state = s
		}
	}
	f.proto = map[string]uint8{"": 0, "tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "sctp": packet.ProtoSCTP}[q.Protocol]
	var err error
	if f.service, err = n.serviceID(q.Service); err != nil {
		return nil, err
	}
	if q.Backend == "" {
		return f, nil
	}
	ids, err := n.backendIDs(q.Backend, q.Service)
	if err != nil {
		return nil, err
	}
	f.backends = make(map[uint32]bool, len(ids))
	for _, id := range ids {
		f.backends[id] = true
	}
	return f, nil
}

// serviceID finds a service by name; none is 0.
func (n *Node) serviceID(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if v := n.view(); v != nil {
		defer v.close()
		if svc := v.serviceNamed(name); svc != nil {
			return uint32(svc.ID), nil
		}
	}
	return 0, api.Errorf(api.NotFound, "there is no service %q", name)
}

// backendIDs finds the backends that are meant by a name, an address, or an
// address and port; only those of a service's pool unless it is empty.
func (n *Node) backendIDs(name, service string) (ids []uint32, err error) {
	wanted := func(v *view, b *fib.Backend, pool uint32) bool {
		return b.ID != 0 && (service == "" || b.Pool == pool) && v.isNamed(b, name)
	}
	for first, more := 0, true; more; first += recordsAtOnce {
		v := n.view()
		if v == nil {
			break
		}
		pool := uint32(fib.NoIndex)
		if service != "" {
			if svc := v.serviceNamed(service); svc != nil {
				pool = svc.Pool
			}
		}
		all := v.snapshot.Backends()
		last := min(first+recordsAtOnce, len(all))
		for i := first; i < last; i++ {
			if wanted(v, &all[i], pool) {
				ids = append(ids, uint32(all[i].ID))
			}
		}
		more = last < len(all)
		v.close()
	}
	switch {
	case len(ids) > 0:
		return ids, nil
	case service != "":
		return nil, api.Errorf(api.NotFound, "service %q has no backend %q", service, name)
	}
	return nil, api.Errorf(api.NotFound, "there is no backend %q", name)
}

// isNamed reports whether a backend is meant by a name.
func (v *view) isNamed(b *fib.Backend, name string) bool {
	if b.Name.Length != 0 && v.snapshot.Name(b.Name) == name {
		return true
	}
	addr := b.Addr.Netip()
	return addr.String() == name || b.Port != 0 && netip.AddrPortFrom(addr, b.Port).String() == name
}

// matches reports whether a flow is asked for.
func (f *flowFilter) matches(v *view, now flow.Time, fl *flow.Flow) bool {
	if fl.State == flow.StateAffinity != (f.state == flow.StateAffinity) || f.state != flow.StateFree && fl.State != f.state ||
		f.service != 0 && fl.ServiceID != f.service || f.backends != nil && !f.backends[fl.BackendID] ||
		f.proto != 0 && protocolOf(fl) != f.proto || !within(f.client, fl.Client, fl.ClientPort) {
		return false
	}
	if f.vip != nil {
		local := v.snapshot.LocalByID(fl.VIP)
		if local == nil || !within(f.vip, local.Addr, fl.VIPPort) {
			return false
		}
	}
	if f.over == 0 && f.under == 0 {
		return true
	}
	idle := time.Duration(v.idle(now, fl)) * time.Millisecond
	return idle >= f.over && (f.under == 0 || idle < f.under)
}

// within reports whether an address and port is among the ends that are asked
// for.
func within(e *api.Ends, addr packet.Addr, port uint16) bool {
	return e == nil || (e.Port == 0 || e.Port == port) && e.Prefix.Contains(addr.Netip())
}

// protocolOf is a flow's protocol; that of an affinity record's client.
func protocolOf(f *flow.Flow) uint8 {
	switch f.Proto {
	case flow.ProtoAffinityTCP:
		return packet.ProtoTCP
	case flow.ProtoAffinityUDP:
		return packet.ProtoUDP
	case flow.ProtoAffinitySCTP:
		return packet.ProtoSCTP
	}
	return f.Proto
}

// idle is how many milliseconds ago the table noted a packet of the flow, -1
// when its service is no more, and nobody knows its timeouts.
func (v *view) idle(now flow.Time, f *flow.Flow) int64 {
	svc := v.snapshot.ServiceByID(fib.ID(f.ServiceID))
	if svc == nil {
		return -1
	}
	left := int64(int32(f.Deadline - now))
	return max(0, int64(timeoutOf(v.snapshot.Timeouts(svc.Timeouts), svc, f))-left)
}

// timeoutOf is the idle time that a flow in its state is given.
func timeoutOf(t *fib.Timeouts, svc *fib.Service, f *flow.Flow) uint32 {
	switch {
	case f.State == flow.StateAffinity:
		return svc.AffinityMS
	case f.Proto == packet.ProtoSCTP:
		return t.SCTP
	}
	switch f.State {
	case flow.StateHalfOpen:
		return t.TCPSynSent
	case flow.StateEstablished:
		return t.TCPEstablished
	case flow.StateFinWait:
		return t.TCPFinWait
	case flow.StateClosed:
		return t.TCPClose
	case flow.StateStream:
		return t.UDPStream
	}
	return t.UDP
}
