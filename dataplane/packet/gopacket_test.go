package packet_test

import (
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// gopacketInfo fills an Info, but for Inner, with what gopacket's decoders say
// of a frame. It goes over the layers from the outside in and adds up their
// lengths.
func gopacketInfo(t *testing.T, frame []byte) packet.Info {
	t.Helper()
	info := gopacketNetwork(frame)
	if info.FragOffset != 0 {
		return info
	}
	b := frame[info.L4 : info.L3+info.IPLen]
	switch info.Proto {
	case packet.ProtoTCP:
		var l layers.TCP
		decode(t, &l, b)
		info.SrcPort, info.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
		info.TCPFlags = l.Contents[13]
	case packet.ProtoUDP:
		var l layers.UDP
		decode(t, &l, b)
		info.SrcPort, info.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
	case packet.ProtoSCTP:
		var l layers.SCTP
		decode(t, &l, b)
		info.SrcPort, info.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
	case packet.ProtoICMP, packet.ProtoICMPv6:
		info.ICMPType, info.ICMPCode, info.SrcPort = gopacketICMP(t, info.Proto, b)
		info.DstPort = info.SrcPort
	}
	return info
}

type decoder interface {
	DecodeFromBytes([]byte, gopacket.DecodeFeedback) error
}

func decode(t *testing.T, l decoder, b []byte) {
	t.Helper()
	if err := l.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		t.Fatalf("%v\n%x", err, b)
	}
}

// gopacketICMP gives type, code and, of an echo, the identifier.
func gopacketICMP(t *testing.T, proto uint8, b []byte) (typ, code uint8, id uint16) {
	t.Helper()
	if proto == packet.ProtoICMP {
		var l layers.ICMPv4
		decode(t, &l, b)
		if typ = l.TypeCode.Type(); typ == layers.ICMPv4TypeEchoRequest || typ == layers.ICMPv4TypeEchoReply {
			id = l.Id
		}
		return typ, l.TypeCode.Code(), id
	}
	var l layers.ICMPv6
	decode(t, &l, b)
	if typ = l.TypeCode.Type(); typ == layers.ICMPv6TypeEchoRequest || typ == layers.ICMPv6TypeEchoReply {
		var e layers.ICMPv6Echo
		decode(t, &e, l.Payload)
		id = e.Identifier
	}
	return typ, l.TypeCode.Code(), id
}

// gopacketNetwork goes over the layers below the transport protocol.
func gopacketNetwork(frame []byte) packet.Info {
	var info packet.Info
	at := 0
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	for _, layer := range p.Layers() {
		switch l := layer.(type) {
		case *layers.Ethernet:
			info.L3 = packet.EthernetLen
		case *layers.Dot1Q:
			info.VLANs++
			info.L3 += packet.VLANLen
		case *layers.IPv4:
			info.Kind = packet.KindIPv4
			info.Src, info.Dst = ipAddr(l.SrcIP), ipAddr(l.DstIP)
			info.TOS, info.TTL, info.Proto = l.TOS, l.TTL, uint8(l.Protocol)
			info.DontFragment = l.Flags&layers.IPv4DontFragment != 0
			info.IPLen = l.Length
			if setFragment(&info, l.FragOffset, l.Flags&layers.IPv4MoreFragments != 0) {
				info.FragID = uint32(l.Id)
			}
		case *layers.IPv6:
			info.Kind = packet.KindIPv6
			info.Src, info.Dst = ipAddr(l.SrcIP), ipAddr(l.DstIP)
			info.TOS, info.TTL, info.Proto = l.TrafficClass, l.HopLimit, uint8(l.NextHeader)
			info.DontFragment = true
			info.IPLen = packet.IPv6Len + l.Length
		case *layers.IPv6HopByHop:
			info.Proto = uint8(l.NextHeader)
		case *layers.IPv6Routing:
			info.Proto = uint8(l.NextHeader)
		case *layers.IPv6Destination:
			info.Proto = uint8(l.NextHeader)
		case *layers.IPSecAH:
			info.Proto = uint8(l.NextHeader)
		case *layers.IPv6Fragment:
			info.Proto = uint8(l.NextHeader)
			info.FragHeader, info.FragID = uint16(at), l.Identification
			setFragment(&info, l.FragmentOffset, l.MoreFragments)
		default:
			return info
		}
		at += len(layer.LayerContents())
		info.L4 = uint16(at)
		info.L3Len = info.L4 - info.L3
	}
	return info
}

func setFragment(info *packet.Info, units uint16, more bool) bool {
	if units == 0 && !more {
		return false
	}
	info.FragOffset = units * 8
	info.Frag = packet.FragAny
	if units == 0 {
		info.Frag |= packet.FragFirst
	}
	if more {
		info.Frag |= packet.FragMore
	}
	return true
}

func ipAddr(ip net.IP) packet.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return packet.AddrFrom(a)
}

// gopacket decodes the quote of an ICMP error as a packet of its own; Info has
// it in Inner, with offsets in the frame.
func gopacketInner(t *testing.T, frame []byte, info packet.Info) packet.Inner {
	t.Helper()
	// A short Ethernet header in front makes a frame of the quote, and the
	// length field is made to agree with what was quoted.
	const shift = packet.EthernetLen
	start := info.L4 + packet.ICMPLen
	end := info.L3 + info.IPLen
	quoted := append(make([]byte, shift), frame[start:end]...)
	if info.Kind == packet.KindIPv4 {
		copy(quoted[12:], []byte{8, 0})
		packet.IPv4(quoted[shift:]).SetTotalLen(uint16(len(quoted) - shift))
	} else {
		copy(quoted[12:], []byte{0x86, 0xdd})
		packet.IPv6(quoted[shift:]).SetPayloadLen(uint16(len(quoted) - shift - packet.IPv6Len))
	}
	q := gopacketNetwork(quoted)
	b := quoted[q.L4:]
	switch q.Proto {
	case packet.ProtoICMP, packet.ProtoICMPv6:
		_, _, q.SrcPort = gopacketICMP(t, q.Proto, b)
		q.DstPort = q.SrcPort
	default:
		// The 8 bytes that may be all there is are a UDP header with a length
		// that is none in TCP and SCTP; the ports stand in the same place.
		udp := append([]byte(nil), b[:packet.UDPLen]...)
		packet.UDP(udp).SetLength(packet.UDPLen)
		var l layers.UDP
		decode(t, &l, udp)
		q.SrcPort, q.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
	}
	return packet.Inner{
		Src: q.Src, Dst: q.Dst, Proto: q.Proto, SrcPort: q.SrcPort, DstPort: q.DstPort,
		L3: start, L4: q.L4 - shift + start, End: end,
	}
}

func TestParseAgainstGopacket(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	kinds := map[string]int{}
	for range 20_000 {
		frame := packettest.RandomFrame(r)
		var got packet.Info
		if why := packet.Parse(frame, &got); why != reason.None {
			t.Fatalf("%v\n%s", why, hex.Dump(frame))
		}
		want := gopacketInfo(t, frame)
		if got.Inner.Proto != 0 {
			kinds["error"]++
			inner := gopacketInner(t, frame, got)
			if got.Inner != inner {
				t.Fatalf("inner\n %+v\ngopacket\n %+v\n%s", got.Inner, inner, hex.Dump(frame))
			}
			got.Inner = packet.Inner{}
		}
		if got != want {
			t.Fatalf("info\n %+v\ngopacket\n %+v\n%s", got, want, hex.Dump(frame))
		}
		if got.Frag != 0 {
			kinds["fragment"]++
		}
		if got.FragHeader != 0 || got.L3Len > packet.IPv6Len {
			kinds["extensions"]++
		}
	}
	for _, kind := range []string{"error", "fragment", "extensions"} {
		if kinds[kind] < 500 {
			t.Errorf("only %d frames with %s among 20,000", kinds[kind], kind)
		}
	}
}
