package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/dgryski/go-maglev"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
)

// The network of the tests: clients arrive on port 0, backends are behind port 1.
var (
	clientMAC  = [6]byte{2, 0, 0, 0, 0, 1}
	ourMAC0    = [6]byte{2, 0, 0, 0, 1, 0}
	ourMAC1    = [6]byte{2, 0, 0, 0, 1, 1}
	backendMAC = [6]byte{2, 0, 0, 0, 2, 0}
)

// node is a worker over in-memory queues, with a FIB made by hand.
type node struct {
	t      testing.TB
	b      *fib.Builder
	pool   *nic.Pool
	queues [2]*nictest.Queue
	snaps  dataplane.Publisher
	worker *dataplane.Worker
	ledger *ledger.Ledger
	flows  *flow.Table
	now    flow.Time
	gen    uint64
	memos  *memo.Table
	quiet  bool // keep no verdicts and no frames
	traces []dataplane.Verdict
}

// testService is one service of a test FIB.
type testService struct {
	vip      string
	proto    uint8
	port     uint16
	method   fib.Method
	backends []string // address:port
	edit     func(*fib.Service)
}

func newNode(t testing.TB, services ...testService) *node {
	return newNodeWith(t, nictest.Config{}, services...)
}

func newNodeWith(t testing.TB, qc nictest.Config, services ...testService) *node {
	t.Helper()
	return makeNode(t, qc, true, services...)
}

func makeNode(t testing.TB, qc nictest.Config, memos bool, services ...testService) *node {
	t.Helper()
	n := &node{t: t, b: testFIB(services), now: 1000}
	mem := make([]byte, 2048*2048)
	var err error
	if n.pool, err = nic.NewPool(mem, 2048, 256); err != nil {
		t.Fatal(err)
	}
	n.flows, err = flow.New(make([]byte, flow.Size(4096)), flow.Config{Flows: 4096, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]dataplane.PortQueue, 2)
	for i := range n.queues {
		qc.Seed++
		qc.Port = uint16(i)
		n.queues[i] = nictest.New(n.pool, qc)
		ports[i] = dataplane.PortQueue{Port: uint16(i), Queue: n.queues[i]}
	}
	counters := ledger.New(256, 256)
	n.ledger = counters.Ledger
	if memos {
		if n.memos, err = memo.NewPrivate(4096, 64, memo.Seed{3, 4}); err != nil {
			t.Fatal(err)
		}
		n.snaps.Memos = n.memos
	}
	n.worker, err = dataplane.NewWorker(dataplane.Config{
		Pool: n.pool, Queues: ports, Flows: n.flows, Snapshots: &n.snaps, Memos: n.memos, Counters: counters,
		Clock: func() flow.Time { return n.now }, HoldMost: 64, PassToHost: true,
		Trace: func(_ uint64, v dataplane.Verdict) {
			if !n.quiet {
				n.traces = append(n.traces, v)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.publish()
	return n
}

// publish compiles the builder and swaps it in.
func (n *node) publish() {
	n.t.Helper()
	n.gen++
	image, err := n.b.Encode(n.gen)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		n.t.Fatal(err)
	}
	n.snaps.Publish(s)
	n.worker.Step()
}

// exchange puts frames on port and returns what each port then sends, and the
// verdicts in the order the journeys ended.
func (n *node) exchange(port int, frames ...[]byte) (sent [2][][]byte, verdicts []dataplane.Verdict) {
	n.t.Helper()
	n.traces = nil
	for _, f := range frames {
		if !n.queues[port].Inject(f) {
			n.t.Fatal("the fill ring is empty")
		}
	}
	for n.worker.Step() > 0 {
	}
	n.check()
	for i := range n.queues {
		sent[i] = n.queues[i].Sent()
	}
	return sent, n.traces
}

// one exchanges one frame that must end in exactly one verdict.
func (n *node) one(port int, frame []byte) (sent [2][][]byte, v dataplane.Verdict) {
	n.t.Helper()
	sent, vs := n.exchange(port, frame)
	if len(vs) != 1 {
		n.t.Fatalf("%d verdicts for one frame: %+v", len(vs), vs)
	}
	return sent, vs[0]
}

func (n *node) check() {
	n.t.Helper()
	if err := n.ledger.Check(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.pool.Check(); err != nil {
		n.t.Fatal(err)
	}
	for i, q := range n.queues {
		if err := q.Err(); err != nil {
			n.t.Fatalf("queue %d: %v", i, err)
		}
	}
}

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

// testFIB builds a FIB: each service has a pool of its own.
func testFIB(services []testService) *fib.Builder {
	b := &fib.Builder{
		Settings: fib.Settings{
			HashSeed: [2]uint64{1, 2}, Tunnel4: addr("198.18.10.1"), Tunnel6: addr("2001:db8:10::1"), GUEPort: 6080, OuterTTL: 64,
			FragHold: 64, FragHoldMS: 1000, FragTrackMS: 5000, ReplyRate: 1000, ReplyBurst: 100,
		},
		Interfaces: []fib.Interface{{MAC: ourMAC0, MTU: 1500, Gateway: fib.NoIndex}, {MAC: ourMAC1, MTU: 1500, Gateway: fib.NoIndex}},
		NextHops:   []fib.NextHop{{DstMAC: backendMAC, SrcMAC: ourMAC1, Port: 1, Resolved: 1, MTU: 1500}},
		Timeouts: []fib.Timeouts{{TCPSynSent: 60_000, TCPEstablished: 3_600_000, TCPFinWait: 120_000, TCPClose: 10_000,
			UDP: 30_000, UDPStream: 120_000, SCTP: 300_000, ICMP: 30_000}},
	}
	locals := map[string]uint16{}
	local := func(a string, kind fib.LocalKind, snat uint32) uint16 {
		if id, ok := locals[a]; ok {
			return id
		}
		id := uint16(len(locals) + 1)
		locals[a] = id
		b.Locals = append(b.Locals, fib.Local{Addr: addr(a), ID: id, Kind: kind, Flags: fib.LocalAnswerARP, SNAT: snat})
		return id
	}
	for i, a := range []string{"198.18.10.200", "2001:db8:10::200"} {
		b.SNATs = append(b.SNATs, fib.SNAT{Addr: addr(a), Local: local(a, fib.LocalSNAT, uint32(i)), PortFirst: 1024, PortLast: 65535})
	}
	b.Services = append(b.Services, fib.Service{}) // slot 0 unused, as after a removal
	b.Backends = append(b.Backends, fib.Backend{})
	for i, s := range services {
		pool := fib.Pool{Members: uint32(len(b.Members)), MemberCount: uint32(len(s.backends)), Table: uint32(len(b.Tables))}
		var names []string
		for _, text := range s.backends {
			ap := netip.MustParseAddrPort(text)
			slot := uint32(len(b.Backends))
			b.Backends = append(b.Backends, fib.Backend{Addr: packet.AddrFrom(ap.Addr()), ID: fib.MakeID(slot, 1), Pool: uint32(i), Weight: 1, Port: ap.Port(), Name: b.Name(text)})
			b.Members = append(b.Members, slot)
			names = append(names, text)
		}
		if len(names) > 0 {
			table := maglev.New(names, 1009)
			pool.TableSize = 1009
			for slot := range uint64(1009) {
				b.Tables = append(b.Tables, uint16(table.Lookup(slot)))
			}
		}
		b.Pools = append(b.Pools, pool)
		id := fib.MakeID(uint32(len(b.Services)), 1)
		svc := fib.Service{ID: id, Pool: uint32(i), Local: local(s.vip, fib.LocalVIP, fib.NoIndex), PortFirst: s.port, PortLast: s.port,
			Proto: s.proto, Method: s.method, ClampMSS: 1}
		if s.edit != nil {
			s.edit(&svc)
		}
		b.Services = append(b.Services, svc)
		b.Matches = append(b.Matches, fib.PortMatch{Local: svc.Local, Proto: svc.Proto, PortFirst: svc.PortFirst, PortLast: svc.PortLast, Service: id.Slot()})
	}
	return b
}

func endpoint(a packet.Addr, port uint16) string {
	return netip.AddrPortFrom(a.Netip(), port).String()
}
