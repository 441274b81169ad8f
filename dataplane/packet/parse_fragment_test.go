package packet_test

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func fragmentFrames() []golden {
	const (
		first = packet.FragAny | packet.FragFirst | packet.FragMore
		mid   = packet.FragAny | packet.FragMore
		last  = packet.FragAny
	)
	frag4 := func(proto, bits uint8, offset, ipLen uint16) packet.Info {
		info := from4(packet.Info{Proto: proto, TTL: 64, L3: 14, L4: 34, L3Len: 20, IPLen: ipLen, Frag: bits, FragOffset: offset, FragID: 0xbeef})
		if bits&packet.FragFirst != 0 {
			info.SrcPort, info.DstPort = 40000, 80
		}
		return info
	}
	frag6 := func(proto, bits uint8, offset, ipLen uint16) packet.Info {
		info := from6(packet.Info{Proto: proto, TTL: 64, L3: 14, L4: 62, L3Len: 48, IPLen: ipLen,
			Frag: bits, FragOffset: offset, FragID: 0xbeefcafe, FragHeader: 54})
		if bits&packet.FragFirst != 0 || bits == 0 {
			info.SrcPort, info.DstPort = 40000, 80
		}
		return info
	}
	flags := func(info packet.Info, v uint8) packet.Info {
		info.TCPFlags = v
		return info
	}
	tcp4 := func(offset int, more bool, n int, opts ...packettest.Option) []byte {
		opts = append([]packettest.Option{packettest.Fragment(offset, more, 0xbeef), packettest.PayloadLen(n)}, opts...)
		return packettest.TCP(client4, vip4, opts...)
	}
	udp4 := func(offset int, more bool, n int, opts ...packettest.Option) []byte {
		opts = append([]packettest.Option{packettest.Fragment(offset, more, 0xbeef), packettest.PayloadLen(n)}, opts...)
		return packettest.UDP(client4, vip4, opts...)
	}
	udp6 := func(offset int, more bool, n int, opts ...packettest.Option) []byte {
		opts = append(opts, packettest.Fragment(offset, more, 0xbeefcafe), packettest.PayloadLen(n))
		return packettest.UDP(client6, vip6, opts...)
	}
	// tiny is a first fragment with n bytes of a transport header.
	tiny := func(proto uint8, n int) []byte {
		return packettest.IP(client4.Addr(), vip4.Addr(), proto, make([]byte, n), packettest.Fragment(0, true, 0xbeef))
	}
	df := frag4(17, first, 0, 36)
	df.DontFragment = true
	echo := frag4(1, first, 0, 44)
	echo.ICMPType, echo.SrcPort, echo.DstPort = 8, 77, 77
	nested := frag6(17, last, 1480, 57)
	nested.L3Len, nested.L4, nested.FragHeader, nested.IPLen = 56, 70, 62, 65
	unread := frag6(60, last, 1480, 57)
	return []golden{
		{"v4 UDP first", udp4(0, true, 24), frag4(17, first, 0, 52), reason.None},
		{"v4 UDP first with DF", udp4(0, true, 8, packettest.DF()), df, reason.None},
		{"v4 UDP middle", udp4(1480, true, 16), frag4(17, mid, 1480, 36), reason.None},
		{"v4 UDP last, one byte", udp4(1480, false, 1), frag4(17, last, 1480, 21), reason.None},
		{"v4 UDP second unit", udp4(8, false, 9), frag4(17, last, 8, 29), reason.None},
		{"v4 UDP first, length beyond it", udp4(0, true, 16, packettest.UDPLength(3000)), frag4(17, first, 0, 44), reason.None},
		{"v4 UDP first, length 7", udp4(0, true, 16, packettest.UDPLength(7)), packet.Info{}, reason.UDPHeaderMalformed},
		{"v4 TCP first, 24 bytes", tcp4(0, true, 4), flags(frag4(6, first, 0, 44), 2), reason.None},
		{"v4 TCP first, options cut", fixed(tcp4(0, true, 4), 46, 0xf0), flags(frag4(6, first, 0, 44), 2), reason.None},
		{"v4 TCP first, data offset 4", fixed(tcp4(0, true, 4), 46, 0x40), packet.Info{}, reason.TCPHeaderMalformed},
		{"v4 TCP first, no flags", tcp4(0, true, 4, packettest.Flags(0)), packet.Info{}, reason.TCPFlagsInvalid},
		{"v4 TCP tiny first, 16 bytes", tiny(6, 16), packet.Info{}, reason.FragmentMalformed},
		{"v4 TCP tiny first, 8 bytes", tiny(6, 8), packet.Info{}, reason.FragmentMalformed},
		{"v4 TCP at the second unit", tcp4(8, true, 16), packet.Info{}, reason.FragmentMalformed},
		{"v4 TCP at the third unit", tcp4(16, true, 16), frag4(6, mid, 16, 36), reason.None},
		{"v4 SCTP tiny first", tiny(132, 8), packet.Info{}, reason.FragmentMalformed},
		{"v4 SCTP first", packettest.SCTP(client4, vip4, packettest.Fragment(0, true, 0xbeef), packettest.PayloadLen(4)), frag4(132, first, 0, 36), reason.None},
		{"v4 first without payload", tiny(17, 0), packet.Info{}, reason.FragmentMalformed},
		{"v4 last without payload", udp4(1480, false, 0), packet.Info{}, reason.FragmentMalformed},
		{"v4 echo first, checksum not verified", packettest.Echo(client4.Addr(), vip4.Addr(), 77, 1, packettest.Fragment(0, true, 0xbeef), packettest.PayloadLen(16), packettest.BadChecksum()), echo, reason.None},
		{"v4 unknown protocol first", packettest.IP(client4.Addr(), vip4.Addr(), 89, make([]byte, 8), packettest.Fragment(0, true, 0xbeef)),
			func() packet.Info { i := frag4(89, first, 0, 28); i.SrcPort, i.DstPort = 0, 0; return i }(), reason.None},
		{"v4 ICMPv6 later", packettest.IP(client4.Addr(), vip4.Addr(), 58, make([]byte, 8), packettest.Fragment(1480, false, 0xbeef)), frag4(58, last, 1480, 28), reason.None},
		{"v4 length no multiple of 8", udp4(0, true, 25), packet.Info{}, reason.FragmentMalformed},
		{"v4 ends at 65535", udp4(65504, false, 11), frag4(17, last, 65504, 31), reason.None},
		{"v4 ends past 65535", udp4(65504, false, 12), packet.Info{}, reason.FragmentMalformed},
		{"v4 highest offset", udp4(65528, false, 8), packet.Info{}, reason.FragmentMalformed},
		{"v4 flag 0x20 in the low byte is offset 256", fixed(packettest.UDP(client4, vip4, packettest.PayloadLen(1), packettest.ID(0xbeef)), 21, 0x20),
			frag4(17, last, 256, 29), reason.None},

		{"v6 UDP first", udp6(0, true, 24), frag6(17, first, 0, 80), reason.None},
		{"v6 UDP middle", udp6(1480, true, 16), frag6(17, mid, 1480, 64), reason.None},
		{"v6 UDP last", udp6(1480, false, 9), frag6(17, last, 1480, 57), reason.None},
		{"v6 atomic", udp6(0, false, 9), frag6(17, 0, 0, 65), reason.None},
		{"v6 atomic TCP, options cut", edit(packettest.TCP(client6, vip6, packettest.Fragment(0, false, 1)), 74, 0xf0), packet.Info{}, reason.TCPHeaderMalformed},
		{"v6 reserved bits", edit(udp6(1480, false, 9), 55, 0xff, 5, 0xce), frag6(17, last, 1480, 57), reason.None},
		{"v6 TCP tiny first", packettest.IP(client6.Addr(), vip6.Addr(), 6, make([]byte, 16), packettest.Fragment(0, true, 1)), packet.Info{}, reason.FragmentMalformed},
		{"v6 TCP at the second unit", packettest.IP(client6.Addr(), vip6.Addr(), 6, make([]byte, 16), packettest.Fragment(8, true, 1)), packet.Info{}, reason.FragmentMalformed},
		{"v6 length no multiple of 8", udp6(0, true, 25), packet.Info{}, reason.FragmentMalformed},
		{"v6 ends at 65535", udp6(65528, false, 7), frag6(17, last, 65528, 55), reason.None},
		{"v6 ends past 65535", udp6(65528, false, 8), packet.Info{}, reason.FragmentMalformed},
		{"v6 ends past 65535 with the extensions", udp6(65528, false, 7, packettest.DestOpts(1)), packet.Info{}, reason.FragmentMalformed},
		{"v6 behind destination options", udp6(1480, false, 9, packettest.DestOpts(1)), nested, reason.None},
		{"v6 later, next header is not walked", packettest.IP(client6.Addr(), vip6.Addr(), 60, make([]byte, 9), packettest.Fragment(1480, false, 0xbeefcafe)), unread, reason.None},
		{"v6 two fragment headers", packettest.UDP(client6, vip6, packettest.Fragment(0, true, 1), packettest.Fragment(0, true, 1), packettest.PayloadLen(24)), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"v6 fragment header cut", packettest.IP(client6.Addr(), vip6.Addr(), 44, make([]byte, 7)), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"v6 first, extensions run past it", packettest.IP(client6.Addr(), vip6.Addr(), 60, []byte{17, 1, 1, 4, 0, 0, 0, 0}, packettest.Fragment(0, true, 1)), packet.Info{}, reason.IPv6ExtensionMalformed},
	}
}
