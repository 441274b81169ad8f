package dataplane_test

import (
	"fmt"
	"sync"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// lane is one of several workers that share a flow table and a FIB.
type lane struct {
	pool   *nic.Pool
	queues [2]*nictest.Queue
	worker *dataplane.Worker
	ledger *ledger.Ledger
}

func newLanes(t testing.TB, count int, svc ...testService) []*lane {
	t.Helper()
	image, err := testFIB(svc).Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	snaps := new(dataplane.Publisher)
	snaps.Publish(s)
	table, err := flow.New(make([]byte, flow.Size(100_000)), flow.Config{Flows: 100_000, Workers: count})
	if err != nil {
		t.Fatal(err)
	}
	lanes := make([]*lane, count)
	for i := range lanes {
		l := &lane{}
		if l.pool, err = nic.NewPool(make([]byte, 1024*2048), 2048, 256); err != nil {
			t.Fatal(err)
		}
		var queues []dataplane.PortQueue
		for port := range l.queues {
			l.queues[port] = nictest.New(l.pool, nictest.Config{Port: uint16(port), FillSize: 256})
			queues = append(queues, dataplane.PortQueue{Port: uint16(port), Queue: l.queues[port]})
		}
		counters := ledger.New(256, 256)
		l.ledger = counters.Ledger
		l.worker, err = dataplane.NewWorker(dataplane.Config{Pool: l.pool, Queues: queues, Flows: table, Index: i, Snapshots: snaps,
			Counters: counters, Clock: func() flow.Time { return 1000 }, HoldMost: 16})
		if err != nil {
			t.Fatal(err)
		}
		l.worker.Step()
		lanes[i] = l
	}
	return lanes
}

// TestReplyOnAnotherWorker opens flows on several workers at once and has each
// answered on another one than it was opened on: the clients get every reply,
// and no two flows share an outside tuple.
func TestReplyOnAnotherWorker(t *testing.T) {
	const workers, flows = 4, 500
	lanes := newLanes(t, workers, testService{vip: "198.18.100.1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT,
		backends: []string{"198.18.10.11:8080"}})
	sent := make([][][]byte, workers)
	each(lanes, func(i int, l *lane) {
		for f := range flows {
			src := fmt.Sprintf("203.0.113.%d:%d", 10+i, 2000+f)
			l.queues[0].Inject(fromClient(src, "198.18.100.1:80", packettest.Flags(packet.TCPFlagSYN)))
			l.worker.Step()
		}
		sent[i] = l.queues[1].Sent()
	})
	outside := make(map[string]string)
	for i := range sent {
		if len(sent[i]) != flows {
			t.Fatalf("worker %d sent %d of %d SYNs: %v", i, len(sent[i]), flows, lanes[i].ledger.Ended)
		}
		for f, frame := range sent[i] {
			var info packet.Info
			if r := packet.Parse(frame, &info); r != reason.None {
				t.Fatal(r)
			}
			tuple, client := endpoint(info.Src, info.SrcPort), fmt.Sprintf("203.0.113.%d:%d", 10+i, 2000+f)
			if other, taken := outside[tuple]; taken {
				t.Fatalf("%s and %s both leave from %s", client, other, tuple)
			}
			outside[tuple] = client
		}
	}
	each(lanes, func(i int, l *lane) {
		for _, frame := range sent[(i+1)%workers] {
			l.queues[1].Inject(reverse(frame))
			l.worker.Step()
		}
	})
	for i, l := range lanes {
		replies := l.queues[0].Sent()
		if len(replies) != flows {
			t.Fatalf("worker %d sent %d of %d replies: %v", i, len(replies), flows, l.ledger.Ended)
		}
		for f, frame := range replies {
			var info packet.Info
			if r := packet.Parse(frame, &info); r != reason.None {
				t.Fatal(r)
			}
			if got, want := endpoint(info.Dst, info.DstPort), fmt.Sprintf("203.0.113.%d:%d", 10+(i+1)%workers, 2000+f); got != want {
				t.Fatalf("the reply to %s goes to %s", want, got)
			}
		}
		if err := l.ledger.Check(); err != nil {
			t.Error(err)
		}
	}
}

// each runs f for every lane at once.
func each(lanes []*lane, f func(int, *lane)) {
	var all sync.WaitGroup
	for i, l := range lanes {
		all.Go(func() { f(i, l) })
	}
	all.Wait()
}

// TestSNATExhaustion asserts that a flow for which no port is left is dropped
// with its reason, that those before it are not harmed, and that a port that
// comes free is used again.
func TestSNATExhaustion(t *testing.T) {
	n := newNode(t, testService{vip: "198.18.100.1", proto: packet.ProtoTCP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:8080"}})
	n.b.SNATs[0].PortFirst, n.b.SNATs[0].PortLast = 5000, 5009
	n.publish()
	client := func(i int) string { return fmt.Sprintf("203.0.113.9:%d", 3000+i) }
	for i := range 10 {
		if _, v := n.one(0, fromClient(client(i), "198.18.100.1:80", packettest.Flags(packet.TCPFlagSYN))); v.Reason != reason.ForwardNew {
			t.Fatalf("flow %d: %v", i, v.Reason)
		}
	}
	if _, v := n.one(0, fromClient(client(10), "198.18.100.1:80", packettest.Flags(packet.TCPFlagSYN))); v.Reason != reason.SNATExhausted || v.Action != reason.Drop {
		t.Fatalf("the eleventh: %+v", v)
	}
	for i := range 10 {
		if _, v := n.one(0, fromClient(client(i), "198.18.100.1:80", packettest.Flags(packet.TCPFlagACK))); v.Reason != reason.ForwardFlow {
			t.Fatalf("flow %d after that: %v", i, v.Reason)
		}
	}
	n.one(0, fromClient(client(3), "198.18.100.1:80", packettest.Flags(packet.TCPFlagRST)))
	n.now += 11_000 // tcp_close is over
	if _, v := n.one(0, fromClient(client(10), "198.18.100.1:80", packettest.Flags(packet.TCPFlagSYN))); v.Reason != reason.ForwardNew {
		t.Fatalf("after one has ended: %v", v.Reason)
	}
}
