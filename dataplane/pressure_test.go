package dataplane_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// tableSize is the flow table of newNode.
const tableSize = 4096

// TestFloods has forged packets of every kind come at ten times the size of the
// flow table: established connections keep their backends, their replies go
// on, and new connections still open.
func TestFloods(t *testing.T) {
	const connections = 500
	direct := pooled(fib.MethodL2, packet.ProtoTCP, nil)
	direct.vip = "198.18.100.2"
	udp := pooled(fib.MethodL2, packet.ProtoUDP, nil)
	udp.vip = "198.18.100.3"
	for _, flood := range []struct {
		name string
		make func(src string) []byte
	}{
		{"SYN to nat", func(src string) []byte { return fromClient(src, pooledVIP, packettest.Flags(syn)) }},
		{"SYN to l2", func(src string) []byte { return fromClient(src, "198.18.100.2:80", packettest.Flags(syn)) }},
		{"ACK to l2", func(src string) []byte { return fromClient(src, "198.18.100.2:80", packettest.Flags(ack)) }},
		{"FIN to l2", func(src string) []byte { return fromClient(src, "198.18.100.2:80", packettest.Flags(fin)) }},
		{"RST to l2", func(src string) []byte { return fromClient(src, "198.18.100.2:80", packettest.Flags(rst)) }},
		{"SYN-ACK to l2", func(src string) []byte { return fromClient(src, "198.18.100.2:80", packettest.Flags(syn|ack)) }},
		{"UDP to l2", func(src string) []byte { return udpFrom(src, "198.18.100.3:80") }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil), direct, udp)
			vips := []string{pooledVIP, "198.18.100.2:80"}
			var home [2][connections]uint32
			var seen [connections][]byte
			for i := range connections {
				home[0][i], seen[i] = n.connect(clientNumber(i), vips[0])
				home[1][i], _ = n.connect(clientNumber(i), vips[1])
			}
			n.quiet = true
			for i := range 10 * tableSize {
				n.queues[0].Inject(flood.make(fmt.Sprintf("192.0.2.%d:%d", 1+i%250, 1000+i/250)))
				if i%32 == 31 {
					n.worker.Step()
					n.queues[1].Sent()
				}
			}
			n.quiet = false
			for i := range connections {
				for m, vip := range vips {
					if v := n.tcp(clientNumber(i), vip, ack); v.Reason != reason.ForwardFlow || v.Backend != home[m][i] {
						t.Fatalf("connection %d to %s: %+v %v, home is %d", i, vip, v, v.Reason, home[m][i])
					}
				}
				sent, v := n.one(1, reverse(seen[i]))
				if v.Reason != reason.ReplyFlow || len(sent[0]) != 1 {
					t.Fatalf("reply to connection %d: %v", i, v.Reason)
				}
			}
			for i := range 50 {
				n.connect(fmt.Sprintf("203.0.113.9:%d", 40000+i), vips[i%2])
			}
		})
	}
}

// TestFullTable fills the table with established connections: NAT says that it
// is full, methods with direct reply do without an entry.
func TestFullTable(t *testing.T) {
	direct := pooled(fib.MethodL2, packet.ProtoTCP, nil)
	direct.vip = "198.18.100.2"
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil), direct)
	for i := range tableSize {
		src := fmt.Sprintf("203.0.113.%d:%d", 1+i%200, 2000+i/200)
		n.expect(n.tcp(src, pooledVIP, syn), reason.ForwardNew)
		n.expect(n.tcp(src, pooledVIP, ack), reason.ForwardFlow)
	}
	n.expect(n.tcp("192.0.2.1:1", pooledVIP, syn), reason.FlowTableFull)
	opened := n.ledger.Stateless
	v := n.tcp("192.0.2.1:1", "198.18.100.2:80", syn)
	n.expect(v, reason.ForwardStateless)
	if n.ledger.Stateless != opened+1 {
		t.Errorf("%d flows without an entry are counted", n.ledger.Stateless-opened)
	}
	again := n.tcp("192.0.2.1:1", "198.18.100.2:80", ack)
	if again.Reason != reason.ForwardStateless || again.Backend != v.Backend {
		t.Errorf("the next segment: %+v %v", again, again.Reason)
	}
	n.expect(n.tcp("203.0.113.1:2000", pooledVIP, ack), reason.ForwardFlow)
}

// TestAnswersAreLimited asserts that errors and resets have a budget that time
// restores, and that answers to questions have none.
func TestAnswersAreLimited(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	n.b.Settings.ReplyRate, n.b.Settings.ReplyBurst = 10, 5
	n.publish()
	n.now += 10_000
	expired := func() reason.Reason { return n.tcp("203.0.113.9:1000", pooledVIP, syn, packettest.TTL(1)).Reason }
	for i := range 12 {
		want := reason.TTLExpiredReply
		if i >= 5 {
			want = reason.ReplyRateLimited
		}
		if got := expired(); got != want {
			t.Fatalf("answer %d: %v", i, got)
		}
	}
	_, v := n.one(0, packettest.Echo(packettest.Addr("203.0.113.9"), packettest.Addr("198.18.100.1"), 1, 1, packettest.MACs(ourMAC0, clientMAC)))
	n.expect(v, reason.EchoReply)
	n.now += 99
	if got := expired(); got != reason.ReplyRateLimited {
		t.Fatalf("after 99 ms: %v", got)
	}
	n.now++
	if got := expired(); got != reason.TTLExpiredReply {
		t.Fatalf("after 100 ms: %v", got)
	}
	n.now -= 1_000_000 // a clock that goes back does no more than fill it up
	if got := expired(); got != reason.TTLExpiredReply {
		t.Fatalf("after the clock went back: %v", got)
	}
}

// TestResetWaitsForBudget asserts that a connection whose reset there was no
// budget for gets it with a later segment.
func TestResetWaitsForBudget(t *testing.T) {
	n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, nil))
	n.b.Settings.ReplyRate, n.b.Settings.ReplyBurst = 10, 5
	n.publish()
	for i := range 20 {
		n.connect(clientNumber(i), pooledVIP)
	}
	for i := 1; i < len(n.b.Backends); i++ {
		n.b.Backends[i].Flags = fib.BackendDown
	}
	n.repool(0)
	resets, reset := 0, make(map[int]bool) // a client that is reset sends no more
	for range 10 {
		for i := range 20 {
			if reset[i] {
				continue
			}
			switch v := n.tcp(clientNumber(i), pooledVIP, ack); v.Reason {
			case reason.ResetReply:
				resets, reset[i] = resets+1, true
			case reason.ReplyRateLimited:
			default:
				t.Fatalf("%+v %v", v, v.Reason)
			}
		}
		n.now += 1000
	}
	if resets != 20 {
		t.Errorf("%d of 20 connections were reset", resets)
	}
}

// TestTwoWorkersOneFlow has two workers receive the packets of the same clients
// at the same time: whoever opens a flow, both send to the same backend, and
// with NAT from the same address and port, though the second has a table that
// would choose others.
func TestTwoWorkersOneFlow(t *testing.T) {
	const flows = 3000
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP} {
		t.Run(method.String(), func(t *testing.T) {
			svc := pooled(method, packet.ProtoTCP, nil)
			lanes := newLanes(t, 2, svc)
			b := testFIB([]testService{svc})
			for at := range b.Tables {
				b.Tables[at] = (b.Tables[at] + 1) % 3
			}
			lanes[1].worker.Snapshots = new(dataplane.Publisher)
			lanes[1].worker.Snapshots.Publish(snapshotOf(t, b))
			var turn [2]atomic.Int64
			sent := make([][][]byte, 2)
			each(lanes, func(i int, l *lane) {
				for f := range flows {
					l.queues[0].Inject(fromClient(fmt.Sprintf("203.0.113.%d:%d", 1+f%200, 2000+f/200), pooledVIP, packettest.Flags(syn)))
					turn[i].Store(int64(f))
					for turn[1-i].Load() < int64(f) {
						runtime.Gosched()
					}
					l.worker.Step()
				}
				sent[i] = l.queues[1].Sent()
			})
			for i, l := range lanes {
				if err := l.ledger.Check(); err != nil {
					t.Fatalf("worker %d: %v", i, err)
				}
				if len(sent[i]) != flows {
					t.Fatalf("worker %d sent %d of %d SYNs: %v", i, len(sent[i]), flows, l.ledger.Ended)
				}
			}
			for f := range flows {
				var a, b packet.Info
				packet.Parse(sent[0][f], &a)
				packet.Parse(sent[1][f], &b)
				if a.Src != b.Src || a.SrcPort != b.SrcPort || a.Dst != b.Dst {
					t.Fatalf("flow %d leaves as %v:%d to %v and as %v:%d to %v", f, a.Src, a.SrcPort, a.Dst, b.Src, b.SrcPort, b.Dst)
				}
			}
			t.Logf("they met at %d flows", lanes[0].worker.Flows.Stats().Existing)
		})
	}
}

func snapshotOf(t testing.TB, b *fib.Builder) *fib.Snapshot {
	t.Helper()
	image, err := b.Encode(2)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestOpenedByAnotherWorker asserts what becomes of a packet that would open a
// flow which another worker has opened since it was looked up, whatever that
// one's snapshot said.
func TestOpenedByAnotherWorker(t *testing.T) {
	for _, c := range []struct {
		name   string
		before fib.Method // when the other worker opened the flow
		after  fib.Method
		change func(n *node, opened uint32)
		want   reason.Reason
		same   bool // it goes where the flow goes
	}{
		{"nat", fib.MethodNAT, fib.MethodNAT, nil, reason.ForwardFlow, true},
		{"ipip", fib.MethodIPIP, fib.MethodIPIP, nil, reason.ForwardFlow, true},
		{"nat, then l2", fib.MethodNAT, fib.MethodL2, nil, reason.BackendGone, false},
		{"l2, then nat", fib.MethodL2, fib.MethodNAT, nil, reason.BackendGone, false},
		{"nat, backend down", fib.MethodNAT, fib.MethodNAT, func(n *node, opened uint32) { n.b.Backends[opened].Flags = fib.BackendDown }, reason.BackendGone, false},
		{"nat, backend has no route", fib.MethodNAT, fib.MethodNAT, func(n *node, opened uint32) { n.b.Backends[opened].NextHop = fib.NoIndex }, reason.NextHopUnresolved, true},
		{"nat, backend drains", fib.MethodNAT, fib.MethodNAT, func(n *node, opened uint32) { n.b.Backends[opened].Flags = fib.BackendDraining }, reason.ForwardFlow, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, pooled(c.before, packet.ProtoTCP, nil))
			v := n.tcp("203.0.113.9:1000", pooledVIP, syn)
			n.expect(v, reason.ForwardNew)
			n.b.Services[1].Method = c.after
			if c.change != nil {
				c.change(n, v.Backend)
			}
			n.leave(v.Backend)
			n.traces = nil
			n.queues[0].Inject(fromClient("203.0.113.9:1000", pooledVIP, packettest.Flags(syn)))
			n.worker.OpenUnknown()
			n.worker.Step()
			n.check()
			if len(n.traces) != 1 || n.traces[0].Reason != c.want {
				t.Fatalf("%+v, want %v", n.traces, c.want)
			}
			if c.same && n.traces[0].Backend != v.Backend {
				t.Errorf("it goes to backend %d, the flow to %d", n.traces[0].Backend, v.Backend)
			}
			// Sent again, it opens a flow or belongs to the one there is.
			n.b.Backends[v.Backend].NextHop = 0
			n.publish()
			switch again := n.tcp("203.0.113.9:1000", pooledVIP, syn); again.Reason {
			case reason.ForwardNew, reason.ForwardFlow:
			default:
				t.Errorf("sent again: %+v %v", again, again.Reason)
			}
		})
	}
}
