package packet_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
)

// field is one header field: where the RFC's figure has it, in bits, and its
// accessors, with the value as a plain number. scale is what the accessor
// counts in (a header length in bytes stands in the header in words).
type field struct {
	name        string
	from, width int
	scale       uint64
	get         func(b []byte) uint64
	set         func(b []byte, v uint64) // nil: read only
}

func b2u(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func macOf(v uint64) (mac [6]byte) {
	for i := range mac {
		mac[i] = byte(v >> (40 - 8*i))
	}
	return mac
}

func ofMAC(mac [6]byte) uint64 { return bits(mac[:], 0, 48) }

func of4(a packet.Addr) uint64 { return a.Lo &^ (0xffff << 32) }

func addr4Of(v uint64) packet.Addr { return packet.Addr{Lo: 0xffff<<32 | v} }

var headerFields = []field{
	{"Ethernet.DstMAC", 0, 48, 1, func(b []byte) uint64 { return ofMAC(packet.Ethernet(b).DstMAC()) }, func(b []byte, v uint64) { packet.Ethernet(b).SetDstMAC(macOf(v)) }},
	{"Ethernet.SrcMAC", 48, 48, 1, func(b []byte) uint64 { return ofMAC(packet.Ethernet(b).SrcMAC()) }, func(b []byte, v uint64) { packet.Ethernet(b).SetSrcMAC(macOf(v)) }},
	{"Ethernet.EtherType", 96, 16, 1, func(b []byte) uint64 { return uint64(packet.Ethernet(b).EtherType()) }, func(b []byte, v uint64) { packet.Ethernet(b).SetEtherType(uint16(v)) }},
	{"Ethernet.DstIsGroup", 7, 1, 1, func(b []byte) uint64 { return b2u(packet.Ethernet(b).DstIsGroup()) }, nil},

	{"VLAN.TCI", 0, 16, 1, func(b []byte) uint64 { return uint64(packet.VLAN(b).TCI()) }, func(b []byte, v uint64) { packet.VLAN(b).SetTCI(uint16(v)) }},
	{"VLAN.ID", 4, 12, 1, func(b []byte) uint64 { return uint64(packet.VLAN(b).ID()) }, nil},
	{"VLAN.EtherType", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.VLAN(b).EtherType()) }, func(b []byte, v uint64) { packet.VLAN(b).SetEtherType(uint16(v)) }},

	{"ARP.HardwareType", 0, 16, 1, func(b []byte) uint64 { return uint64(packet.ARP(b).HardwareType()) }, nil},
	{"ARP.ProtocolType", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.ARP(b).ProtocolType()) }, nil},
	{"ARP.HardwareLen", 32, 8, 1, func(b []byte) uint64 { return uint64(packet.ARP(b).HardwareLen()) }, nil},
	{"ARP.ProtocolLen", 40, 8, 1, func(b []byte) uint64 { return uint64(packet.ARP(b).ProtocolLen()) }, nil},
	{"ARP.Op", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.ARP(b).Op()) }, func(b []byte, v uint64) { packet.ARP(b).SetOp(uint16(v)) }},
	{"ARP.SenderMAC", 64, 48, 1, func(b []byte) uint64 { return ofMAC(packet.ARP(b).SenderMAC()) }, func(b []byte, v uint64) { packet.ARP(b).SetSenderMAC(macOf(v)) }},
	{"ARP.SenderAddr", 112, 32, 1, func(b []byte) uint64 { return of4(packet.ARP(b).SenderAddr()) }, func(b []byte, v uint64) { packet.ARP(b).SetSenderAddr(addr4Of(v)) }},
	{"ARP.TargetMAC", 144, 48, 1, func(b []byte) uint64 { return ofMAC(packet.ARP(b).TargetMAC()) }, func(b []byte, v uint64) { packet.ARP(b).SetTargetMAC(macOf(v)) }},
	{"ARP.TargetAddr", 192, 32, 1, func(b []byte) uint64 { return of4(packet.ARP(b).TargetAddr()) }, func(b []byte, v uint64) { packet.ARP(b).SetTargetAddr(addr4Of(v)) }},

	{"IPv4.Version", 0, 4, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).Version()) }, nil},
	{"IPv4.HeaderLen", 4, 4, 4, func(b []byte) uint64 { return uint64(packet.IPv4(b).HeaderLen()) }, nil},
	{"IPv4.TOS", 8, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).TOS()) }, func(b []byte, v uint64) { packet.IPv4(b).SetTOS(uint8(v)) }},
	{"IPv4.TotalLen", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).TotalLen()) }, func(b []byte, v uint64) { packet.IPv4(b).SetTotalLen(uint16(v)) }},
	{"IPv4.ID", 32, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).ID()) }, func(b []byte, v uint64) { packet.IPv4(b).SetID(uint16(v)) }},
	{"IPv4.FlagsOffset", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).FlagsOffset()) }, func(b []byte, v uint64) { packet.IPv4(b).SetFlagsOffset(uint16(v)) }},
	{"IPv4.DontFragment", 49, 1, 1, func(b []byte) uint64 { return b2u(packet.IPv4(b).DontFragment()) }, nil},
	{"IPv4.MoreFragments", 50, 1, 1, func(b []byte) uint64 { return b2u(packet.IPv4(b).MoreFragments()) }, nil},
	{"IPv4.FragmentOffset", 51, 13, 8, func(b []byte) uint64 { return uint64(packet.IPv4(b).FragmentOffset()) }, nil},
	{"IPv4.TTL", 64, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).TTL()) }, func(b []byte, v uint64) { packet.IPv4(b).SetTTL(uint8(v)) }},
	{"IPv4.Proto", 72, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).Proto()) }, func(b []byte, v uint64) { packet.IPv4(b).SetProto(uint8(v)) }},
	{"IPv4.TTLProto", 64, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).TTLProto()) }, nil},
	{"IPv4.Checksum", 80, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv4(b).Checksum()) }, func(b []byte, v uint64) { packet.IPv4(b).SetChecksum(uint16(v)) }},
	{"IPv4.Src", 96, 32, 1, func(b []byte) uint64 { return of4(packet.IPv4(b).Src()) }, func(b []byte, v uint64) { packet.IPv4(b).SetSrc(addr4Of(v)) }},
	{"IPv4.Dst", 128, 32, 1, func(b []byte) uint64 { return of4(packet.IPv4(b).Dst()) }, func(b []byte, v uint64) { packet.IPv4(b).SetDst(addr4Of(v)) }},

	{"IPv6.Version", 0, 4, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).Version()) }, nil},
	{"IPv6.TrafficClass", 4, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).TrafficClass()) }, func(b []byte, v uint64) { packet.IPv6(b).SetTrafficClass(uint8(v)) }},
	{"IPv6.FlowLabel", 12, 20, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).FlowLabel()) }, nil},
	{"IPv6.PayloadLen", 32, 16, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).PayloadLen()) }, func(b []byte, v uint64) { packet.IPv6(b).SetPayloadLen(uint16(v)) }},
	{"IPv6.NextHeader", 48, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).NextHeader()) }, func(b []byte, v uint64) { packet.IPv6(b).SetNextHeader(uint8(v)) }},
	{"IPv6.HopLimit", 56, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv6(b).HopLimit()) }, func(b []byte, v uint64) { packet.IPv6(b).SetHopLimit(uint8(v)) }},
	{"IPv6.Src high", 64, 64, 1, func(b []byte) uint64 { return packet.IPv6(b).Src().Hi }, nil},
	{"IPv6.Src low", 128, 64, 1, func(b []byte) uint64 { return packet.IPv6(b).Src().Lo }, nil},
	{"IPv6.Dst high", 192, 64, 1, func(b []byte) uint64 { return packet.IPv6(b).Dst().Hi }, nil},
	{"IPv6.Dst low", 256, 64, 1, func(b []byte) uint64 { return packet.IPv6(b).Dst().Lo }, nil},

	{"IPv6Extension.NextHeader", 0, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv6Extension(b).NextHeader()) }, func(b []byte, v uint64) { packet.IPv6Extension(b).SetNextHeader(uint8(v)) }},
	{"IPv6Fragment.NextHeader", 0, 8, 1, func(b []byte) uint64 { return uint64(packet.IPv6Fragment(b).NextHeader()) }, func(b []byte, v uint64) { packet.IPv6Fragment(b).SetNextHeader(uint8(v)) }},
	{"IPv6Fragment.Offset", 16, 13, 8, func(b []byte) uint64 { return uint64(packet.IPv6Fragment(b).Offset()) }, nil},
	{"IPv6Fragment.More", 31, 1, 1, func(b []byte) uint64 { return b2u(packet.IPv6Fragment(b).More()) }, nil},
	{"IPv6Fragment.ID", 32, 32, 1, func(b []byte) uint64 { return uint64(packet.IPv6Fragment(b).ID()) }, func(b []byte, v uint64) { packet.IPv6Fragment(b).SetID(uint32(v)) }},

	{"TCP.SrcPort", 0, 16, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).SrcPort()) }, func(b []byte, v uint64) { packet.TCP(b).SetSrcPort(uint16(v)) }},
	{"TCP.DstPort", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).DstPort()) }, func(b []byte, v uint64) { packet.TCP(b).SetDstPort(uint16(v)) }},
	{"TCP.Seq", 32, 32, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Seq()) }, func(b []byte, v uint64) { packet.TCP(b).SetSeq(uint32(v)) }},
	{"TCP.Ack", 64, 32, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Ack()) }, func(b []byte, v uint64) { packet.TCP(b).SetAck(uint32(v)) }},
	{"TCP.HeaderLen", 96, 4, 4, func(b []byte) uint64 { return uint64(packet.TCP(b).HeaderLen()) }, nil},
	{"TCP.Flags", 104, 8, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Flags()) }, func(b []byte, v uint64) { packet.TCP(b).SetFlags(uint8(v)) }},
	{"TCP.Window", 112, 16, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Window()) }, func(b []byte, v uint64) { packet.TCP(b).SetWindow(uint16(v)) }},
	{"TCP.Checksum", 128, 16, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Checksum()) }, func(b []byte, v uint64) { packet.TCP(b).SetChecksum(uint16(v)) }},
	{"TCP.Urgent", 144, 16, 1, func(b []byte) uint64 { return uint64(packet.TCP(b).Urgent()) }, func(b []byte, v uint64) { packet.TCP(b).SetUrgent(uint16(v)) }},

	{"UDP.SrcPort", 0, 16, 1, func(b []byte) uint64 { return uint64(packet.UDP(b).SrcPort()) }, func(b []byte, v uint64) { packet.UDP(b).SetSrcPort(uint16(v)) }},
	{"UDP.DstPort", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.UDP(b).DstPort()) }, func(b []byte, v uint64) { packet.UDP(b).SetDstPort(uint16(v)) }},
	{"UDP.Length", 32, 16, 1, func(b []byte) uint64 { return uint64(packet.UDP(b).Length()) }, func(b []byte, v uint64) { packet.UDP(b).SetLength(uint16(v)) }},
	{"UDP.Checksum", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.UDP(b).Checksum()) }, func(b []byte, v uint64) { packet.UDP(b).SetChecksum(uint16(v)) }},

	{"SCTP.SrcPort", 0, 16, 1, func(b []byte) uint64 { return uint64(packet.SCTP(b).SrcPort()) }, func(b []byte, v uint64) { packet.SCTP(b).SetSrcPort(uint16(v)) }},
	{"SCTP.DstPort", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.SCTP(b).DstPort()) }, func(b []byte, v uint64) { packet.SCTP(b).SetDstPort(uint16(v)) }},
	{"SCTP.Tag", 32, 32, 1, func(b []byte) uint64 { return uint64(packet.SCTP(b).Tag()) }, func(b []byte, v uint64) { packet.SCTP(b).SetTag(uint32(v)) }},

	{"ICMPv4.Type", 0, 8, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).Type()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetType(uint8(v)) }},
	{"ICMPv4.Code", 8, 8, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).Code()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetCode(uint8(v)) }},
	{"ICMPv4.Checksum", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).Checksum()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetChecksum(uint16(v)) }},
	{"ICMPv4.ID", 32, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).ID()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetID(uint16(v)) }},
	{"ICMPv4.Seq", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).Seq()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetSeq(uint16(v)) }},
	{"ICMPv4.MTU", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv4(b).MTU()) }, func(b []byte, v uint64) { packet.ICMPv4(b).SetMTU(uint16(v)) }},
	{"ICMPv4.Rest", 32, 32, 1, nil, func(b []byte, v uint64) { packet.ICMPv4(b).SetRest(uint32(v)) }},

	{"ICMPv6.Type", 0, 8, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).Type()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetType(uint8(v)) }},
	{"ICMPv6.Code", 8, 8, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).Code()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetCode(uint8(v)) }},
	{"ICMPv6.Checksum", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).Checksum()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetChecksum(uint16(v)) }},
	{"ICMPv6.ID", 32, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).ID()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetID(uint16(v)) }},
	{"ICMPv6.Seq", 48, 16, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).Seq()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetSeq(uint16(v)) }},
	{"ICMPv6.MTU", 32, 32, 1, func(b []byte) uint64 { return uint64(packet.ICMPv6(b).MTU()) }, func(b []byte, v uint64) { packet.ICMPv6(b).SetMTU(uint32(v)) }},
	{"ICMPv6.Rest", 32, 32, 1, nil, func(b []byte, v uint64) { packet.ICMPv6(b).SetRest(uint32(v)) }},

	{"NDP.Flags", 32, 8, 1, func(b []byte) uint64 { return uint64(packet.NDP(b).Flags()) }, nil},
	{"NDP.Target high", 64, 64, 1, func(b []byte) uint64 { return packet.NDP(b).Target().Hi }, nil},
	{"NDP.Target low", 128, 64, 1, func(b []byte) uint64 { return packet.NDP(b).Target().Lo }, nil},

	{"GUE.Version", 0, 2, 1, func(b []byte) uint64 { return uint64(packet.GUE(b).Version()) }, nil},
	{"GUE.Control", 2, 1, 1, func(b []byte) uint64 { return b2u(packet.GUE(b).Control()) }, nil},
	{"GUE.Proto", 8, 8, 1, func(b []byte) uint64 { return uint64(packet.GUE(b).Proto()) }, nil},
	{"GUE.Flags", 16, 16, 1, func(b []byte) uint64 { return uint64(packet.GUE(b).Flags()) }, nil},
}

// Every accessor reads and writes exactly the bits that the RFC's figure gives
// to its field.
func TestHeaderFields(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	for _, f := range headerFields {
		t.Run(f.name, func(t *testing.T) {
			for range 200 {
				b := randomBytes(r, 64)
				if f.get != nil {
					if got, want := f.get(b), bits(b, f.from, f.width)*f.scale; got != want {
						t.Fatalf("reads %#x, want %#x from %x", got, want, b)
					}
				}
				if f.set == nil {
					continue
				}
				v := r.Uint64() >> (64 - f.width)
				want := bytes.Clone(b)
				putBits(want, f.from, f.width, v)
				f.set(b, v)
				if !bytes.Equal(b, want) {
					t.Fatalf("writes %#x as\n %x, want\n %x", v, b, want)
				}
			}
		})
	}
}

func putBits(b []byte, from, width int, v uint64) {
	for i := range width {
		at := from + width - 1 - i
		b[at/8] &^= 0x80 >> (at % 8)
		if v>>i&1 != 0 {
			b[at/8] |= 0x80 >> (at % 8)
		}
	}
}
