package steer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	backend4 = netip.MustParseAddr("192.0.2.80")
	backend6 = netip.MustParseAddr("2001:db8:2::80")
)

// way is one operation on packets of one family and protocol: what is received,
// the memo for it, and what is to be sent.
type way struct {
	name          string
	flow          memoFlow
	tos           uint8
	dontFragment  bool
	entry         objectMemoEntry
	route         objectMemoRoute
	frame, wanted []byte
}

var routeMACs = [12]byte{2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2}

const (
	entropy = 0x89a0b1c2
	payload = "what is carried is not looked at"
)

// newWay makes a memo for the flow and the frames before and after.
func (l *memoLab) newWay(op uint8, flow memoFlow, outer6, dontFragment bool) *way {
	l.t.Helper()
	is4 := flow.src.Is4()
	w := &way{flow: flow, tos: 0x2e<<2 | 1, dontFragment: dontFragment || !is4}
	w.name = fmt.Sprintf("op %d, %v to %v, %v, outer6 %v, df %v", op, flow.src, flow.dst, flow.proto, outer6, dontFragment)
	w.entry.KeyHi, w.entry.KeyLo, w.entry.KeyRest = flow.key()
	w.entry.Control = control(monotonic(l.t.(*testing.T))+60000, 2, 9, 3)
	w.entry.Flags = forKernel
	w.entry.Entropy = entropy
	w.route = objectMemoRoute{State: 9, Ifindex: uint32(l.in.ifindex()), Mtu: 1400, Op: op, Flags: routeInKernel, Macs: routeMACs, Ttl: 33, GuePort: 6080}

	before := header{src: flow.src, dst: flow.dst, proto: flow.proto, ttl: 64, tos: w.tos, id: 4711, dontFragment: w.dontFragment, label: 0x12345}
	w.frame = l.packet(flow, before, routeMACsIn, nil)
	after := before
	after.ttl--

	switch op {
	case opNATForward, opNATReply:
		to := ends{snat4, backend4, 1024, 8080}
		if !is4 {
			to = ends{snat6, backend6, 1024, 8080}
		}
		w.route.Src, w.route.Dst = halves(to.src), halves(to.dst)
		if op == opNATForward {
			w.entry.ViaHi, w.entry.ViaLo = 0x020000000002, uint64(l.in.ifindex())
		} else {
			client := halves(to.dst)
			w.entry.ViaHi, w.entry.ViaLo = client[0], client[1]
			w.route.Dst = [2]uint64{1, 2} // not to be used
		}
		w.entry.Nat = uint64(to.srcPort)<<48 | uint64(to.dstPort)<<32 |
			delta(flow.ends.bytes(false), to.bytes(false))<<16 | delta(flow.ends.bytes(true), to.bytes(true))
		after.src, after.dst = to.src, to.dst
		w.wanted = l.packet(memoFlow{to, flow.proto}, after, routeMACs, nil)
	case opL2:
		w.wanted = l.packet(flow, after, routeMACs, nil)
	case opIPIP, opGUE:
		outer := header{src: tunnel4, dst: backend4, ttl: 33, tos: w.tos, dontFragment: w.dontFragment}
		if outer6 {
			outer = header{src: tunnel6, dst: backend6, ttl: 33, tos: w.tos, label: entropy & 0xfffff}
			w.route.Flags |= routeOuter6
		}
		w.route.Src, w.route.Dst = halves(outer.src), halves(outer.dst)
		if !outer6 {
			w.route.Sum = outerSum(op, w.route.Ttl, outer.src, outer.dst)
		}
		inner := l.packet(flow, after, routeMACs, nil)[14:]
		carried := layers.IPProtocolIPv4
		if !is4 {
			carried = layers.IPProtocolIPv6
		}
		outer.proto = carried
		content := []gopacket.SerializableLayer{gopacket.Payload(inner)}
		if op == opGUE {
			outer.proto = layers.IPProtocolUDP
			udp := &layers.UDP{SrcPort: 49152 | (entropy^entropy>>16)&0x3fff, DstPort: 6080, Length: uint16(8 + 4 + len(inner))}
			gue := append([]byte{0, byte(carried), 0, 0}, inner...)
			content = []gopacket.SerializableLayer{gopacket.Payload(withoutChecksum(l.t, udp, gue))}
		}
		ip, typ := outer.layer()
		w.wanted = frame(l.t, append([]gopacket.SerializableLayer{ether(routeMACs, typ), ip}, content...)...)
	}
	return w
}

// outerSum is what a route says of the sum of its outer IPv4 headers.
func outerSum(op, ttl uint8, src, dst netip.Addr) uint32 {
	h := append([]byte{0x45, 0, ttl, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
	if op == opGUE {
		h[3] = 17
	}
	return uint32(sum16(h))
}

// withoutChecksum is a UDP datagram with a checksum of 0.
func withoutChecksum(t testing.TB, udp *layers.UDP, content []byte) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, udp, gopacket.Payload(content)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// routeMACsIn are the addresses of frames as received: from farMAC to nearMAC.
var routeMACsIn = [12]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}

// packet is a frame of a flow.
func (l *memoLab) packet(f memoFlow, h header, macs [12]byte, tcp func(*layers.TCP)) []byte {
	l.t.Helper()
	ip, typ := h.layer()
	return frame(l.t, ether(macs, typ), ip, f.transport(l.t, ip.(gopacket.NetworkLayer), tcp), gopacket.Payload(payload))
}

// ways are all operations on both families and both protocols.
func (l *memoLab) ways() []*way {
	var all []*way
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
		for _, e := range []ends{{client4, vip4, 4000, 80}, {client6, vip6, 4000, 80}} {
			f := memoFlow{e, proto}
			for _, df := range []bool{true, false} {
				for _, op := range []uint8{opNATForward, opNATReply, opL2} {
					all = append(all, l.newWay(op, f, false, df))
				}
				all = append(all, l.newWay(opIPIP, f, false, df), l.newWay(opIPIP, f, true, df), l.newWay(opGUE, f, false, df))
			}
		}
	}
	return all
}

// set puts a way's memo into the memory, at one of its four places.
func (l *memoLab) set(w *way, place int) {
	l.clear()
	l.routes[2] = w.route
	l.entries[places(&w.entry)[place]] = w.entry
}

// withoutID is a frame whose outer IPv4 header has an identification of its
// own: that and the checksum over it are taken out, and the checksum is checked.
func withoutID(t *testing.T, f []byte) []byte {
	t.Helper()
	f = patched(f, 0)
	if sum := sum16(f[14:34]); sum != 0xffff {
		t.Errorf("the outer header's checksum is wrong: sum %#x", sum)
	}
	return patched(patched(f, 14+4, 0, 0), 14+10, 0, 0)
}

func sum16(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TestMemoForwards runs a packet by each operation, family and protocol, from
// each place where its memo may lie, out of the interface it came in by and out
// of another one.
func TestMemoForwards(t *testing.T) {
	l := newMemoLab(t)
	var want Counters
	for _, w := range l.ways() {
		for place := range 4 {
			for _, out := range []pair{l.in, l.out} {
				w.route.Ifindex = uint32(out.ifindex())
				l.set(w, place)
				got, f := l.run(w.frame)
				want.Memo++
				if got != xdpCarried {
					t.Fatalf("%s, place %d: %s, want %s", w.name, place, actionName(got), actionName(xdpCarried))
				}
				wanted := w.wanted
				if (w.route.Op == opIPIP || w.route.Op == opGUE) && w.route.Flags&routeOuter6 == 0 && !w.dontFragment {
					f, wanted = withoutID(t, f), withoutID(t, wanted)
				}
				equal(t, fmt.Sprintf("%s, place %d", w.name, place), f, wanted)
				if c, n := l.count(2), (objectMemoCount{Packets: 1, Bytes: uint64(len(w.frame)), BytesSent: uint64(len(wanted))}); c != n {
					t.Errorf("%s: counted %+v, want %+v", w.name, c, n)
				}
			}
		}
	}
	if got := counters(t, l.s, l.in.ifindex()); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}
