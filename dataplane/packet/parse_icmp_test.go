package packet_test

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

var (
	router4 = packettest.Addr("203.0.113.1")
	router6 = packettest.Addr("2001:db8:ffff::1")
)

func icmpFrames() []golden {
	msg4 := func(typ, code uint8, id, ipLen uint16) packet.Info {
		return from4(packet.Info{Proto: 1, TTL: 64, L3: 14, L4: 34, L3Len: 20, IPLen: ipLen, ICMPType: typ, ICMPCode: code, SrcPort: id, DstPort: id})
	}
	msg6 := func(typ, code uint8, id, ipLen uint16) packet.Info {
		return from6(packet.Info{Proto: 58, TTL: 64, L3: 14, L4: 54, L3Len: 40, IPLen: ipLen, ICMPType: typ, ICMPCode: code, SrcPort: id, DstPort: id})
	}
	c4, v4, c6, v6 := client4.Addr(), vip4.Addr(), client6.Addr(), vip6.Addr()
	data := packettest.PayloadLen(5)
	return []golden{
		{"v4 echo", packettest.Echo(c4, v4, 77, 9, data), msg4(8, 0, 77, 33), reason.None},
		{"v4 echo, padded", packettest.Echo(c4, v4, 77, 9, data, packettest.Trailer(13)), msg4(8, 0, 77, 33), reason.None},
		{"v4 echo reply", packettest.EchoReply(c4, v4, 77, 9), msg4(0, 0, 77, 28), reason.None},
		{"v4 timestamp", packettest.ICMP(c4, v4, 13, 0, packettest.Rest(77<<16), packettest.PayloadLen(12)), msg4(13, 0, 0, 40), reason.None},
		{"v4 checksum wrong", packettest.Echo(c4, v4, 77, 9, packettest.BadChecksum()), packet.Info{}, reason.ICMPChecksumWrong},
		{"v4 timestamp, checksum wrong", packettest.ICMP(c4, v4, 13, 0, packettest.BadChecksum()), packet.Info{}, reason.ICMPChecksumWrong},
		{"v4 of 7 bytes", packettest.IP(c4, v4, 1, make([]byte, 7)), packet.Info{}, reason.ICMPMalformed},
		{"v4 tiny first fragment", packettest.IP(c4, v4, 1, nil, packettest.Fragment(0, true, 1)), packet.Info{}, reason.FragmentMalformed},
		{"v6 echo", packettest.Echo(c6, v6, 77, 9, data), msg6(128, 0, 77, 53), reason.None},
		{"v6 echo reply", packettest.EchoReply(c6, v6, 77, 9), msg6(129, 0, 77, 48), reason.None},
		{"v6 checksum wrong", packettest.Echo(c6, v6, 77, 9, packettest.BadChecksum()), packet.Info{}, reason.ICMPChecksumWrong},
		{"v6 of 7 bytes", packettest.IP(c6, v6, 58, make([]byte, 7)), packet.Info{}, reason.ICMPMalformed},
		{"v6 unknown error", packettest.ICMP(c6, v6, 100, 0, data), msg6(100, 0, 0, 53), reason.None},
		{"v6 router solicitation", packettest.ICMP(c6, v6, 133, 0), msg6(133, 0, 0, 48), reason.None},
	}
}

func quoteFrames() []golden {
	// What backend or router complains about went from the VIP to the client.
	err4 := func(typ, code uint8, ipLen uint16, inner packet.Inner) packet.Info {
		inner.Src, inner.Dst = addr("198.18.0.10"), addr("192.0.2.1")
		inner.L3, inner.End = 42, 14+ipLen
		return packet.Info{Kind: packet.KindIPv4, Src: addr("203.0.113.1"), Dst: addr("198.18.0.10"), Proto: 1, TTL: 64,
			L3: 14, L4: 34, L3Len: 20, IPLen: ipLen, ICMPType: typ, ICMPCode: code, Inner: inner}
	}
	err6 := func(typ, code uint8, ipLen uint16, inner packet.Inner) packet.Info {
		inner.Src, inner.Dst = addr("2001:db8:10::10"), addr("2001:db8::1")
		inner.L3, inner.End = 62, 14+ipLen
		return packet.Info{Kind: packet.KindIPv6, Src: addr("2001:db8:ffff::1"), Dst: addr("2001:db8:10::10"), Proto: 58, TTL: 64,
			L3: 14, L4: 54, L3Len: 40, IPLen: ipLen, DontFragment: true, ICMPType: typ, ICMPCode: code, Inner: inner}
	}
	ports := func(proto uint8, l4 uint16) packet.Inner {
		return packet.Inner{Proto: proto, SrcPort: 80, DstPort: 40000, L4: l4}
	}
	quote4 := func(typ, code uint8, n int, quoted []byte) []byte {
		return packettest.ICMPError(router4, vip4.Addr(), typ, code, quoted, packettest.QuoteLen(n))
	}
	quote6 := func(typ, code uint8, n int, quoted []byte) []byte {
		return packettest.ICMPError(router6, vip6.Addr(), typ, code, quoted, packettest.QuoteLen(n))
	}
	// raw4 is an unreachable message around bytes that are taken as they are.
	raw4 := func(b []byte) []byte { return packettest.ICMP(router4, vip4.Addr(), 3, 1, packettest.Payload(b)) }
	raw6 := func(b []byte) []byte { return packettest.ICMP(router6, vip6.Addr(), 1, 0, packettest.Payload(b)) }
	tcp4 := packettest.TCP(vip4, client4, packettest.PayloadLen(1000))
	tcp6 := packettest.TCP(vip6, client6, packettest.PayloadLen(2000))
	udp4, udp6 := packettest.UDP(vip4, client4), packettest.UDP(vip6, client6)
	ip4 := func() []byte { return append([]byte(nil), packettest.IPPacket(tcp4)[:28]...) }
	ip6 := func() []byte { return append([]byte(nil), packettest.IPPacket(tcp6)[:48]...) }
	later4 := packettest.UDP(vip4, client4, packettest.Fragment(1480, false, 5), packettest.PayloadLen(3))
	first6 := packettest.UDP(vip6, client6, packettest.DestOpts(1), packettest.Fragment(0, true, 5), packettest.PayloadLen(16))
	later6 := packettest.UDP(vip6, client6, packettest.Fragment(1480, false, 5), packettest.PayloadLen(3))
	echo := func(proto uint8, id, l4 uint16) packet.Inner {
		return packet.Inner{Proto: proto, SrcPort: id, DstPort: id, L4: l4}
	}
	return []golden{
		{"v4 frag-needed, TCP", quote4(3, 4, 548, tcp4), err4(3, 4, 576, ports(6, 62)), reason.None},
		{"v4 8 bytes of TCP", quote4(3, 4, 28, tcp4), err4(3, 4, 56, ports(6, 62)), reason.None},
		{"v4 7 bytes of TCP", quote4(3, 4, 27, tcp4), packet.Info{}, reason.ICMPMalformed},
		{"v4 time exceeded, UDP", quote4(11, 0, 548, udp4), err4(11, 0, 56, ports(17, 62)), reason.None},
		{"v4 parameter problem, SCTP", quote4(12, 0, 28, packettest.SCTP(vip4, client4)), err4(12, 0, 56, ports(132, 62)), reason.None},
		{"v4 source quench", quote4(4, 0, 28, tcp4), err4(4, 0, 56, ports(6, 62)), reason.None},
		{"v4 redirect", quote4(5, 1, 28, tcp4), err4(5, 1, 56, ports(6, 62)), reason.None},
		{"v4 options in the quote", quote4(3, 3, 548, packettest.UDP(vip4, client4, packettest.IPOptions(1, 1, 1, 1))), err4(3, 3, 60, ports(17, 66)), reason.None},
		{"v4 options in the quote, cut", quote4(3, 3, 22, packettest.UDP(vip4, client4, packettest.IPOptions(1, 1, 1, 1))), packet.Info{}, reason.ICMPMalformed},
		{"v4 echo in the quote", quote4(3, 1, 28, packettest.Echo(vip4.Addr(), client4.Addr(), 77, 1)), err4(3, 1, 56, echo(1, 77, 62)), reason.None},
		{"v4 echo reply in the quote", quote4(3, 1, 28, packettest.EchoReply(vip4.Addr(), client4.Addr(), 77, 1)), err4(3, 1, 56, echo(1, 77, 62)), reason.None},
		{"v4 timestamp in the quote", quote4(3, 1, 28, packettest.ICMP(vip4.Addr(), client4.Addr(), 13, 0, packettest.Rest(77<<16))), err4(3, 1, 56, echo(1, 0, 62)), reason.None},
		{"v4 ICMP cut in the quote", quote4(3, 1, 27, packettest.Echo(vip4.Addr(), client4.Addr(), 77, 1)), packet.Info{}, reason.ICMPMalformed},
		{"v4 later fragment in the quote", quote4(11, 1, 548, later4), err4(11, 1, 51, packet.Inner{Proto: 17, L4: 62, Fragment: true}), reason.None},
		{"v4 first fragment in the quote", quote4(11, 1, 28, packettest.UDP(vip4, client4, packettest.Fragment(0, true, 5), packettest.PayloadLen(16))), err4(11, 1, 56, ports(17, 62)), reason.None},
		{"v4 other protocol in the quote", quote4(3, 2, 20, packettest.IP(vip4.Addr(), client4.Addr(), 89, []byte{1, 2})), err4(3, 2, 48, packet.Inner{Proto: 89, L4: 62}), reason.None},
		{"v4 checksum wrong in the quote", quote4(3, 1, 28, packettest.TCP(vip4, client4, packettest.BadIPChecksum())), err4(3, 1, 56, ports(6, 62)), reason.None},
		{"v4 total length 0 in the quote", raw4(edit(ip4(), 2, 0, 0)), err4(3, 1, 56, ports(6, 62)), reason.None},
		{"v4 nothing quoted", raw4(nil), packet.Info{}, reason.ICMPMalformed},
		{"v4 19 bytes quoted", raw4(ip4()[:19]), packet.Info{}, reason.ICMPMalformed},
		{"v4 IPv6 quoted", raw4(ip6()), packet.Info{}, reason.ICMPMalformed},
		{"v4 IHL 4 quoted", raw4(edit(ip4(), 0, 0x44)), packet.Info{}, reason.ICMPMalformed},
		{"v4 error, checksum wrong", packettest.ICMPError(router4, vip4.Addr(), 3, 4, tcp4, packettest.BadChecksum()), packet.Info{}, reason.ICMPChecksumWrong},

		{"v6 packet too big, TCP", quote6(2, 0, 1232, tcp6), err6(2, 0, 1280, ports(6, 102)), reason.None},
		{"v6 8 bytes of TCP", quote6(1, 0, 48, tcp6), err6(1, 0, 96, ports(6, 102)), reason.None},
		{"v6 7 bytes of TCP", quote6(1, 0, 47, tcp6), packet.Info{}, reason.ICMPMalformed},
		{"v6 time exceeded, UDP", quote6(3, 0, 1232, udp6), err6(3, 0, 96, ports(17, 102)), reason.None},
		{"v6 parameter problem, SCTP", quote6(4, 1, 48, packettest.SCTP(vip6, client6)), err6(4, 1, 96, ports(132, 102)), reason.None},
		{"v6 extensions in the quote", quote6(1, 4, 1232, packettest.UDP(vip6, client6, packettest.HopByHop(1), packettest.Routing(), packettest.AH())), err6(1, 4, 136, ports(17, 142)), reason.None},
		{"v6 extensions in the quote, cut", quote6(1, 4, 60, packettest.UDP(vip6, client6, packettest.DestOpts(3))), packet.Info{}, reason.ICMPMalformed},
		{"v6 too many extensions in the quote", quote6(1, 4, 1232, packettest.UDP(vip6, client6, packettest.DestOpts(65))), packet.Info{}, reason.ICMPMalformed},
		{"v6 first fragment in the quote", quote6(1, 4, 1232, first6), err6(1, 4, 128, ports(17, 118)), reason.None},
		{"v6 later fragment in the quote", quote6(3, 1, 1232, later6), err6(3, 1, 99, packet.Inner{Proto: 17, L4: 110, Fragment: true}), reason.None},
		{"v6 segments left in the quote", raw6(edit(packettest.IPPacket(packettest.UDP(vip6, client6, packettest.Routing())), 43, 2)), err6(1, 0, 104, ports(17, 110)), reason.None},
		{"v6 echo in the quote", quote6(1, 3, 48, packettest.Echo(vip6.Addr(), client6.Addr(), 77, 1)), err6(1, 3, 96, echo(58, 77, 102)), reason.None},
		{"v6 ICMP of the other family in the quote", quote6(1, 3, 40, packettest.IP(vip6.Addr(), client6.Addr(), 1, nil)), err6(1, 3, 88, packet.Inner{Proto: 1, L4: 102}), reason.None},
		{"v6 39 bytes quoted", raw6(ip6()[:39]), packet.Info{}, reason.ICMPMalformed},
		{"v6 IPv4 quoted", raw6(append(ip4(), make([]byte, 20)...)), packet.Info{}, reason.ICMPMalformed},
		{"v6 mapped source quoted", raw6(edit(ip6(), 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)), packet.Info{}, reason.ICMPMalformed},
		{"v6 mapped destination quoted", raw6(edit(ip6(), 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)), packet.Info{}, reason.ICMPMalformed},
	}
}

func neighborFrames() []golden {
	node := packettest.SolicitedNode(vip6.Addr()).String()
	c6, v6 := client6.Addr(), vip6.Addr()
	unspecified := packettest.Addr("::")
	solicitation := func(src, dst string, ipLen uint16) packet.Info {
		return packet.Info{Kind: packet.KindIPv6, Src: addr(src), Dst: addr(dst), Proto: 58, TTL: 255, DontFragment: true,
			L3: 14, L4: 54, L3Len: 40, IPLen: ipLen, ICMPType: 135}
	}
	// raw is a solicitation with a body as given.
	raw := func(code uint8, body []byte, opts ...packettest.Option) []byte {
		return packettest.ICMP(c6, v6, 135, code, append([]packettest.Option{packettest.TTL(255), packettest.Payload(body)}, opts...)...)
	}
	target := v6.AsSlice()
	with := func(options ...byte) []byte { return append(append([]byte(nil), target...), options...) }
	advert := solicitation("2001:db8:10::10", "2001:db8::1", 72)
	advert.ICMPType = 136
	toUnspecified := packettest.ICMP(unspecified, v6, 135, 0, packettest.TTL(255), packettest.Payload(target))
	withSource := packettest.ICMP(unspecified, packettest.SolicitedNode(v6), 135, 0, packettest.TTL(255), packettest.Payload(with(1, 1, 2, 0, 0, 0, 0, 1)))
	return []golden{
		{"solicitation", packettest.NeighborSolicit(c6, v6), solicitation("2001:db8::1", node, 72), reason.None},
		{"unicast solicitation", raw(0, with(1, 1, 2, 0, 0, 0, 0, 1)), solicitation("2001:db8::1", "2001:db8:10::10", 72), reason.None},
		{"unicast solicitation, no option", raw(0, target), solicitation("2001:db8::1", "2001:db8:10::10", 64), reason.None},
		{"nonce option", raw(0, with(14, 1, 1, 2, 3, 4, 5, 6)), solicitation("2001:db8::1", "2001:db8:10::10", 72), reason.None},
		{"duplicate address detection", packettest.NeighborSolicit(unspecified, v6), solicitation("::", node, 64), reason.None},
		{"advertisement", packettest.NeighborAdvert(c6, v6), advert, reason.None},
		{"hop limit 254", packettest.NeighborSolicit(c6, v6, packettest.TTL(254)), packet.Info{}, reason.ICMPMalformed},
		{"code 1", raw(1, target), packet.Info{}, reason.ICMPMalformed},
		{"23 bytes", raw(0, target[:15]), packet.Info{}, reason.ICMPMalformed},
		{"option length 0", raw(0, with(1, 0, 2, 0, 0, 0, 0, 1)), packet.Info{}, reason.ICMPMalformed},
		{"option past message", raw(0, with(1, 2, 2, 0, 0, 0, 0, 1)), packet.Info{}, reason.ICMPMalformed},
		{"option cut", raw(0, with(1, 1, 2)), packet.Info{}, reason.ICMPMalformed},
		{"second option bad", raw(0, with(14, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)), packet.Info{}, reason.ICMPMalformed},
		{"multicast target", raw(0, packettest.Addr("ff02::1").AsSlice()), packet.Info{}, reason.ICMPMalformed},
		{"unspecified target", raw(0, make([]byte, 16)), packet.Info{}, reason.ICMPMalformed},
		{"mapped target", raw(0, packettest.Addr("::ffff:192.0.2.1").AsSlice()), packet.Info{}, reason.ICMPMalformed},
		{"in an atomic fragment", raw(0, target, packettest.Fragment(0, false, 1)), packet.Info{}, reason.ICMPMalformed},
		{"checksum wrong", packettest.NeighborSolicit(c6, v6, packettest.BadChecksum()), packet.Info{}, reason.ICMPChecksumWrong},
		{"unspecified source to unicast", toUnspecified, packet.Info{}, reason.SourceInvalid},
		{"unspecified source with source option", withSource, packet.Info{}, reason.ICMPMalformed},
		{"unspecified source, advertisement", packettest.ICMP(unspecified, packettest.SolicitedNode(v6), 136, 0, packettest.TTL(255), packettest.Payload(target)), packet.Info{}, reason.SourceInvalid},
		{"unspecified source, UDP to solicited node", packettest.IP(unspecified, packettest.SolicitedNode(v6), 17, []byte{135, 0, 0, 0, 0, 8, 0, 0}), packet.Info{}, reason.SourceInvalid},
	}
}
