package steer

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Verdicts on a packet that has a memo: on a veth it is redirected, back by its
// own interface too.
const (
	xdpTX      = 3
	xdpCarried = xdpRedirect
)

// Values of the memo's fields, as the standard of dataplane/memo has them,
// written here once more on purpose.
const (
	opNATForward = 1
	opNATReply   = 2
	opIPIP       = 3
	opGUE        = 4
	opL2         = 5

	routeOuter6   = 1
	routeInKernel = 2
	forKernel     = 1
)

const (
	memoEntries = 8
	memoRoutes  = 4
	localID     = 77
)

var memoSeed = [2]uint64{0x0123456789abcdef, 0xfedcba9876543210}

// memoLab is a program with the memory of its flow memos mapped, on two
// interfaces that can send what is redirected to them.
type memoLab struct {
	runner
	s       *Steer
	in, out pair
	maps    MemoMaps
	entries []objectMemoEntry
	routes  []objectMemoRoute
	counts  []objectMemoCount
}

func newMemoLab(t *testing.T) *memoLab {
	t.Helper()
	newNamespace(t)
	s, err := Open(Config{Memo: &MemoConfig{Entries: memoEntries, Routes: memoRoutes, Seed: memoSeed}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	l := &memoLab{s: s, in: newPair(t, "in", 1500, 1), out: newPair(t, "out", 1500, 1)}
	locals := ours()
	for i := range locals {
		locals[i].ID = localID
	}
	setLocals(t, s, locals...)
	peers := open(t, "") // programs that pass everything: without one, a veth does not take what is redirected
	for _, p := range []pair{l.in, l.out} {
		attach(t, peers, pair{near: p.far, far: p.near}, ModeNative)
		if a := attach(t, s, p, ModeNative); !a.Redirectable {
			t.Fatalf("attached %+v", a)
		}
	}
	l.runner = runner{t, s.ifaces[l.in.ifindex()].prog, l.in.ifindex()}
	maps, ok := s.Memo()
	if !ok {
		t.Fatal("no flow memos")
	}
	l.maps = maps
	l.entries = mapMemory[objectMemoEntry](t, maps.Entries)
	l.routes = mapMemory[objectMemoRoute](t, maps.Routes)
	l.counts = mapMemory[objectMemoCount](t, maps.Counts)
	l.clear()
	return l
}

// mapMemory maps one map as what it consists of.
func mapMemory[T any](t testing.TB, m SharedMap) []T {
	t.Helper()
	var one T
	if int(unsafe.Sizeof(one)) != m.Size {
		t.Fatalf("elements of %d bytes, want %d", m.Size, unsafe.Sizeof(one))
	}
	b, err := unix.Mmap(m.FD, 0, m.Bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), m.Len)
}

// clear forgets everything.
func (l *memoLab) clear() {
	clear(l.entries)
	l.entries[memoEntries].KeyHi = memoEntries/2 - 1 // all sets are in use
	clear(l.routes)
	clear(l.counts)
}

// count is what went by a route, on all CPUs.
func (l *memoLab) count(route int) objectMemoCount {
	var sum objectMemoCount
	for cpu := range l.maps.CPUs {
		c := l.counts[cpu*memoRoutes+route]
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
		sum.BytesSent += c.BytesSent
	}
	return sum
}

// run runs the program on a frame and returns what it says and what it made.
func (l *memoLab) run(frame []byte) (uint32, []byte) {
	l.t.Helper()
	opts := &ebpf.RunOptions{
		Data: frame, DataOut: make([]byte, len(frame)+256),
		Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(l.ifindex)},
	}
	got, err := l.prog.Run(opts)
	if err != nil {
		l.t.Fatal(err)
	}
	return got, opts.DataOut
}

// hash is the hash of a key, in the words of dataplane/memo.
func hash(hi, lo, rest uint64) uint64 {
	h := (hi ^ memoSeed[0]) * 0x6a09e667f3bcc909
	h = (h ^ h>>32 ^ lo) * 0xbb67ae8584caa73b
	h = (h ^ h>>32 ^ rest ^ rest>>32 ^ memoSeed[1]) * 0x3c6ef372fe94f82b
	return h ^ h>>32
}

// places are the indices at which an entry may lie, in the order in which they
// are looked at.
func places(e *objectMemoEntry) [4]int {
	h := hash(e.KeyHi, e.KeyLo, e.KeyRest)
	odd := int(h >> 63)
	first := int(h&(memoEntries/2-1))*2 + odd
	second := int(h>>32&(memoEntries/2-1))*2 + odd
	return [4]int{first, first ^ 1, second, second ^ 1}
}

func halves(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// monotonic is the clock that leases go by, in ms.
func monotonic(t *testing.T) uint32 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return uint32(ts.Nano() / int64(time.Millisecond))
}

func control(lease uint32, route, generation, sequence uint64) uint64 {
	return uint64(lease)<<32 | route<<16 | generation<<8 | sequence
}

// ends are the addresses and ports of a packet.
type ends struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
}

func (e ends) bytes(ports bool) []byte {
	b := append(e.src.AsSlice(), e.dst.AsSlice()...)
	if ports {
		b = binary.BigEndian.AppendUint16(b, e.srcPort)
		b = binary.BigEndian.AppendUint16(b, e.dstPort)
	}
	return b
}

// delta is the change of a checksum, as RFC 1624 has it, word by word.
func delta(before, after []byte) uint64 {
	var sum uint32
	for i := 0; i < len(before); i += 2 {
		sum += uint32(^binary.BigEndian.Uint16(before[i:])) + uint32(binary.BigEndian.Uint16(after[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint64(sum)
}

// flow describes one direction of a flow for the tests.
type memoFlow struct {
	ends
	proto layers.IPProtocol
}

func (f memoFlow) key() (hi, lo, rest uint64) {
	peer := halves(f.src)
	return peer[0], peer[1], uint64(f.srcPort)<<48 | uint64(f.dstPort)<<32 | localID<<16 | uint64(f.proto)<<8
}

// transport is a transport header with the flow's ports over an IP header.
func (f memoFlow) transport(t testing.TB, over gopacket.NetworkLayer, flags func(*layers.TCP)) gopacket.SerializableLayer {
	t.Helper()
	var l gopacket.SerializableLayer
	if f.proto == layers.IPProtocolUDP {
		l = &layers.UDP{SrcPort: layers.UDPPort(f.srcPort), DstPort: layers.UDPPort(f.dstPort)}
	} else {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(f.srcPort), DstPort: layers.TCPPort(f.dstPort), Seq: 7, Ack: 9, ACK: true, Window: 100}
		if flags != nil {
			flags(tcp)
		}
		l = tcp
	}
	if err := l.(checksummed).SetNetworkLayerForChecksum(over); err != nil {
		t.Fatal(err)
	}
	return l
}

// header is an IP header.
type header struct {
	src, dst     netip.Addr
	proto        layers.IPProtocol
	ttl, tos     uint8
	id           uint16
	dontFragment bool
	label        uint32
}

func (h header) layer() (gopacket.SerializableLayer, layers.EthernetType) {
	if h.src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: h.ttl, TOS: h.tos, Id: h.id, Protocol: h.proto, SrcIP: h.src.AsSlice(), DstIP: h.dst.AsSlice()}
		if h.dontFragment {
			ip.Flags = layers.IPv4DontFragment
		}
		return ip, layers.EthernetTypeIPv4
	}
	return &layers.IPv6{Version: 6, HopLimit: h.ttl, TrafficClass: h.tos, FlowLabel: h.label, NextHeader: h.proto,
		SrcIP: h.src.AsSlice(), DstIP: h.dst.AsSlice()}, layers.EthernetTypeIPv6
}

// ether is an Ethernet header with a route's addresses.
func ether(macs [12]byte, typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: macs[:6], SrcMAC: macs[6:], EthernetType: typ}
}

// equal compares frames.
func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n%x, want\n%x", what, got, want)
	}
}
