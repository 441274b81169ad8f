package node

import (
	"context"
	"errors"
	"net/netip"

	"fairlead/controlplane/api"
	"fairlead/dataplane/explain"
	"fairlead/dataplane/packet"
)

var explainable = map[string]uint8{"tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "sctp": packet.ProtoSCTP}

// Explain implements api.Explainer.
func (n *Node) Explain(ctx context.Context, q api.ExplainQuery) (out api.Explanation, err error) {
	for _, end := range []netip.AddrPort{q.Client, q.Destination} {
		if end.Addr().Zone() != "" || end.Addr().Is4In6() {
			return out, api.Errorf(api.Invalid, "%s: an address with a zone, and an IPv4 address in IPv6 form, is not forwarded", end)
		}
	}
	if out.Explanation, err = n.explain(explain.Query{Client: q.Client, Protocol: explainable[q.Protocol], Destination: q.Destination}); err != nil {
		return out, err
	}
	err = n.Flows(ctx, flowQuery(&q), func(batch api.FlowBatch) error {
		for i := range batch.Flows {
			if f := &batch.Flows[i]; out.Flow == nil && f.State != "affinity" {
				out.Flow = f
			}
		}
		return nil
	})
	return out, err
}

// explain explains a flow by the image in force.
func (n *Node) explain(q explain.Query) (explain.Explanation, error) {
	v := n.view()
	if v == nil {
		return explain.Explanation{}, api.Errorf(api.Unavailable, "the node does not forward yet")
	}
	defer v.close()
	e, err := explain.Explain(v.snapshot, q)
	if errors.Is(err, explain.ErrQuery) {
		return explain.Explanation{}, api.Errorf(api.Invalid, "%v", err)
	}
	if err != nil {
		return explain.Explanation{}, err
	}
	return *e, nil
}

// flowQuery asks for the one flow.
func flowQuery(q *api.ExplainQuery) api.FlowQuery {
	end := func(a netip.AddrPort) *api.Ends {
		return &api.Ends{Prefix: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), Port: a.Port()}
	}
	return api.FlowQuery{FlowFilter: api.FlowFilter{Client: end(q.Client), VIP: end(q.Destination), Protocol: q.Protocol}, Limit: 2}
}
