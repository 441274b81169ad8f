package api

import (
	"context"
)

func fixedFlow() Flow {
	return Flow{
		Protocol: "tcp", Client: "203.0.113.7:4711", VIP: "198.18.0.10:80", Service: "web", Method: "nat", Backend: "web1", Address: "198.18.10.101:8080",
		SNAT: "198.18.10.2:1024", State: "established", IdleMS: 1200, ExpiresMS: 3_598_800, Interface: "eth0", Via: "02:00:00:00:00:01",
	}
}

func (f *fixed) Flows(_ context.Context, q FlowQuery, send func(FlowBatch) error) error {
	if err := send(FlowBatch{Flows: []Flow{fixedFlow()}}); err != nil {
		return err
	}
	return send(FlowBatch{More: q.Limit == 1})
}

func (f *fixed) WatchFlows(_ context.Context, _ FlowWatchQuery, send func(FlowEvents) error) error {
	one := 1
	if err := send(FlowEvents{Time: fixedTime, Watching: &one}); err != nil {
		return err
	}
	return send(FlowEvents{Time: fixedTime, Events: []FlowEvent{
		{Event: "new", Flow: fixedFlow()}, {Event: "changed", Was: "half_open", Flow: fixedFlow()}, {Event: "ended", Flow: fixedFlow()},
	}})
}

func (f *fixed) CountFlows(context.Context, FlowCountQuery) (FlowCounts, error) {
	return FlowCounts{Total: 3, Groups: []FlowCount{{Group: "web1", Pool: "web", Flows: 2}, {Flows: 1}}}, nil
}

func fixedDrops() []DropCount {
	return []DropCount{{Where: "worker", Reason: "too_big", Packets: 3, Rate: 1.5}, {Where: "xdp", Reason: "denied", Packets: 1}}
}

func (f *fixed) Drops(context.Context) (Drops, error) {
	return Drops{Reasons: fixedDrops(), Services: []ServiceDrops{{Service: "web", Packets: 3}}}, nil
}

func fixedPacket() Packet {
	return Packet{
		Time: fixedTime, Interface: "eth0", Action: "drop", Reason: "tcp_flags_invalid", Service: "web", Length: 60,
		Summary: "203.0.113.7:4711 > 198.18.0.10:80 tcp [FS] seq 17 win 65535 (ttl 64, length 40)", Data: []byte{1, 2, 3},
	}
}

func (f *fixed) WatchDrops(_ context.Context, _ DropQuery, send func(DropReport) error) error {
	if err := send(DropReport{Time: fixedTime, Begun: true}); err != nil {
		return err
	}
	return send(DropReport{Time: fixedTime, Reasons: fixedDrops(), Samples: []Packet{fixedPacket()}, Missed: 2})
}

func (f *fixed) Capture(_ context.Context, _ CaptureQuery, send func(CaptureChunk) error) error {
	for _, c := range []CaptureChunk{
		{Begun: &CaptureBegin{Interfaces: []string{"eth0", "eth1"}, Memos: "off"}},
		{Packets: []Packet{fixedPacket()}},
		{End: &CaptureEnd{Why: "count", Matched: 2, Frames: 1, Lost: 1}},
	} {
		if err := send(c); err != nil {
			return err
		}
	}
	return nil
}
