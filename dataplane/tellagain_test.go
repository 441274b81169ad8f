package dataplane_test

import (
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// TestFlowsMoveBetweenNodes has a flow be the node's that has seen it last: the
// others keep it as long as that one tells of it, and it tells that the flow has
// come to it.
func TestFlowsMoveBetweenNodes(t *testing.T) {
	n, control := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	n.rebase()
	n.add("198.18.10.14:80")
	i, backend := 0, uint32(0) // a connection that is an exception
	for backend != 4 {
		i++
		backend = n.tcp(client(i), pooledVIP, syn).Backend
	}
	n.tcp(client(i), pooledVIP, ack)
	told := hear(control)
	if len(told) != 1 {
		t.Fatalf("told of %d flows: want the exception", len(told))
	}
	at := func() *flow.Flow {
		t.Helper()
		key := flow.Key{Peer: told[0].Client, Local: told[0].VIP, PeerPort: told[0].ClientPort, LocalPort: 80, Proto: packet.ProtoTCP}
		var f flow.Flow
		if _, _, ok := n.worker.Flows.Lookup(&key, n.worker.Flows.Hash(&key), n.now, &f); !ok {
			t.Fatal("the flow is forgotten")
		}
		return &f
	}
	give := func(remaining, slack uint32) *flow.Flow {
		t.Helper()
		r := told[0]
		r.Remaining, r.Slack = remaining, slack
		control.Give(&r)
		n.worker.Step()
		return at()
	}

	const timeout = 3_600_000
	n.now += 1_000_000
	if f := give(timeout-1_000_000+1500, 60_000); f.Told() {
		t.Errorf("a peer that has seen the flow no later has it: told %v, %d ms left", f.Told(), f.Deadline-n.now)
	}
	if f := give(timeout-500_000, 60_000); !f.Told() || f.Deadline != n.now+timeout-500_000+60_000 {
		t.Errorf("a peer that has seen the flow later does not have it: told %v, %d ms left", f.Told(), f.Deadline-n.now)
	}
	if f := give(1000, 1000); f.Deadline != n.now+2000 {
		t.Errorf("what a peer tells of its flow is not followed: %d ms left", f.Deadline-n.now)
	}
	if got := hear(control); len(got) != 0 {
		t.Errorf("told of %d flows that are another's", len(got))
	}
	if v := n.tcp(client(i), pooledVIP, ack); v.Backend != 4 || v.Reason != reason.ForwardFlow {
		t.Errorf("a packet of it goes to %d by %v", v.Backend, v.Reason)
	}
	if got := hear(control); len(got) != 1 || got[0].State != flow.StateEstablished || got[0].Remaining != timeout || at().Told() {
		t.Errorf("told %+v of a flow that has come here", got)
	}
	n.tcp(client(i), pooledVIP, ack)
	if got := hear(control); len(got) != 0 {
		t.Errorf("told %+v of a flow that stays", got)
	}
}

// TestOtherBase has peers told of flows that the other base would send elsewhere,
// and packets go by the first alone.
func TestOtherBase(t *testing.T) {
	n, control := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	n.rebase()
	old := n.b.Pools[0]
	n.add("198.18.10.14:80")
	p := &n.b.Pools[0]
	p.Also, p.AlsoSize = p.Table, p.TableSize // what the pool is now
	p.Base, p.BaseSize = old.Base, old.BaseSize
	n.publish()
	s := n.snaps.Current()
	differ := 0
	for i := range 300 {
		hash := s.FlowHash(addr(client(i)[:len(client(i))-5]), addr("198.18.100.1"), uint16(1024+i), 80, packet.ProtoTCP)
		base, _ := s.PickBase(s.Pool(0), hash)
		also, ok := s.PickAlso(s.Pool(0), hash)
		if !ok {
			t.Fatal("there is no other base")
		}
		v := n.tcp(client(i), pooledVIP, ack) // the middle of a connection
		n.tcp(client(i), pooledVIP, ack)
		if v.Backend != base {
			t.Fatalf("connection %d goes to backend %d, the base has %d", i, v.Backend, base)
		}
		want := 0
		if base != also {
			want = 1
			differ++
		}
		if got := hear(control); len(got) != want {
			t.Fatalf("told of %d flows, at backend %d where the other base has %d", len(got), base, also)
		}
	}
	if differ == 0 {
		t.Error("the bases never differed")
	}
}
