package api

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// FlowProvider looks at the flow table. Forwarding does not notice: records are
// copied without a lock, and slowly enough to leave the CPU to others.
type FlowProvider interface {
	// Flows lists flows, in no order.
	Flows(ctx context.Context, q FlowQuery, send func(FlowBatch) error) error
	// WatchFlows tells of flows that begin, change and end until ctx ends.
	WatchFlows(ctx context.Context, q FlowWatchQuery, send func(FlowEvents) error) error
	// CountFlows counts flows in groups.
	CountFlows(ctx context.Context, q FlowCountQuery) (FlowCounts, error)
}

// FlowFilter says which flows are asked for: those of which all of it is true.
type FlowFilter struct {
	Service   string   `query:"service" doc:"Only flows of this service."`
	Backend   string   `query:"backend" doc:"Only flows to this backend: its name, address, or address and port."`
	Client    *Ends    `query:"client" doc:"Only flows of this client: an address, a prefix, or an address and port."`
	VIP       *Ends    `query:"vip" doc:"Only flows to this address: an address, a prefix, or an address and port."`
	State     string   `query:"state" doc:"Only flows in this state. Without it, session affinity records are left out: they are no flows." enum:"half_open,established,fin_wait,closed,unreplied,stream,affinity"`
	Protocol  string   `query:"protocol" doc:"Only flows of this protocol." enum:"tcp,udp,sctp"`
	IdleOver  Duration `query:"idle_over" doc:"Only flows without a packet for longer than this." minimum:"0s"`
	IdleUnder Duration `query:"idle_under" doc:"Only flows with a packet within this time." minimum:"0s"`
}

// FlowQuery says which flows are listed.
type FlowQuery struct {
	FlowFilter
	Limit int `query:"limit" doc:"How many flows are listed at most; 0: all." default:"0" minimum:"0"`
}

// FlowWatchQuery says which flows are watched.
type FlowWatchQuery struct {
	FlowFilter
	Interval Duration `query:"interval" doc:"How often the table is looked through, at best." default:"1s" minimum:"100ms" maximum:"1m"`
}

// FlowCountQuery says which flows are counted, and how they are grouped.
type FlowCountQuery struct {
	FlowFilter
	By string `query:"by" doc:"What flows are grouped by." default:"service" enum:"service,backend,state,protocol,vip"`
}

// FlowBatch is some flows.
type FlowBatch struct {
	Flows []Flow `json:"flows"`
	More  bool   `json:"more,omitempty" doc:"There are more flows than were asked for. It is said in the last line."`
}

// Flow is one flow.
type Flow struct {
	Protocol  string `json:"protocol" enum:"tcp,udp,sctp"`
	Client    string `json:"client" doc:"Address and port."`
	VIP       string `json:"vip" doc:"Address and port that the client talks to."`
	Service   string `json:"service" doc:"Empty when the service is no more."`
	Method    string `json:"method,omitempty" enum:"nat,ipip,gue,l2"`
	Backend   string `json:"backend" doc:"Its name; empty when it is no more."`
	Address   string `json:"address,omitempty" doc:"The backend's address, with the port where it is known."`
	SNAT      string `json:"snat,omitempty" doc:"NAT: the address and port that the backend sees."`
	State     string `json:"state" enum:"half_open,established,fin_wait,closed,unreplied,stream,affinity"`
	IdleMS    int64  `json:"idleMs" doc:"Milliseconds since the last packet that the flow table noted. The packets of a flow that a memo carries are noted when its lease is renewed: up to ten seconds late."`
	ExpiresMS int64  `json:"expiresMs" doc:"Milliseconds until it is forgotten unless a packet comes first."`
	Interface string `json:"interface,omitempty" doc:"NAT: where replies to the client leave."`
	Via       string `json:"via,omitempty" doc:"NAT: MAC address that replies to the client are sent to."`
}

// FlowEvents is what was found when the table was looked through.
type FlowEvents struct {
	Time     time.Time   `json:"time"`
	Watching *int        `json:"watching,omitempty" doc:"In the first line: how many flows there were when the watch began."`
	Events   []FlowEvent `json:"events"`
}

// FlowEvent is what has become of a flow. A flow that begins and ends between
// two looks is not seen.
type FlowEvent struct {
	Event string `json:"event" enum:"new,changed,ended"`
	Was   string `json:"was,omitempty" doc:"The state before; for changed."`
	Flow
}

// FlowCounts is how many flows there are.
type FlowCounts struct {
	Total  uint64      `json:"total"`
	Groups []FlowCount `json:"groups" doc:"The most first."`
}

// FlowCount is how many flows are in a group.
type FlowCount struct {
	Group string `json:"group" doc:"Empty: of services or backends that are no more."`
	Pool  string `json:"pool,omitempty" doc:"For backends: the pool."`
	Flows uint64 `json:"flows"`
}

// Ends is one end of flows: all of a prefix, or one address and port.
type Ends struct {
	Prefix netip.Prefix
	Port   uint16 // 0: any
}

// UnmarshalText reads an address, a prefix, or an address and port.
func (e *Ends) UnmarshalText(text []byte) error {
	s := string(text)
	if p, err := netip.ParseAddrPort(s); err == nil && p.Port() != 0 {
		*e = Ends{netip.PrefixFrom(p.Addr().Unmap(), p.Addr().Unmap().BitLen()), p.Port()}
		return nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		*e = Ends{Prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}
		return nil
	}
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		*e = Ends{Prefix: p.Masked()}
		return nil
	}
	return Errorf(BadRequest, "%q is no address, prefix, or address and port, such as 203.0.113.7, 203.0.113.0/24, 203.0.113.7:4711 or [2001:db8::1]:4711", s)
}

// MarshalText writes it as UnmarshalText reads it.
func (e Ends) MarshalText() ([]byte, error) {
	switch {
	case e.Port != 0:
		return []byte(netip.AddrPortFrom(e.Prefix.Addr(), e.Port).String()), nil
	case e.Prefix.IsSingleIP():
		return []byte(e.Prefix.Addr().String()), nil
	}
	return []byte(e.Prefix.String()), nil
}

// String writes it as UnmarshalText reads it.
func (e Ends) String() string {
	text, _ := e.MarshalText()
	return string(text)
}

// query writes the filter as a query.
func (f *FlowFilter) query() map[string][]string {
	q := map[string][]string{}
	set := func(key, value string) {
		if value != "" {
			q[key] = []string{value}
		}
	}
	set("service", f.Service)
	set("backend", f.Backend)
	set("state", f.State)
	set("protocol", f.Protocol)
	if f.Client != nil {
		set("client", f.Client.String())
	}
	if f.VIP != nil {
		set("vip", f.VIP.String())
	}
	if f.IdleOver != 0 {
		set("idle_over", f.IdleOver.String())
	}
	if f.IdleUnder != 0 {
		set("idle_under", f.IdleUnder.String())
	}
	return q
}

// Flows calls send for the flows that are asked for, some at a time.
func (c *Client) Flows(ctx context.Context, q FlowQuery, send func(*FlowBatch) error) error {
	query := q.FlowFilter.query()
	query["limit"] = []string{strconv.Itoa(q.Limit)}
	return Each(ctx, c, http.MethodGet, "/v1/flows", query, nil, send)
}

// WatchFlows calls send for what becomes of flows until ctx ends.
func (c *Client) WatchFlows(ctx context.Context, q FlowWatchQuery, send func(*FlowEvents) error) error {
	query := q.FlowFilter.query()
	query["interval"] = []string{q.Interval.String()}
	return Each(ctx, c, http.MethodGet, "/v1/flows/watch", query, nil, send)
}

// CountFlows asks how many flows there are.
func (c *Client) CountFlows(ctx context.Context, q FlowCountQuery) (*FlowCounts, error) {
	query := q.FlowFilter.query()
	query["by"] = []string{q.By}
	var counts FlowCounts
	return &counts, c.Call(ctx, http.MethodGet, "/v1/flows/counts", query, nil, &counts)
}

func registerFlows(r *Router, node FlowProvider) {
	filters := "service=web&client=203.0.113.0/24&vip=198.18.0.10:80&protocol=tcp&state=established&idle_over=1s&idle_under=1h"
	Stream(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/flows", Role: ReadOnly, Tag: "flows", Summary: "The flows in the flow table",
		Description: strings.TrimSpace(`
In no order, up to a few hundred in a line. The table is read while workers go on changing it: a flow that is there all the
time is listed once, one that comes or goes meanwhile once or not at all, and none is put together from two. The listing takes
its time, so that forwarding does not notice; a few at a time can be under way.`),
		Examples: []Example{{Path: "/v1/flows"}, {Path: "/v1/flows?limit=10&" + filters}},
	}, node.Flows)
	Stream(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/flows/watch", Role: ReadOnly, Tag: "flows", Summary: "What becomes of flows, as it happens",
		Description: "The table is looked through again and again and compared with what it was. The first line says how many flows there were; the next come when something has changed.",
		Examples:    []Example{{Path: "/v1/flows/watch"}, {Path: "/v1/flows/watch?interval=200ms&" + filters}},
	}, node.WatchFlows)
	Handle(r, Endpoint{
		Method: http.MethodGet, Path: "/v1/flows/counts", Role: ReadOnly, Tag: "flows", Summary: "How many flows there are",
		Examples: []Example{{Path: "/v1/flows/counts"}, {Path: "/v1/flows/counts?by=backend&" + filters}},
	}, node.CountFlows)
}
