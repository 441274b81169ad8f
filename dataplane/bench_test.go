package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ledger"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// loop is a queue without a NIC: it makes up the packets of random flows as
// fast as they are asked for and takes back at once what is sent. What it
// costs itself (to write a header of 60 bytes) is measured apart.
type loop struct {
	pool  *nic.Pool
	frame []byte // template
	flows uint32
	order uint32 // state of the random walk over the flows
	left  int    // frames still to receive
	done  []uint64
	v6    bool
}

func (l *loop) Receive(frames []nic.Frame) int {
	n := min(len(frames), l.left)
	for i := range n {
		addr, ok := l.pool.Get()
		if !ok {
			n = i
			break
		}
		addr += 256
		l.order = l.order*1664525 + 1013904223
		l.write(l.pool.Mem[addr:], uint32(uint64(l.order)*uint64(l.flows)>>32))
		frames[i] = nic.Frame{Addr: addr, Len: uint32(len(l.frame))}
	}
	l.left -= n
	return n
}

// write puts the packet of a flow into a chunk: the client's address and port
// differ from flow to flow, the header checksum is right.
func (l *loop) write(b []byte, number uint32) {
	copy(b, l.frame)
	if l.v6 {
		binary.BigEndian.PutUint32(b[14+20:], number)
		return
	}
	ip := b[14:34]
	binary.BigEndian.PutUint16(ip[14:], uint16(number))
	binary.BigEndian.PutUint16(b[34:], uint16(1024+number>>16))
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
}

func (l *loop) Transmit(frames []nic.Frame) int {
	for i := range frames {
		l.done = append(l.done, frames[i].Addr)
	}
	return len(frames)
}

func (l *loop) Complete(addrs []uint64) int {
	n := copy(addrs, l.done)
	l.done = l.done[:copy(l.done, l.done[n:])]
	return n
}

// sink is a port that loop's packets leave by: nothing comes from it.
type sink struct{ *loop }

func (sink) Receive([]nic.Frame) int { return 0 }

func (l *loop) Kick() error               { return nil }
func (l *loop) Refill(addrs []uint64) int { return 0 }

// BenchmarkWorker is what a packet costs from parsing to the written header,
// flow table, counters and rings' bookkeeping included, for packets of random
// flows that the table knows.
func BenchmarkWorker(b *testing.B) {
	for _, m := range []struct {
		name    string
		method  fib.Method
		vip     string
		backend []string
	}{
		{"nat/v4", fib.MethodNAT, "198.18.100.1", []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}},
		{"nat/v6", fib.MethodNAT, "2001:db8:100::1", []string{"[2001:db8:10::11]:80", "[2001:db8:10::12]:80"}},
		{"ipip/4in4", fib.MethodIPIP, "198.18.100.1", []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}},
		{"ipip/6in6", fib.MethodIPIP, "2001:db8:100::1", []string{"[2001:db8:10::11]:80", "[2001:db8:10::12]:80"}},
		{"gue/4in4", fib.MethodGUE, "198.18.100.1", []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}},
		{"l2/v4", fib.MethodL2, "198.18.100.1", []string{"198.18.10.11:80", "198.18.10.12:80", "198.18.10.13:80"}},
	} {
		for _, flows := range []int{1, 10_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/flows=%d", m.name, flows), func(b *testing.B) {
				if m.method == fib.MethodNAT && flows > 100_000 {
					m.backend = manyBackends(m.vip) // a backend has 64,512 ports a SNAT address
				}
				benchmarkWorker(b, testService{vip: m.vip, proto: packet.ProtoUDP, port: 80, method: m.method, backends: m.backend}, flows)
			})
		}
	}
}

func manyBackends(vip string) []string {
	list := make([]string, 64)
	for i := range list {
		if packettest.Addr(vip).Is6() {
			list[i] = fmt.Sprintf("[2001:db8:10::%x]:80", 0x100+i)
		} else {
			list[i] = fmt.Sprintf("198.18.10.%d:80", 100+i)
		}
	}
	return list
}

func benchmarkWorker(b *testing.B, svc testService, flows int) {
	l := newLoop(b, svc.vip, flows)
	now := flow.Time(1000)
	w := loopWorker(b, l, testFIB([]testService{svc}), flows, &now)
	// Open every flow once.
	one := &sequence{loop: l}
	w.Queues[0].Queue = one
	for range 2 { // the second packet, a while after the first, leaves a memo
		for one.next = 0; one.next < uint32(flows); {
			w.Step()
		}
		now += 2000
	}
	w.Queues[0].Queue = l
	for w.Step() > 0 {
	}
	opened := w.Counters.Services[1].Flows
	if opened < uint64(flows)*99/100 {
		b.Fatalf("%d of %d flows are open: %+v", opened, flows, w.Counters.Ledger.Ended)
	}
	b.ReportAllocs()
	b.ResetTimer()
	l.left = b.N
	before := cpuTime(b)
	for l.left > 0 {
		w.Step()
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/packet")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/packet")
	b.ReportMetric(0, "ns/op")
	if err := w.Counters.Ledger.Check(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNewFlows is what the first packet of a flow costs when every packet
// is one: endless SYNs, in a table that they fill.
func BenchmarkNewFlows(b *testing.B) {
	for _, m := range []struct {
		name   string
		method fib.Method
	}{{"nat/v4", fib.MethodNAT}, {"ipip/4in4", fib.MethodIPIP}, {"l2/v4", fib.MethodL2}} {
		for _, size := range []int{1 << 16, 1 << 20} {
			b.Run(fmt.Sprintf("%s/table=%d", m.name, size), func(b *testing.B) {
				l := newLoop(b, "198.18.100.1", 1<<31)
				l.frame = packettest.TCP(packettest.AddrPort("203.0.113.1:1024"), packettest.AddrPort("198.18.100.1:80"), packettest.MACs(ourMAC0, clientMAC), packettest.PayloadLen(6))
				now := flow.Time(1000)
				svc := testService{vip: "198.18.100.1", proto: packet.ProtoTCP, port: 80, method: m.method, backends: manyBackends("198.18.100.1")}
				w := loopWorker(b, l, testFIB([]testService{svc}), size*4/5, &now)
				for l.left = size; l.left > 0; {
					w.Step()
				}
				b.ResetTimer()
				before := cpuTime(b)
				for l.left = b.N; l.left > 0; {
					w.Step()
				}
				b.StopTimer()
				b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/packet")
				b.ReportMetric(float64(w.Counters.Ledger.Ended[reason.ForwardNew])/float64(w.Counters.Ledger.Received), "opened")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// sequence hands out each flow once, in order.
type sequence struct {
	*loop
	next uint32
}

func (s *sequence) Receive(frames []nic.Frame) int {
	for i := range frames {
		addr, ok := s.pool.Get()
		if !ok || s.next == s.flows {
			if ok {
				s.pool.Put(addr)
			}
			return i
		}
		s.write(s.pool.Mem[addr+256:], s.next)
		s.next++
		frames[i] = nic.Frame{Addr: addr + 256, Len: uint32(len(s.frame))}
	}
	return len(frames)
}

func newLoop(b *testing.B, vip string, flows int) *loop {
	pool, err := nic.NewPool(make([]byte, 1024*2048), 2048, 256)
	if err != nil {
		b.Fatal(err)
	}
	l := &loop{pool: pool, flows: uint32(flows), v6: packettest.Addr(vip).Is6(), done: make([]uint64, 0, 1024)}
	if l.v6 {
		l.frame = packettest.UDP(packettest.AddrPort("[2001:db8:20::1]:1024"), packettest.AddrPort("["+vip+"]:80"), packettest.MACs(ourMAC0, clientMAC))
	} else {
		l.frame = packettest.UDP(packettest.AddrPort("203.0.113.1:1024"), packettest.AddrPort(vip+":80"), packettest.MACs(ourMAC0, clientMAC), packettest.NoUDPChecksum(), packettest.PayloadLen(18))
	}
	return l
}

func loopWorker(b *testing.B, l *loop, builder *fib.Builder, flows int, now *flow.Time) *dataplane.Worker {
	image, err := builder.Encode(1)
	if err != nil {
		b.Fatal(err)
	}
	s, err := fib.Open(image)
	if err != nil {
		b.Fatal(err)
	}
	var snaps dataplane.Publisher
	size := max(1024, flows*5/4)
	table, err := flow.New(make([]byte, flow.Size(size)), flow.Config{Flows: size, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	memos, err := memo.NewPrivate(flows, 1024, memo.Seed{1, 2})
	if err != nil {
		b.Fatal(err)
	}
	snaps.Memos = memos
	snaps.Publish(s)
	w, err := dataplane.NewWorker(dataplane.Config{
		Pool: l.pool, Queues: []dataplane.PortQueue{{Port: 0, Queue: l}, {Port: 1, Queue: sink{l}}}, Flows: table, Snapshots: &snaps, Memos: memos,
		Counters: ledger.New(256, 256), Clock: func() flow.Time { return *now }, HoldMost: 64,
	})
	if err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkLoop is what the packet source and sink of BenchmarkWorker cost
// themselves.
func BenchmarkLoop(b *testing.B) {
	l := newLoop(b, "198.18.100.1", 100_000)
	var frames [nic.BatchSize]nic.Frame
	l.left = b.N
	for l.left > 0 {
		n := l.Receive(frames[:])
		for i := range n {
			l.pool.Put(frames[i].Addr)
		}
	}
}
