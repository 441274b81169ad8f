package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic/nictest"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// conversation makes packets of a few flows over and over, so that most of them
// find a memo: plain ones above all, and now and then each kind that is not.
type conversation struct {
	*rand.Rand
	services []testService
	sent     [2][][]byte
}

func (c *conversation) frame() (port int, frame []byte) {
	if c.IntN(3) == 0 && len(c.sent[1]) > 0 {
		if answer := c.answer(c.sent[1][c.IntN(len(c.sent[1]))]); answer != nil {
			return 1, answer
		}
	}
	s := c.services[c.IntN(len(c.services))]
	dst := netip.AddrPortFrom(netip.MustParseAddr(s.vip), s.port)
	client := c.IntN(3)
	src := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", 1+client)), 1024)
	if dst.Addr().Is6() {
		src = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:20::%d", 1+client)), 1024)
	}
	mac := clientMAC
	port = 0
	if c.IntN(30) == 0 {
		mac[5] = 9 // another router
	}
	if c.IntN(60) == 0 {
		port = 1 // another interface
	}
	return port, c.packet(src, dst, s.proto, packettest.MACs(ourMAC0, mac))
}

// packet is one of a flow: in two of three cases plain.
func (c *conversation) packet(src, dst netip.AddrPort, proto uint8, macs packettest.Option) []byte {
	opts := []packettest.Option{macs, packettest.PayloadLen(c.IntN(100)), packettest.TOS(uint8(c.IntN(256)))}
	flags := uint8(packet.TCPFlagACK)
	if dst.Addr().Is4() && c.IntN(2) == 0 {
		opts = append(opts, packettest.DF())
	}
	switch c.IntN(60) {
	case 0:
		opts = append(opts, packettest.TTL(uint8(c.IntN(3))))
	case 1:
		opts = append(opts, packettest.VLAN(uint16(c.IntN(4095))))
	case 2:
		opts = append(opts, packettest.Fragment(8*c.IntN(2), c.IntN(2) == 0, c.Uint32N(3)), packettest.PayloadLen(64))
	case 3, 4:
		opts = append(opts, packettest.PayloadLen(1400+c.IntN(90)))
	case 5:
		opts = append(opts, packettest.BadChecksum())
	case 6, 7, 8:
		flags = packet.TCPFlagSYN
	case 9:
		flags = packet.TCPFlagACK | packet.TCPFlagFIN
	case 10:
		if c.IntN(4) == 0 {
			flags = packet.TCPFlagRST
		}
	case 11:
		flags = packet.TCPFlagACK | packet.TCPFlagPSH
	}
	frame := []byte(nil)
	switch proto {
	case packet.ProtoTCP:
		frame = packettest.TCP(src, dst, append(opts, packettest.Flags(flags))...)
	case packet.ProtoUDP:
		if c.IntN(4) == 0 {
			opts = append(opts, packettest.NoUDPChecksum())
		}
		frame = packettest.UDP(src, dst, opts...)
	default:
		frame = packettest.SCTP(src, dst, opts...)
	}
	if c.IntN(20) == 0 {
		frame = append(frame, make([]byte, 1+c.IntN(20))...) // padding
	}
	if c.IntN(40) == 0 {
		frame[c.IntN(len(frame))] ^= 1 << c.IntN(8)
	}
	return frame
}

// answer is what a backend sends back, nil for what has no ports.
func (c *conversation) answer(frame []byte) []byte {
	var info packet.Info
	if packet.Parse(frame, &info) != reason.None || info.SrcPort == 0 || info.Proto == packet.ProtoICMP || info.Proto == packet.ProtoICMPv6 {
		return nil
	}
	src, dst := netip.AddrPortFrom(info.Dst.Netip(), info.DstPort), netip.AddrPortFrom(info.Src.Netip(), info.SrcPort)
	return c.packet(src, dst, info.Proto, packettest.MACs(ourMAC1, backendMAC))
}

// TestMemosChangeNothing sends the same packets through two nodes of which one
// has memos, while both are given the same changes at the same moments: a
// backend dies, drains, is replaced or returns, a service is replaced, its
// source ranges or its method change, a next hop is lost, moves, or carries
// less. Whatever leaves a node, and why, must be equal at every step, byte by
// byte, and so must all counters: a memo that outlives what it was made of by
// one packet is found here.
func TestMemosChangeNothing(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			memosChangeNothing(t, seed)
		})
	}
}

func memosChangeNothing(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 11))
	services := everyService()
	random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	services = services[:9] // few, so that flows get old
	with, without := makeNode(t, nictest.Config{}, true, services...), makeNode(t, nictest.Config{}, false, services...)
	both := []*node{with, without}
	if seed%2 == 1 {
		with.useMemos(growingMemos(t))
		without.useMemos(nil)
	}
	for _, n := range both {
		n.b.Timeouts[0].UDP, n.b.Timeouts[0].UDPStream = 3_600_000, 3_600_000
		n.b.NextHops = append(n.b.NextHops, fib.NextHop{DstMAC: [6]byte{2, 0, 0, 0, 2, 9}, SrcMAC: ourMAC1, Port: 1, Resolved: 1, MTU: 1500})
		n.publish()
	}
	c := &conversation{Rand: random, services: services}
	for round := range 6000 {
		for range 1 + random.IntN(12) {
			port, frame := c.frame()
			for _, n := range both {
				if !n.queues[port].Inject(bytes.Clone(frame)) {
					t.Fatal("the fill ring is empty")
				}
			}
		}
		for _, n := range both {
			n.traces = n.traces[:0]
			for n.worker.Step() > 0 {
			}
		}
		same(t, round, with, without, c)
		change := random.Uint64()
		for _, n := range both {
			n.upset(rand.New(rand.NewPCG(change, 1)))
		}
	}
	for _, n := range both {
		n.check()
	}
	if seed%2 == 1 && with.memos.Len() < 64 {
		t.Errorf("the table has grown from 4 to %d entries: the test is not what it claims to be", with.memos.Len())
	}
	l := with.ledger
	t.Logf("%d frames, %d by a memo", l.Received, l.ByMemo)
	if plain := l.Ended[reason.ForwardFlow] + l.Ended[reason.ReplyFlow]; l.ByMemo < plain/3 {
		t.Errorf("%d packets of known flows, only %d went by a memo: the test is not what it claims to be", plain, l.ByMemo)
	}
	l.ByMemo = 0
	if *l != *without.ledger {
		t.Errorf("with memos the ledger is\n%+v\nwithout\n%+v", *l, *without.ledger)
	}
}

// growingMemos is a table that begins to use four of its entries.
func growingMemos(t *testing.T) *memo.Table {
	t.Helper()
	const entries = 4096
	mem := alignedBytes(memo.Bytes(entries))
	binary.NativeEndian.PutUint64(mem[entries*memo.EntrySize:], 1)
	memos, err := memo.New(memo.Config{Entries: mem, Routes: alignedBytes(64 * memo.RouteSize), Seed: memo.Seed{3, 4}})
	if err != nil {
		t.Fatal(err)
	}
	return memos
}

// same compares what two nodes did in a round.
func same(t *testing.T, round int, with, without *node, c *conversation) {
	t.Helper()
	if len(with.traces) != len(without.traces) {
		t.Fatalf("round %d: %d verdicts with memos, %d without", round, len(with.traces), len(without.traces))
	}
	for i := range with.traces {
		if with.traces[i] != without.traces[i] {
			t.Fatalf("round %d, packet %d: with memos\n%+v %v\nwithout\n%+v %v", round, i, with.traces[i], with.traces[i].Reason, without.traces[i], without.traces[i].Reason)
		}
	}
	for port := range with.queues {
		a, b := with.queues[port].Sent(), without.queues[port].Sent()
		if len(a) != len(b) {
			t.Fatalf("round %d: port %d sends %d frames with memos, %d without", round, port, len(a), len(b))
		}
		for i := range a {
			if !bytes.Equal(a[i], b[i]) {
				t.Fatalf("round %d: port %d, frame %d: with memos\n%x\nwithout\n%x", round, port, i, a[i], b[i])
			}
		}
		if len(a) > 0 {
			c.sent[port] = a
		}
	}
}

// upset changes something, most of the time nothing.
func (n *node) upset(random *rand.Rand) {
	svc := &n.b.Services[1+random.IntN(len(n.b.Services)-1)]
	b := &n.b.Backends[1+random.IntN(len(n.b.Backends)-1)]
	switch random.IntN(200) {
	case 0, 1, 2:
		n.mutate(random)
		return
	case 3:
		b.NextHop ^= 1 // the backend is behind another router
	case 4:
		n.b.NextHops[0].DstMAC[5] = byte(random.IntN(3))
	case 5:
		if svc.RangeCount = 0; random.IntN(2) == 0 {
			svc.Ranges, svc.RangeCount = uint32(len(n.b.SourceRanges)), 1
			r := fib.SourceRange{Addr: addr("203.0.113.2"), Bits: 128}
			if random.IntN(2) == 0 {
				r = fib.SourceRange{Addr: addr("2001:db8:20::2"), Bits: 128}
			}
			n.b.SourceRanges = append(n.b.SourceRanges, r)
		}
	case 6:
		b.MTU = []uint32{0, 1400, 1450}[random.IntN(3)]
	case 7:
		n.b.Interfaces[0].MTU = 1400 + uint32(random.IntN(100))
	case 8:
		if svc.Method == fib.MethodIPIP {
			svc.Method = fib.MethodGUE
		} else if svc.Method == fib.MethodGUE {
			svc.Method = fib.MethodIPIP
		}
	case 9:
		n.b.Settings.OuterTTL ^= 32
	case 10:
		n.b.Settings.GUEPort ^= 1
	case 11:
		n.now += 5 * 3_600_000 // everything times out
		return
	case 12, 13, 14, 15, 16, 17, 18, 19:
		n.now += 700
		return
	default:
		return
	}
	n.publish()
}

// TestIdleTimesSeeMemoTraffic keeps flows busy with packets that go by memos
// alone: they live for as long as that goes on, and, once it ends, for their
// idle time and at most a quarter of it more.
func TestIdleTimesSeeMemoTraffic(t *testing.T) {
	n := newNode(t, testService{vip: "198.18.100.1", proto: packet.ProtoUDP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}})
	n.quiet = true
	const idle = 30_000 // of a flow with one direction, by testFIB
	send := func() uint64 {
		before := n.ledger.ByMemo
		n.exchange(0, packettest.UDP(netip.MustParseAddrPort("203.0.113.1:1024"), netip.MustParseAddrPort("198.18.100.1:80"), packettest.MACs(ourMAC0, clientMAC)))
		return n.ledger.ByMemo - before
	}
	send()
	byMemo := uint64(0)
	for range 1000 {
		n.now += 500
		byMemo += send()
	}
	if n.ledger.Ended[reason.ForwardNew] != 1 {
		t.Errorf("the flow was opened %d times while it was in use", n.ledger.Ended[reason.ForwardNew])
	}
	if byMemo < 900 {
		t.Errorf("%d of 1000 packets went by a memo", byMemo)
	}
	n.now += idle - 1
	if send(); n.ledger.Ended[reason.ForwardNew] != 1 {
		t.Error("the flow was forgotten before its idle time was over")
	}
	n.now += idle + idle/4
	if send(); n.ledger.Ended[reason.ForwardNew] != 2 {
		t.Error("the flow was still there after its idle time and a quarter")
	}
}

// TestIdleTimesSeeKernelTraffic is the same for a flow that the XDP program
// forwards: not one packet of it reaches the worker, which sees in the memo that
// it was used.
func TestIdleTimesSeeKernelTraffic(t *testing.T) {
	svc := testService{vip: "198.18.100.1", proto: packet.ProtoUDP, port: 80, method: fib.MethodNAT, backends: []string{"198.18.10.11:80"}}
	n := makeNode(t, nictest.Config{}, false, svc)
	n.quiet = true
	entries := alignedBytes(memo.Bytes(64))
	memos, err := memo.New(memo.Config{Entries: entries, Routes: alignedBytes(4 * memo.RouteSize), Counts: alignedBytes(4 * memo.CountSize)})
	if err != nil {
		t.Fatal(err)
	}
	n.useMemos(memos)
	const idle = 30_000
	client, vip := netip.MustParseAddrPort("203.0.113.1:1024"), netip.MustParseAddrPort("198.18.100.1:80")
	send := func() { n.exchange(0, packettest.UDP(client, vip, packettest.MACs(ourMAC0, clientMAC))) }
	known := func() bool {
		var f flow.Flow
		k := flow.Key{Peer: packet.AddrFrom(client.Addr()), PeerPort: 1024, Local: n.localID(vip.Addr()), LocalPort: 80, Proto: packet.ProtoUDP}
		_, _, ok := n.flows.Lookup(&k, n.flows.Hash(&k), n.now, &f)
		return ok
	}
	for range 20 {
		send()
	}
	entry := kernelsMemo(t, entries)
	byWorker := n.ledger.Received
	for range 400 { // 200 seconds of traffic that the worker does not see
		n.now += 500
		binary.LittleEndian.PutUint16(entry[58:], uint16(n.now>>8))
		n.worker.Step()
		if lease := flow.Time(binary.LittleEndian.Uint32(entry[28:])); lease.Before(n.now) {
			t.Fatalf("the lease of a memo in use ended %d ms ago", n.now-lease)
		}
	}
	if !known() || n.ledger.Received != byWorker {
		t.Fatal("the flow was forgotten while the kernel forwarded its packets")
	}
	last := n.now
	for known() {
		if n.now += 500; n.now-last > idle+idle/2 {
			t.Fatalf("the flow is still there %d ms after its last packet", n.now-last)
		}
		n.worker.Step()
	}
	if n.now-last < idle {
		t.Errorf("the flow was forgotten %d ms after its last packet", n.now-last)
	}
}

// kernelsMemo is the one entry that the XDP program may use.
func kernelsMemo(t *testing.T, entries []byte) []byte {
	t.Helper()
	for ; len(entries) > 0; entries = entries[memo.EntrySize:] {
		if entries[56]&1 != 0 {
			return entries[:memo.EntrySize]
		}
	}
	t.Fatal("no memo was given to the kernel")
	return nil
}

func alignedBytes(n int) []byte {
	lines := make([][64]byte, n/64+1)
	words := unsafe.Slice((*byte)(unsafe.Pointer(&lines[0])), len(lines)*64)
	return words[(64-uintptr(unsafe.Pointer(&lines[0]))%64)%64:][:n]
}

// useMemos gives the node's worker other memos, and to them the FIB in force.
func (n *node) useMemos(m *memo.Table) {
	n.t.Helper()
	n.memos, n.snaps.Memos, n.worker.Memos = m, m, m
	cfg := n.worker.Config
	var err error
	if n.worker, err = dataplane.NewWorker(cfg); err != nil {
		n.t.Fatal(err)
	}
	n.publish()
}

func (n *node) localID(a netip.Addr) uint16 {
	return n.snaps.Current().Local(packet.AddrFrom(a)).ID
}
