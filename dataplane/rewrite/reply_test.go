package rewrite

import (
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// swapped are the link-layer addresses of an answer to a default frame.
var swapped = packettest.MACs(packettest.DefaultSrcMAC, packettest.DefaultDstMAC)

func TestEchoReply(t *testing.T) {
	payload := packettest.PayloadLen(57)
	runGolden(t, []golden{
		{name: "IPv4", do: EchoReply,
			in:  packettest.Echo(ip(client4), ip(vip4), 7, 9, payload, packettest.ID(5), packettest.DF(), packettest.TTL(3)),
			out: packettest.EchoReply(ip(vip4), ip(client4), 7, 9, payload, packettest.ID(5), packettest.DF(), swapped)},
		{name: "IPv4, may be fragmented, padding cut off", do: EchoReply,
			in:  packettest.Echo(ip(client4), ip(vip4), 7, 9, packettest.ID(0xffff), packettest.Trailer(18)),
			out: packettest.EchoReply(ip(vip4), ip(client4), 7, 9, packettest.ID(0xffff), swapped)},
		{name: "IPv4, DSCP kept, ECN cleared, tags kept, options gone", do: EchoReply,
			in:  packettest.Echo(ip(client4), ip(vip4), 7, 9, payload, packettest.TOS(0xbb), packettest.VLAN(1, 2), packettest.IPOptions(7, 7, 4, 0, 0, 0, 0)),
			out: packettest.EchoReply(ip(vip4), ip(client4), 7, 9, payload, packettest.TOS(0xb8), packettest.VLAN(1, 2), swapped)},
		{name: "IPv6", do: EchoReply,
			in:  packettest.Echo(ip(client6), ip(vip6), 7, 9, payload, packettest.FlowLabel(99), packettest.TTL(3)),
			out: packettest.EchoReply(ip(vip6), ip(client6), 7, 9, payload, swapped)},
		{name: "IPv6, traffic class, tag, extension headers gone", do: EchoReply,
			in:  packettest.Echo(ip(client6), ip(vip6), 7, 9, payload, packettest.TOS(0x2b), packettest.VLAN(3), packettest.HopByHop(1), packettest.DestOpts(2)),
			out: packettest.EchoReply(ip(vip6), ip(client6), 7, 9, payload, packettest.TOS(0x28), packettest.VLAN(3), swapped)},
		{name: "a reply is not answered", do: EchoReply, want: reason.ICMPUnsupported,
			in: packettest.EchoReply(ip(client4), ip(vip4), 7, 9)},
		{name: "a reply in IPv6 is not answered", do: EchoReply, want: reason.ICMPUnsupported,
			in: packettest.EchoReply(ip(client6), ip(vip6), 7, 9)},
		{name: "UDP is no ping", do: EchoReply, want: reason.ICMPUnsupported,
			in: packettest.UDP(ap(clientEnd4), ap(vipEnd4))},
		{name: "a fragment is not answered", do: EchoReply, want: reason.FragmentUnsupported, unverified: true,
			in: packettest.Echo(ip(client4), ip(vip4), 7, 9, packettest.PayloadLen(64), packettest.Fragment(0, true, 1))},
	})
}

func TestARPReply(t *testing.T) {
	reply := func(b *Buf, info *packet.Info) reason.Reason { return ARPReply(b.Frame(), info, nodeMAC) }
	macs := packettest.MACs(packettest.DefaultSrcMAC, nodeMAC)
	runGolden(t, []golden{
		{name: "request", do: reply,
			in:  packettest.ARPRequest(ip(client4), ip(vip4), packettest.Trailer(18)),
			out: packettest.ARPReply(ip(vip4), ip(client4), macs, packettest.Trailer(18))},
		{name: "unicast request in two VLANs", do: reply,
			in:  packettest.ARPRequest(ip(client4), ip(vip4), packettest.MACs(packettest.DefaultDstMAC, packettest.DefaultSrcMAC), packettest.VLAN(4, 5)),
			out: packettest.ARPReply(ip(vip4), ip(client4), macs, packettest.VLAN(4, 5))},
		{name: "probe", do: reply,
			in:  packettest.ARPRequest(ip("0.0.0.0"), ip(vip4)),
			out: packettest.ARPReply(ip(vip4), ip("0.0.0.0"), macs)},
		{name: "a reply is not answered", do: reply, want: reason.ARPMalformed,
			in: packettest.ARPReply(ip(client4), ip(vip4))},
	})
}

func TestNeighborAdvert(t *testing.T) {
	advert := func(b *Buf, info *packet.Info) reason.Reason { return NeighborAdvert(b, info, nodeMAC) }
	macs := packettest.MACs(packettest.DefaultSrcMAC, nodeMAC)
	allNodes := ip("ff02::1")
	runGolden(t, []golden{
		{name: "solicitation", do: advert,
			in:  packettest.NeighborSolicit(ip(client6), ip(vip6)),
			out: packettest.NeighborAdvert(ip(client6), ip(vip6), macs)},
		{name: "in a VLAN, with padding and traffic class", do: advert,
			in:  packettest.NeighborSolicit(ip(client6), ip(vip6), packettest.VLAN(4), packettest.Trailer(9), packettest.TOS(0xc0)),
			out: packettest.NeighborAdvert(ip(client6), ip(vip6), packettest.VLAN(4), macs)},
		{name: "unicast, from a link-local address", do: advert,
			in:  packettest.NeighborSolicit(ip("fe80::1"), ip(vip6), packettest.MACs(nodeMAC, packettest.DefaultSrcMAC)),
			out: packettest.NeighborAdvert(ip("fe80::1"), ip(vip6), macs)},
		{name: "more options than the answer has", do: advert,
			in:  packettest.NeighborSolicit(ip(client6), ip(vip6), packettest.Payload([]byte{14, 1, 1, 2, 3, 4, 5, 6})),
			out: packettest.NeighborAdvert(ip(client6), ip(vip6), macs)},
		{name: "behind an extension header", do: advert,
			in:  packettest.NeighborSolicit(ip(client6), ip(vip6), packettest.DestOpts(2)),
			out: packettest.NeighborAdvert(ip(client6), ip(vip6), macs)},
		{name: "duplicate address detection: to all nodes, not solicited", do: advert,
			in: packettest.NeighborSolicit(ip("::"), ip(vip6)),
			out: packettest.NeighborAdvert(allNodes, ip(vip6), packettest.Rest(0x20000000),
				packettest.MACs([6]byte{0x33, 0x33, 0, 0, 0, 1}, nodeMAC))},
		{name: "no room behind the frame", want: reason.HeadroomExhausted,
			in: packettest.NeighborSolicit(ip("::"), ip(vip6)),
			do: func(b *Buf, info *packet.Info) reason.Reason {
				b.Chunk = b.Chunk[: b.End+7 : b.End+7]
				return NeighborAdvert(b, info, nodeMAC)
			}},
	})
}

func TestICMPErrors(t *testing.T) {
	tooBig := func(src string, mtu uint32) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason { return TooBig(b, info, addr(src), mtu) }
	}
	timeExceeded := func(src string) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason { return TimeExceeded(b, info, addr(src)) }
	}
	unreachable := func(src string, code uint8) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason { return Unreachable(b, info, addr(src), code) }
	}
	like4 := packettest.Join(swapped, packettest.DF(), packettest.TOS(0xc0))
	big4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.DF(), packettest.PayloadLen(1400))
	small4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.TTL(1), packettest.PayloadLen(1))
	options4 := packettest.TCP(ap(clientEnd4), ap(vipEnd4), packettest.IPOptions(1, 1, 1, 0), packettest.VLAN(5, 6), packettest.PayloadLen(700))
	padded4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.Trailer(18))
	exact4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(576-28-28))
	over4 := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(576-28-28+1))
	big6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.PayloadLen(1400))
	small6 := packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.TTL(1), packettest.TOS(0xb8), packettest.PayloadLen(3))
	extended6 := packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.DestOpts(1), packettest.VLAN(5), packettest.PayloadLen(10))
	firstFragment := packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(0, true, 3), packettest.PayloadLen(64))
	runGolden(t, []golden{
		{name: "frag-needed: 576 bytes in all", do: tooBig(vip4, 1380), in: big4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 4, big4, packettest.Rest(1380), like4)},
		{name: "frag-needed: an MTU that does not fit the field", do: tooBig(vip4, 70000), in: big4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 4, big4, packettest.Rest(65535), like4)},
		{name: "frag-needed: options quoted, tags kept", do: tooBig(vip4, 700), in: options4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 4, options4, packettest.Rest(700), packettest.VLAN(5, 6), like4)},
		{name: "frag-needed: packet fits just", do: tooBig(vip4, 500), in: exact4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 4, exact4, packettest.Rest(500), like4)},
		{name: "frag-needed: packet one byte over", do: tooBig(vip4, 500), in: over4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 4, over4, packettest.Rest(500), like4)},
		{name: "packet-too-big: 1280 bytes in all", do: tooBig(vip6, 1380), in: big6,
			out: packettest.ICMPError(ip(vip6), ip(client6), 2, 0, big6, packettest.Rest(1380), swapped)},
		{name: "packet-too-big: extension header quoted, tag kept", do: tooBig(vip6, 1280), in: extended6,
			out: packettest.ICMPError(ip(vip6), ip(client6), 2, 0, extended6, packettest.Rest(1280), packettest.VLAN(5), swapped)},
		{name: "time exceeded, IPv4, odd length", do: timeExceeded(vip4), in: small4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 11, 0, small4, like4)},
		{name: "time exceeded, IPv4, padding is not quoted", do: timeExceeded(vip4), in: padded4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 11, 0, padded4, like4)},
		{name: "time exceeded, IPv4, first fragment", do: timeExceeded(vip4), in: firstFragment,
			out: packettest.ICMPError(ip(vip4), ip(client4), 11, 0, firstFragment, like4)},
		{name: "time exceeded, IPv6, odd length", do: timeExceeded(vip6), in: small6,
			out: packettest.ICMPError(ip(vip6), ip(client6), 3, 0, small6, swapped)},
		{name: "port unreachable, IPv4", do: unreachable(vip4, packet.ICMPv4CodePortUnreachable), in: small4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 3, 3, small4, like4)},
		{name: "port unreachable, IPv6", do: unreachable(vip6, packet.ICMPv6CodePortUnreachable), in: small6,
			out: packettest.ICMPError(ip(vip6), ip(client6), 1, 4, small6, swapped)},
		{name: "source of the other family", do: timeExceeded(vip6), in: small4, want: reason.FamilyMismatch},
		{name: "no headroom, IPv4", in: small4, want: reason.HeadroomExhausted,
			do: func(b *Buf, info *packet.Info) reason.Reason {
				b.Chunk, b.Start, b.End = b.Chunk[b.Start-27:], 27, 27+b.Len()
				return TimeExceeded(b, info, addr(vip4))
			}},
		{name: "no headroom, IPv6", in: small6, want: reason.HeadroomExhausted,
			do: func(b *Buf, info *packet.Info) reason.Reason {
				b.Chunk, b.Start, b.End = b.Chunk[b.Start-47:], 47, 47+b.Len()
				return TooBig(b, info, addr(vip6), 1280)
			}},
		{name: "headroom just enough, IPv4", in: small4,
			out: packettest.ICMPError(ip(vip4), ip(client4), 11, 0, small4, like4),
			do: func(b *Buf, info *packet.Info) reason.Reason {
				b.Chunk, b.Start, b.End = b.Chunk[b.Start-28:], 28, 28+b.Len()
				return TimeExceeded(b, info, addr(vip4))
			}},
	})
}

func TestReset(t *testing.T) {
	const fin, syn, rst, psh, ack = packet.TCPFlagFIN, packet.TCPFlagSYN, packet.TCPFlagRST, packet.TCPFlagPSH, packet.TCPFlagACK
	in4 := func(opts ...packettest.Option) []byte { return packettest.TCP(ap(clientEnd4), ap(vipEnd4), opts...) }
	in6 := func(opts ...packettest.Option) []byte { return packettest.TCP(ap(clientEnd6), ap(vipEnd6), opts...) }
	plain := packettest.Join(swapped, packettest.DF(), packettest.Window(0))
	out4 := func(opts ...packettest.Option) []byte {
		return packettest.TCP(ap(vipEnd4), ap(clientEnd4), append([]packettest.Option{plain}, opts...)...)
	}
	out6 := func(opts ...packettest.Option) []byte {
		return packettest.TCP(ap(vipEnd6), ap(clientEnd6), append([]packettest.Option{plain}, opts...)...)
	}
	flags, seq, acked := packettest.Flags, packettest.Seq, packettest.Ack
	runGolden(t, []golden{
		{name: "data: the sequence number it acknowledges", do: Reset,
			in:  in4(flags(ack|psh), seq(100), acked(5000), packettest.PayloadLen(40)),
			out: out4(flags(rst), seq(5000), acked(0))},
		{name: "SYN: acknowledged", do: Reset,
			in:  in4(flags(syn), seq(100), packettest.MSS(1460)),
			out: out4(flags(rst|ack), seq(0), acked(101))},
		{name: "SYN with data (RFC 7413)", do: Reset,
			in:  in4(flags(syn), seq(0xfffffff0), packettest.PayloadLen(32)),
			out: out4(flags(rst|ack), seq(0), acked(17))},
		{name: "FIN without acknowledgment: FIN and data acknowledged", do: Reset,
			in:  in4(flags(fin), seq(100), packettest.PayloadLen(9), packettest.Trailer(4)),
			out: out4(flags(rst|ack), seq(0), acked(110))},
		{name: "SYN-ACK", do: Reset,
			in:  in4(flags(syn|ack), seq(1), acked(77)),
			out: out4(flags(rst), seq(77), acked(0))},
		{name: "tags, TOS, IP and TCP options", do: Reset,
			in:  in4(flags(ack), acked(9), packettest.VLAN(1, 2), packettest.TOS(0x4a), packettest.IPOptions(1, 1, 1, 0), packettest.TCPOptions(1, 1, 1, 0)),
			out: out4(flags(rst), seq(9), acked(0), packettest.VLAN(1, 2), packettest.TOS(0x48))},
		{name: "IPv6", do: Reset,
			in:  in6(flags(ack), acked(9), packettest.FlowLabel(7), packettest.PayloadLen(1000)),
			out: out6(flags(rst), seq(9), acked(0))},
		{name: "IPv6, extension headers gone", do: Reset,
			in:  in6(flags(syn), seq(5), packettest.DestOpts(2), packettest.VLAN(1)),
			out: out6(flags(rst|ack), seq(0), acked(6), packettest.VLAN(1))},
		{name: "no reset to a reset", do: Reset, in: in4(flags(rst)), want: reason.TCPFlagsInvalid},
		{name: "no reset to a reset with acknowledgment", do: Reset, in: in6(flags(rst | ack)), want: reason.TCPFlagsInvalid},
		{name: "no reset to UDP", do: Reset, in: packettest.UDP(ap(clientEnd4), ap(vipEnd4)), want: reason.ProtocolUnsupported},
		{name: "no reset to a fragment", do: Reset, want: reason.FragmentUnsupported, unverified: true,
			in: in4(flags(ack), packettest.Fragment(0, true, 1), packettest.PayloadLen(44))},
	})
}
