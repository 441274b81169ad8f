package dataplane_test

import (
	"fmt"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tell"
)

// told is a node whose peers are told of flows, with the control process's side
// of that.
func told(t testing.TB, services ...testService) (*node, *tell.Control) {
	t.Helper()
	n := newNode(t, services...)
	mem := make([]byte, tell.Size(1))
	control, err := tell.NewControl(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	workers, err := tell.NewWorkers(mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	n.worker.Tells = workers[0]
	return n, control
}

func hear(c *tell.Control) (all []tell.Record) {
	c.Hear(func(r *tell.Record) { all = append(all, *r) })
	return all
}

// rebase makes the first pool's present table its base.
func (n *node) rebase() {
	p := &n.b.Pools[0]
	p.Base, p.BaseSize = p.Table, p.TableSize
	n.publish()
}

// client is the i-th client.
func client(i int) string { return fmt.Sprintf("198.18.0.%d:%d", 1+i%250, 1024+i) }

// TestUnknownPacketsGoByTheBase has packets that no flow is known of go by the
// base where they are of connections that began elsewhere, and by the table where
// they begin one or cannot tell.
func TestUnknownPacketsGoByTheBase(t *testing.T) {
	n, _ := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	n.rebase()
	before := make([]uint32, 100)
	for i := range before {
		before[i] = n.tcp(client(i), pooledVIP, syn).Backend
	}
	n.b.Backends[1].Flags |= fib.BackendDraining
	n.add("198.18.10.14:80")

	other, _ := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil)) // which knows no flow
	other.b = n.b
	other.publish()
	moved := 0
	for i := range before {
		if v := other.tcp(client(i), pooledVIP, ack); v.Backend != before[i] || v.Reason != reason.ForwardNew {
			t.Fatalf("the middle of connection %d goes to backend %d by %v, it began at %d", i, v.Backend, v.Reason, before[i])
		}
		v := other.tcp(client(1000+i), pooledVIP, syn)
		if v.Backend == 1 {
			t.Fatal("a new connection went to a draining backend")
		}
		if v.Backend == 4 {
			moved++
		}
	}
	if moved == 0 {
		t.Error("no new connection went to the new backend")
	}

	// A backend that is dead answers for nothing: the table's takes its place.
	n.b.Backends[1].Flags |= fib.BackendDown
	third, _ := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	third.b = n.b
	third.publish()
	for i := range before {
		v := third.tcp(client(i), pooledVIP, ack)
		if before[i] == 1 && (v.Backend == 1 || v.Action != reason.Transmit) || before[i] != 1 && v.Backend != before[i] {
			t.Fatalf("connection %d, which began at backend %d, goes to %d by %v", i, before[i], v.Backend, v.Reason)
		}
	}
}

// TestExceptionsAreTold has peers told of the connections that they would send
// elsewhere, once they are established and when they end, and of no others.
func TestExceptionsAreTold(t *testing.T) {
	n, control := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	n.tcp(client(0), pooledVIP, syn)
	n.tcp(client(0), pooledVIP, ack)
	if got := hear(control); len(got) != 0 {
		t.Fatalf("told of %d flows of a pool without a base", len(got))
	}
	n.rebase()
	n.add("198.18.10.14:80")
	exceptions := 0
	for i := 1; i < 100; i++ {
		base, _ := n.snaps.Current().PickBase(n.snaps.Current().Pool(0), n.snaps.Current().FlowHash(addr(fmt.Sprintf("198.18.0.%d", 1+i%250)), addr("198.18.100.1"), uint16(1024+i), 80, packet.ProtoTCP))
		v := n.tcp(client(i), pooledVIP, syn)
		if got := hear(control); len(got) != 0 {
			t.Fatal("told of a connection that is not established")
		}
		n.tcp(client(i), pooledVIP, ack)
		n.tcp(client(i), pooledVIP, ack)
		got := hear(control)
		if v.Backend == base {
			if len(got) != 0 {
				t.Fatalf("told of a connection that everybody knows: %+v", got)
			}
			continue
		}
		exceptions++
		if len(got) != 1 || got[0].State != flow.StateEstablished || got[0].BackendID != uint32(n.b.Backends[v.Backend].ID) || got[0].ClientPort != uint16(1024+i) || got[0].Remaining != 3_600_000 {
			t.Fatalf("told %+v of a connection at backend %d that the base has at %d", got, v.Backend, base)
		}
		n.tcp(client(i), pooledVIP, fin)
		if got := hear(control); len(got) != 1 || got[0].State != flow.StateFinWait || got[0].Remaining != 120_000 {
			t.Fatalf("told %+v of a connection that its client ends", got)
		}
		n.tcp(client(i), pooledVIP, rst)
		if got := hear(control); len(got) != 1 || got[0].State != flow.StateClosed {
			t.Fatalf("told %+v of a connection that has ended", got)
		}
	}
	if exceptions < 10 || exceptions > 50 {
		t.Errorf("%d of 99 connections are exceptions after one backend was added to three", exceptions)
	}
}

// TestToldFlowsAreKept has a node keep what peers tell it: packets go where the
// peer says, until what packets have shown here is more than a guess.
func TestToldFlowsAreKept(t *testing.T) {
	n, control := told(t, pooled(fib.MethodIPIP, packet.ProtoTCP, nil))
	n.rebase()
	s := n.snaps.Current()
	record := func(i, backend int) *tell.Record {
		return &tell.Record{
			Client: addr(fmt.Sprintf("198.18.0.%d", 1+i%250)), ClientPort: uint16(1024 + i), VIP: n.b.Services[1].Local, VIPPort: 80, Proto: packet.ProtoTCP,
			ServiceID: uint32(n.b.Services[1].ID), BackendID: uint32(n.b.Backends[backend].ID), State: flow.StateEstablished, Remaining: 60_000,
		}
	}
	give := func(r *tell.Record) {
		t.Helper()
		if !control.Give(r) {
			t.Fatal("the ring is full")
		}
		n.worker.Step()
	}
	base := func(i int) int {
		slot, _ := s.PickBase(s.Pool(0), s.FlowHash(record(i, 1).Client, addr("198.18.100.1"), uint16(1024+i), 80, packet.ProtoTCP))
		return int(slot)
	}
	another := func(i int) int { return 1 + base(i)%3 }

	give(record(1, another(1)))
	if v := n.tcp(client(1), pooledVIP, ack); int(v.Backend) != another(1) || v.Reason != reason.ForwardFlow {
		t.Errorf("a connection that a peer told of goes to backend %d by %v, it is at %d", v.Backend, v.Reason, another(1))
	}
	// It is this node's now: a peer that is late changes nothing.
	give(record(1, base(1)))
	if v := n.tcp(client(1), pooledVIP, ack); int(v.Backend) != another(1) {
		t.Errorf("a late peer moved a connection to backend %d", v.Backend)
	}
	late := record(1, another(1))
	late.State = flow.StateClosed
	give(late)
	if v := n.tcp(client(1), pooledVIP, ack); v.Reason != reason.ForwardFlow {
		t.Errorf("a late peer ended a connection: %v", v.Reason)
	}

	// One that was met in its middle is corrected, memo and all.
	for range 3 {
		n.tcp(client(2), pooledVIP, ack)
	}
	give(record(2, another(2)))
	for range 3 {
		if v := n.tcp(client(2), pooledVIP, ack); int(v.Backend) != another(2) {
			t.Errorf("a connection that was guessed goes to backend %d after a peer told of %d", v.Backend, another(2))
		}
	}

	// A peer may say another thing later, and that it is over.
	give(record(3, another(3)))
	give(record(3, base(3)))
	again := record(3, another(3))
	give(again)
	again.State = flow.StateClosed
	give(again)
	if v := n.tcp(client(3), pooledVIP, ack); int(v.Backend) != base(3) || v.Reason != reason.ForwardNew {
		t.Errorf("a connection that is over goes to backend %d by %v", v.Backend, v.Reason)
	}

	// It is forgotten when its time is up.
	give(record(4, another(4)))
	n.now += 60_000
	if v := n.tcp(client(4), pooledVIP, ack); v.Reason != reason.ForwardNew {
		t.Errorf("a connection that nobody has told of for a minute: %v", v.Reason)
	}

	// What this node cannot use is refused and counted.
	for i, spoil := range []func(*tell.Record){
		func(r *tell.Record) { r.ServiceID++ },
		func(r *tell.Record) { r.BackendID += 1 << fib.SlotBits },
		func(r *tell.Record) { r.VIP++ },
	} {
		r := record(10+i, 1)
		spoil(r)
		give(r)
	}
	if st := control.Stats(); st.Refused != 3 || st.Given != st.Taken {
		t.Errorf("three records of no use: %+v", st)
	}
}

// TestNATFlowsAreNotTold has nobody told of flows whose bindings are this node's
// own, nor take them.
func TestNATFlowsAreNotTold(t *testing.T) {
	n, control := told(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	n.rebase()
	n.add("198.18.10.14:80")
	for i := range 50 {
		n.tcp(client(i), pooledVIP, syn)
		n.tcp(client(i), pooledVIP, ack)
	}
	if got := hear(control); len(got) != 0 {
		t.Errorf("told of %d NAT flows", len(got))
	}
	control.Give(&tell.Record{Client: addr("198.18.0.1"), ClientPort: 9, VIP: n.b.Services[1].Local, VIPPort: 80, Proto: packet.ProtoTCP,
		ServiceID: uint32(n.b.Services[1].ID), BackendID: uint32(n.b.Backends[1].ID), State: flow.StateEstablished, Remaining: 1000})
	n.worker.Step()
	if st := control.Stats(); st.Refused != 1 {
		t.Errorf("a NAT flow that a peer tells of: %+v", st)
	}
}

// TestKnown compares what is known everywhere with what a node that knows no flow
// does, for connections and for what has none.
func TestKnown(t *testing.T) {
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP} {
		n, _ := told(t, pooled(fib.MethodGUE, proto, nil))
		n.rebase()
		n.add("198.18.10.14:80")
		s := n.snaps.Current()
		known := 0
		for i := range 300 {
			f := flow.Flow{Client: addr(fmt.Sprintf("198.18.0.%d", 1+i%250)), ClientPort: uint16(2000 + i), VIP: n.b.Services[1].Local, VIPPort: 80,
				Proto: proto, ServiceID: uint32(n.b.Services[1].ID), State: flow.StateEstablished}
			var v dataplane.Verdict
			if proto == packet.ProtoTCP {
				v = n.tcp(fmt.Sprintf("198.18.0.%d:%d", 1+i%250, 2000+i), pooledVIP, ack)
			} else {
				v = n.udp(fmt.Sprintf("198.18.0.%d:%d", 1+i%250, 2000+i), pooledVIP)
			}
			for slot := uint32(1); slot <= 4; slot++ {
				f.BackendID = uint32(n.b.Backends[slot].ID)
				if got := dataplane.Known(s, &f); got != (slot == v.Backend) {
					t.Fatalf("protocol %d: a flow at backend %d is known: %v, a node without it sends it to %d", proto, slot, got, v.Backend)
				}
			}
			known++
		}
		if known == 0 {
			t.Error("nothing was compared")
		}
	}
}
