package dataplane_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

var everyReason = tap.Ending(reason.Drop, reason.Pass, reason.Transmit)

// tapped lets somebody look at a node's packets.
func (n *node) tapped() *tap.Reader {
	n.t.Helper()
	words := make([]uint64, tap.Size(1)/8)
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), tap.Size(1))
	r, err := tap.NewReader(mem, 1)
	if err != nil {
		n.t.Fatal(err)
	}
	writers, err := tap.NewWriters(mem, 1)
	if err != nil {
		n.t.Fatal(err)
	}
	n.worker.Taps = writers[0]
	return r
}

// open puts a filter in force.
func (n *node) open(r *tap.Reader, f tap.Filter) int {
	n.t.Helper()
	slot, _, err := r.Open(&f)
	if err != nil {
		n.t.Fatal(err)
	}
	r.BeatAt(uint32(n.now))
	return slot
}

// TestTapsShowEveryPacket sends the same random packets through two nodes, one
// of which is looked at: it does exactly what the other does, and what is seen
// of it is every frame as it came in, byte by byte, with what became of it, and
// every frame as it left. Most packets go by memos, some are held, cut up,
// answered, or cannot be sent.
func TestTapsShowEveryPacket(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			tapsShowEveryPacket(t, seed)
		})
	}
}

func tapsShowEveryPacket(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 12))
	services := everyService()
	random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	services = services[:9]
	seen, unseen := makeNode(t, nictest.Config{}, true, services...), makeNode(t, nictest.Config{}, true, services...)
	reader := seen.tapped()
	seen.open(reader, tap.Filter{Reasons: everyReason, Snap: tap.MaxSnap, Flags: tap.Received | tap.Sent})
	both := []*node{seen, unseen}
	for _, n := range both {
		n.b.Timeouts[0].UDP, n.b.Timeouts[0].UDPStream = 3_600_000, 3_600_000
		n.b.NextHops = append(n.b.NextHops, fib.NextHop{DstMAC: [6]byte{2, 0, 0, 0, 2, 9}, SrcMAC: ourMAC1, Port: 1, Resolved: 1, MTU: 1500})
		n.publish()
	}
	c := &conversation{Rand: random, services: services}
	came, left := map[string]int{}, [2]map[string]int{{}, {}}
	endings := map[reason.Reason]uint64{}
	for round := range 3000 {
		for range 1 + random.IntN(12) {
			port, frame := c.frame()
			came[string(frame)]++
			for _, n := range both {
				if !n.queues[port].Inject(bytes.Clone(frame)) {
					t.Fatal("the fill ring is empty")
				}
			}
		}
		refuse := 0
		if random.IntN(40) == 0 {
			refuse = 100
		}
		for _, n := range both {
			n.traces = n.traces[:0]
			reader.BeatAt(uint32(n.now))
			n.queues[1].RefuseTransmit(refuse)
			for n.worker.Step() > 0 {
			}
			n.queues[1].RefuseTransmit(0)
		}
		for port, q := range seen.queues {
			for _, frame := range q.Sent() {
				left[port][string(frame)]++
				if info := (packet.Info{}); packet.Parse(frame, &info) == reason.None {
					c.sent[port] = append(c.sent[port], bytes.Clone(frame))
				}
			}
			c.sent[port] = c.sent[port][max(0, len(c.sent[port])-8):]
			unseen.queues[port].Sent()
		}
		if len(seen.traces) != len(unseen.traces) {
			t.Fatalf("round %d: %d verdicts, %d without anybody looking", round, len(seen.traces), len(unseen.traces))
		}
		for i := range seen.traces {
			if seen.traces[i] != unseen.traces[i] {
				t.Fatalf("round %d: verdict %+v, without anybody looking %+v", round, seen.traces[i], unseen.traces[i])
			}
		}
		if _, err := reader.Read(func(r *tap.Record) { tally(seen, r, came, &left, endings) }); err != nil {
			t.Fatal(err)
		}
		change := random.Uint64()
		for _, n := range both {
			n.upset(rand.New(rand.NewPCG(change, 1)))
		}
	}
	for _, n := range both {
		n.now += 5000 // nothing is held any more
		reader.BeatAt(uint32(n.now))
		n.worker.Step()
		n.check()
	}
	if _, err := reader.Read(func(r *tap.Record) { tally(seen, r, came, &left, endings) }); err != nil {
		t.Fatal(err)
	}
	for frame, n := range came {
		if n != 0 {
			t.Errorf("%d more came than were seen of %x", n, frame)
		}
	}
	for port := range left {
		for frame, n := range left[port] {
			if n > 0 || n < 0 && endings[reason.TransmitRingFull] == 0 {
				t.Errorf("%d more left by port %d than were seen of %x", n, port, frame)
			}
		}
	}
	for _, r := range reason.All() {
		// A frame that is cut up ends several times, but came once; one that
		// could not be sent had a verdict before.
		if r.Action() != reason.Transmit && endings[r] != seen.ledger.Ended[r] {
			t.Errorf("%d frames were seen to end with %v, %d have", endings[r], r, seen.ledger.Ended[r])
		}
	}
	if *seen.ledger != *unseen.ledger {
		t.Errorf("the ledger is\n%+v\nwithout anybody looking\n%+v", *seen.ledger, *unseen.ledger)
	}
	if seen.ledger.ByMemo == 0 || seen.ledger.Ended[reason.TransmitRingFull] == 0 || seen.ledger.Created == 0 {
		t.Errorf("the test is not what it claims to be: %+v", *seen.ledger)
	}
}

// tally takes a record off what is still to be seen.
func tally(n *node, r *tap.Record, came map[string]int, left *[2]map[string]int, endings map[reason.Reason]uint64) {
	switch {
	case r.Sent:
		left[r.Port][string(r.Frame)]--
		return
	case !r.Altered:
		came[string(r.Frame)]--
	}
	endings[r.Reason]++
	if int(r.Length) != len(r.Frame) {
		n.t.Errorf("%d of %d bytes", len(r.Frame), r.Length)
	}
}

// TestTapsNameTheService asserts that a packet is shown with its service and
// backend, whether decided upon or carried by a memo.
func TestTapsNameTheService(t *testing.T) {
	n := newNode(t,
		testService{vip: "198.18.100.1", proto: packet.ProtoUDP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}},
		testService{vip: "198.18.100.2", proto: packet.ProtoUDP, port: 80, method: fib.MethodL2, backends: []string{"198.18.10.12:80"}})
	r := n.tapped()
	svc := n.b.Services[2]
	n.open(r, tap.Filter{Reasons: everyReason, Services: [tap.MaxNames]uint32{uint32(svc.ID)}, Snap: 64, Flags: tap.Received | tap.Sent})
	for _, step := range []struct {
		after flow.Time
		memo  uint64
	}{{0, 0}, {2000, 0}, {10, 1}} {
		n.now += step.after
		r.BeatAt(uint32(n.now))
		before := n.ledger.ByMemo
		n.exchange(0, udpFrom("203.0.113.9:1000", "198.18.100.1:80"))
		n.exchange(0, udpFrom("203.0.113.9:1000", "198.18.100.2:80", packettest.PayloadLen(200)))
		if got := n.ledger.ByMemo - before; got != 2*step.memo && got != step.memo {
			t.Errorf("%d packets went by a memo", got)
		}
		var got []tap.Record
		if _, err := r.Read(func(c *tap.Record) { got = append(got, *c) }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].Sent || !got[1].Sent || got[0].Port != 0 || got[1].Port != 1 {
			t.Fatalf("shown: %+v", got)
		}
		for _, c := range got {
			if c.Service != uint32(svc.ID) || c.Backend != uint32(n.b.Backends[2].ID) || c.Length != 242 || len(c.Frame) != 64 {
				t.Errorf("shown: %+v", c)
			}
		}
	}
}

// TestTapsAllocateNothing demands that a round with somebody looking allocates
// nothing.
func TestTapsAllocateNothing(t *testing.T) {
	n := newNodeWith(t, nictest.Config{Wire: func([]byte) {}},
		testService{vip: "198.18.100.1", proto: packet.ProtoUDP, port: 80, method: fib.MethodIPIP, backends: []string{"198.18.10.11:80"}})
	n.quiet = true
	r := n.tapped()
	n.open(r, tap.Filter{Reasons: everyReason, Snap: 1500, Flags: tap.Received | tap.Sent})
	frames := [][]byte{udpFrom("203.0.113.9:1000", "198.18.100.1:80"), udpFrom("203.0.113.9:1000", "198.18.100.9:80"),
		udpFrom("203.0.113.9:1000", "198.18.100.1:80", packettest.PayloadLen(1480)), udpFrom("203.0.113.9:1000", "198.18.100.1:80")[:20]}
	before := n.ledger.Received
	if allocs := testing.AllocsPerRun(2000, func() {
		for _, f := range frames {
			n.queues[0].Inject(f)
		}
		n.worker.Step()
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if c := r.Counts(0); c.Matched != n.ledger.Received-before {
		t.Errorf("%d packets were seen, %d came", c.Matched, n.ledger.Received-before)
	}
}
