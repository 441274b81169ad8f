package node

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
)

// flowsInBatch is how many flows a line of a listing has at most.
const flowsInBatch = 256

// errEnough ends a scan when nothing more is wanted.
var errEnough = errors.New("enough")

// Flows implements api.FlowProvider.
func (n *Node) Flows(ctx context.Context, q api.FlowQuery, send func(api.FlowBatch) error) error {
	give, err := n.flowTable.take()
	if err != nil {
		return err
	}
	defer give()
	filter, err := n.flowFilter(&q.FlowFilter)
	if err != nil {
		return err
	}
	look := n.flowLook()
	var batch api.FlowBatch
	listed := 0
	flush := func() error {
		for len(batch.Flows) > 0 {
			some := batch.Flows[:min(flowsInBatch, len(batch.Flows))]
			if err := send(api.FlowBatch{Flows: some}); err != nil {
				return err
			}
			batch.Flows = batch.Flows[len(some):]
		}
		batch.Flows = nil
		return nil
	}
	err = n.scan(ctx, func(v *view, _ int, now flow.Time, f *flow.Flow) error {
		if !filter.matches(v, now, f) {
			return nil
		}
		if q.Limit > 0 && listed == q.Limit {
			batch.More = true
			return errEnough
		}
		listed++
		batch.Flows = append(batch.Flows, look.flow(v, now, f))
		return nil
	}, flush)
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	more := batch.More
	if err := flush(); err != nil || !more {
		return err
	}
	return send(api.FlowBatch{More: true})
}

// flowLook writes flows for people.
type flowLook struct {
	table      *flowTable
	interfaces []string // by port
}

func (n *Node) flowLook() *flowLook {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &flowLook{table: n.flowTable}
	for i := range n.ports {
		l.interfaces = append(l.interfaces, n.ports[i].Name)
	}
	return l
}

// flow describes a flow that scan has found.
func (l *flowLook) flow(v *view, now flow.Time, f *flow.Flow) api.Flow {
	out := api.Flow{
		Protocol: protocolName(protocolOf(f)), Client: endOf(f.Client.Netip(), f.ClientPort), VIP: v.localEnd(f.VIP, f.VIPPort),
		State: f.State.String(), IdleMS: v.idle(now, f), ExpiresMS: int64(int32(f.Deadline - now)),
	}
	if svc := v.snapshot.ServiceByID(fib.ID(f.ServiceID)); svc != nil {
		out.Service, out.Method = v.snapshot.Name(svc.Name), svc.Method.String()
	}
	if b := v.snapshot.BackendByID(fib.ID(f.BackendID)); b != nil {
		out.Backend, out.Address = v.snapshot.BackendName(b), endOf(b.Addr.Netip(), b.Port)
	}
	if f.SNAT != 0 {
		out.Address, out.SNAT = endOf(f.Backend.Netip(), f.BackendPort), v.localEnd(f.SNAT, f.SNATPort)
	}
	if port, mac, ok := l.table.reader.Peer(f.Via); ok && int(port) < len(l.interfaces) {
		out.Interface, out.Via = l.interfaces[port], net.HardwareAddr(mac[:]).String()
	}
	return out
}

// endOf writes an address, and the port where there is one.
func endOf(addr netip.Addr, port uint16) string {
	if port == 0 {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, port).String()
}

// localEnd writes an address of ours by its ID, empty when it is no more.
func (v *view) localEnd(id, port uint16) string {
	if l := v.snapshot.LocalByID(id); l != nil {
		return endOf(l.Addr.Netip(), port)
	}
	return ""
}
