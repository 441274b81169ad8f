package packet_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// golden is one line of the table of frames: what is in the frame, and what
// Parse says of it. want is not looked at when the reason is not None.
type golden struct {
	name   string
	frame  []byte
	want   packet.Info
	reason reason.Reason
}

func addr(s string) packet.Addr { return packet.AddrFrom(packettest.Addr(s)) }

// from4 and from6 put the addresses that most frames have into an Info.
func from4(info packet.Info) packet.Info {
	info.Kind, info.Src, info.Dst = packet.KindIPv4, addr("192.0.2.1"), addr("198.18.0.10")
	return info
}

func from6(info packet.Info) packet.Info {
	info.Kind, info.Src, info.Dst = packet.KindIPv6, addr("2001:db8::1"), addr("2001:db8:10::10")
	info.DontFragment = true
	return info
}

// edit is a frame with bytes at the given offset overwritten.
func edit(frame []byte, at int, b ...byte) []byte {
	copy(frame[at:], b)
	return frame
}

// fixed is edit, with the checksums that Parse verifies made right again.
func fixed(frame []byte, at int, b ...byte) []byte {
	edit(frame, at, b...)
	repairChecksums(frame)
	return frame
}

// cut is a frame without its last n bytes.
func cut(frame []byte, n int) []byte { return frame[:len(frame)-n] }

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// goldenFrames are the frames of all tables, for the fuzz targets and as seeds
// of mutations.
func goldenFrames() [][]byte {
	var frames [][]byte
	for _, table := range goldenTables() {
		for _, g := range table {
			frames = append(frames, g.frame)
		}
	}
	return frames
}

func goldenTables() map[string][]golden {
	return map[string][]golden{
		"link": linkFrames(), "ipv4": ipv4Frames(), "ipv6": ipv6Frames(), "transport": transportFrames(),
		"fragment": fragmentFrames(), "icmp": icmpFrames(), "quote": quoteFrames(), "neighbor": neighborFrames(),
	}
}

func TestParseGolden(t *testing.T) {
	for group, table := range goldenTables() {
		for _, g := range table {
			t.Run(group+"/"+g.name, func(t *testing.T) {
				got := dirtyInfo()
				r := packet.Parse(g.frame, &got)
				if r != g.reason {
					t.Fatalf("reason %v, want %v\n%s", r, g.reason, hex.Dump(g.frame))
				}
				if r == reason.None && got != g.want {
					t.Fatalf("info\n %+v\nwant\n %+v\n%s", got, g.want, hex.Dump(g.frame))
				}
				checkAgainstOracle(t, g.frame)
			})
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	frames := goldenFrames()
	var info packet.Info
	if n := testing.AllocsPerRun(100, func() {
		for _, frame := range frames {
			packet.Parse(frame, &info)
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d frames, want none", n, len(frames))
	}
}

// Every truncation of every golden frame ends in a reason or in an Info whose
// offsets lie in what is left.
func TestParseEveryTruncation(t *testing.T) {
	for _, frame := range goldenFrames() {
		for n := range min(len(frame), 400) {
			checkAgainstOracle(t, frame[:n:n])
		}
	}
}

func linkFrames() []golden {
	tcp := packet.Info{Proto: 6, TTL: 64, L3Len: 20, IPLen: 40, SrcPort: 40000, DstPort: 80, TCPFlags: packet.TCPFlagSYN}
	at := func(vlans uint8, l3 uint16) packet.Info {
		info := from4(tcp)
		info.VLANs, info.L3, info.L4 = vlans, l3, l3+20
		return info
	}
	arp := packet.Info{Kind: packet.KindARP, L3: 14, ARPOp: 1, Src: addr("192.0.2.1"), Dst: addr("198.18.0.10")}
	reply, probe, tagged := arp, arp, arp
	reply.ARPOp = 2
	probe.Src = addr("0.0.0.0")
	tagged.VLANs, tagged.L3 = 1, 18
	request := func() []byte { return packettest.ARPRequest(client4.Addr(), vip4.Addr()) }
	return []golden{
		{"empty", []byte{}, packet.Info{}, reason.FrameTooShort},
		{"13 bytes", make([]byte, 13), packet.Info{}, reason.FrameTooShort},
		{"802.3 length", edit(make([]byte, 60), 12, 0, 46), packet.Info{L3: 14}, reason.None},
		{"type below 0x0600", edit(make([]byte, 60), 12, 0x05, 0xff), packet.Info{L3: 14}, reason.None},
		{"LLDP", edit(make([]byte, 60), 12, 0x88, 0xcc), packet.Info{L3: 14}, reason.None},
		{"header alone, LLDP", edit(make([]byte, 14), 12, 0x88, 0xcc), packet.Info{L3: 14}, reason.None},
		{"header alone, IPv4", edit(make([]byte, 14), 12, 0x08, 0x00), packet.Info{}, reason.FrameTooShort},
		{"header alone, IPv6", edit(make([]byte, 14), 12, 0x86, 0xdd), packet.Info{}, reason.FrameTooShort},
		{"no VLAN", packettest.TCP(client4, vip4), at(0, 14), reason.None},
		{"one VLAN", packettest.TCP(client4, vip4, packettest.VLAN(7)), at(1, 18), reason.None},
		{"two VLANs", packettest.TCP(client4, vip4, packettest.VLAN(7, 8)), at(2, 22), reason.None},
		{"0x9100 and 0x8100", packettest.TCP(client4, vip4, packettest.VLANTag(0x9100, 7), packettest.VLANTag(0x8100, 8)), at(2, 22), reason.None},
		{"two times 0x8100", packettest.TCP(client4, vip4, packettest.VLANTag(0x8100, 7), packettest.VLANTag(0x8100, 8)), at(2, 22), reason.None},
		{"three VLANs", packettest.TCP(client4, vip4, packettest.VLAN(7, 8, 9)), packet.Info{}, reason.VLANTooDeep},
		{"VLAN tag cut", packettest.TCP(client4, vip4, packettest.VLAN(7))[:17], packet.Info{}, reason.FrameTooShort},
		{"second VLAN tag cut", packettest.TCP(client4, vip4, packettest.VLAN(7, 8))[:21], packet.Info{}, reason.FrameTooShort},
		{"VLAN, then LLDP", edit(make([]byte, 60), 12, 0x81, 0, 0, 5, 0x88, 0xcc), packet.Info{VLANs: 1, L3: 18}, reason.None},
		{"65535 bytes", packettest.TCP(client4, vip4, packettest.Trailer(65535-54)), at(0, 14), reason.None},
		{"65536 bytes", packettest.TCP(client4, vip4, packettest.Trailer(65536-54)), packet.Info{}, reason.Oversize},

		{"ARP request", request(), arp, reason.None},
		{"ARP request, padded", append(request(), make([]byte, 18)...), arp, reason.None},
		{"ARP request, VLAN", packettest.ARPRequest(client4.Addr(), vip4.Addr(), packettest.VLAN(3)), tagged, reason.None},
		{"ARP reply", packettest.ARPReply(client4.Addr(), vip4.Addr()), reply, reason.None},
		{"ARP probe", packettest.ARPRequest(packettest.Addr("0.0.0.0"), vip4.Addr()), probe, reason.None},
		{"ARP cut", cut(request(), 1), packet.Info{}, reason.FrameTooShort},
		{"ARP hardware type", edit(request(), 15, 6), packet.Info{}, reason.ARPMalformed},
		{"ARP protocol type", edit(request(), 16, 0x86, 0xdd), packet.Info{}, reason.ARPMalformed},
		{"ARP hardware length", edit(request(), 18, 8), packet.Info{}, reason.ARPMalformed},
		{"ARP protocol length", edit(request(), 19, 16), packet.Info{}, reason.ARPMalformed},
		{"RARP operation", edit(request(), 21, 3), packet.Info{}, reason.ARPMalformed},
		{"ARP operation 0", edit(request(), 21, 0), packet.Info{}, reason.ARPMalformed},
	}
}

func ipv4Frames() []golden {
	syn := packet.Info{Proto: 6, TTL: 64, L3: 14, L4: 34, L3Len: 20, IPLen: 40, SrcPort: 40000, DstPort: 80, TCPFlags: packet.TCPFlagSYN}
	tcp := func(opts ...packettest.Option) []byte { return packettest.TCP(client4, vip4, opts...) }
	source := func(s string) []byte { return packettest.TCP(packettest.AddrPort(s+":40000"), vip4) }
	change := func(f func(*packet.Info)) packet.Info {
		info := from4(syn)
		f(&info)
		return info
	}
	// A header that stands in many texts on the checksum: 192.168.0.1 to
	// 192.168.0.199, 115 bytes, DF, UDP, checksum 0xb861.
	textbook := append(unhex(`020000000002 020000000001 0800
		4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7
		3039 0035 005f 0000`), make([]byte, 87)...)
	return []golden{
		{"textbook header", textbook, packet.Info{Kind: packet.KindIPv4, Src: addr("192.168.0.1"), Dst: addr("192.168.0.199"), Proto: 17, TTL: 64,
			L3: 14, L4: 34, L3Len: 20, IPLen: 115, SrcPort: 12345, DstPort: 53, DontFragment: true}, reason.None},
		{"textbook header, checksum off by one", edit(append([]byte(nil), textbook...), 25, 0x62), packet.Info{}, reason.IPv4ChecksumWrong},
		{"plain", tcp(), from4(syn), reason.None},
		{"padded", tcp(packettest.Trailer(6)), from4(syn), reason.None},
		{"TOS, TTL and DF", tcp(packettest.TOS(0xb9), packettest.TTL(1), packettest.DF()),
			change(func(i *packet.Info) { i.TOS, i.TTL, i.DontFragment = 0xb9, 1, true }), reason.None},
		{"TTL 0", tcp(packettest.TTL(0)), change(func(i *packet.Info) { i.TTL = 0 }), reason.None},
		{"identification of a whole packet", tcp(packettest.ID(0x1234)), from4(syn), reason.None},
		{"reserved flag", fixed(tcp(), 20, 0x80), from4(syn), reason.None},
		{"20 bytes", cut(tcp(), 20), packet.Info{}, reason.IPv4HeaderMalformed},
		{"19 bytes", cut(tcp(), 21), packet.Info{}, reason.FrameTooShort},
		{"version 5", fixed(tcp(), 14, 0x55), packet.Info{}, reason.IPv4HeaderMalformed},
		{"IHL 4", fixed(tcp(), 14, 0x44), packet.Info{}, reason.IPv4HeaderMalformed},
		{"IHL past total length", fixed(tcp(packettest.Payload(make([]byte, 40))), 14, 0x4f, 0, 0, 59), packet.Info{}, reason.IPv4HeaderMalformed},
		{"total length 19", fixed(tcp(), 16, 0, 19), packet.Info{}, reason.IPv4HeaderMalformed},
		{"total length 0", fixed(tcp(), 16, 0, 0), packet.Info{}, reason.IPv4HeaderMalformed},
		{"total length past frame", fixed(tcp(), 16, 0, 41), packet.Info{}, reason.IPv4HeaderMalformed},
		{"total length past packet, into padding", fixed(tcp(packettest.Trailer(6)), 16, 0, 46),
			change(func(i *packet.Info) { i.IPLen = 46 }), reason.None},
		{"checksum wrong", tcp(packettest.BadIPChecksum()), packet.Info{}, reason.IPv4ChecksumWrong},
		{"checksum wrong with options", tcp(packettest.BadIPChecksum(), packettest.IPOptions(1)), packet.Info{}, reason.IPv4ChecksumWrong},
		{"router alert", tcp(packettest.IPOptions(0x94, 4, 0, 0)),
			change(func(i *packet.Info) { i.L4, i.L3Len, i.IPLen = 38, 24, 44 }), reason.None},
		{"40 bytes of options", tcp(packettest.IPOptions(append([]byte{1, 7, 39}, make([]byte, 37)...)...)),
			change(func(i *packet.Info) { i.L4, i.L3Len, i.IPLen = 74, 60, 80 }), reason.None},
		{"options end, rubbish behind", tcp(packettest.IPOptions(0, 7, 1, 9)),
			change(func(i *packet.Info) { i.L4, i.L3Len, i.IPLen = 38, 24, 44 }), reason.None},
		{"option length 1", tcp(packettest.IPOptions(7, 1, 0, 0)), packet.Info{}, reason.IPv4HeaderMalformed},
		{"option length 0", tcp(packettest.IPOptions(7, 0, 0, 0)), packet.Info{}, reason.IPv4HeaderMalformed},
		{"option past header", tcp(packettest.IPOptions(7, 5, 0, 0)), packet.Info{}, reason.IPv4HeaderMalformed},
		{"option type in last byte", tcp(packettest.IPOptions(1, 1, 1, 7)), packet.Info{}, reason.IPv4HeaderMalformed},
		{"source unspecified", source("0.0.0.0"), packet.Info{}, reason.SourceInvalid},
		{"source loopback", source("127.9.9.9"), packet.Info{}, reason.SourceInvalid},
		{"source multicast, first", source("224.0.0.1"), packet.Info{}, reason.SourceInvalid},
		{"source multicast, last", source("239.255.255.255"), packet.Info{}, reason.SourceInvalid},
		{"source broadcast", source("255.255.255.255"), packet.Info{}, reason.SourceInvalid},
		{"source class E", source("240.0.0.1"), change(func(i *packet.Info) { i.Src = addr("240.0.0.1") }), reason.None},
		{"source below multicast", source("223.255.255.255"), change(func(i *packet.Info) { i.Src = addr("223.255.255.255") }), reason.None},
		{"OSPF", packettest.IP(client4.Addr(), vip4.Addr(), 89, []byte{1, 2, 3}),
			change(func(i *packet.Info) { i.Proto, i.IPLen, i.SrcPort, i.DstPort, i.TCPFlags = 89, 23, 0, 0, 0 }), reason.None},
		{"no payload, OSPF", packettest.IP(client4.Addr(), vip4.Addr(), 89, nil),
			change(func(i *packet.Info) { i.Proto, i.IPLen, i.SrcPort, i.DstPort, i.TCPFlags = 89, 20, 0, 0, 0 }), reason.None},
		{"ICMPv6 in IPv4", packettest.IP(client4.Addr(), vip4.Addr(), 58, make([]byte, 8)), packet.Info{}, reason.ProtocolUnsupported},
	}
}

func ipv6Frames() []golden {
	syn := packet.Info{Proto: 6, TTL: 64, L3: 14, L4: 54, L3Len: 40, IPLen: 60, SrcPort: 40000, DstPort: 80, TCPFlags: packet.TCPFlagSYN}
	tcp := func(opts ...packettest.Option) []byte { return packettest.TCP(client6, vip6, opts...) }
	source := func(s string) []byte { return packettest.TCP(packettest.AddrPort("["+s+"]:40000"), vip6) }
	behind := func(extensions uint16) packet.Info {
		info := from6(syn)
		info.L4 += extensions
		info.L3Len += extensions
		info.IPLen += extensions
		return info
	}
	other := func(proto uint8, ipLen uint16) packet.Info {
		return from6(packet.Info{Proto: proto, TTL: 64, L3: 14, L4: 54, L3Len: 40, IPLen: ipLen})
	}
	tos := from6(syn)
	tos.TOS, tos.TTL = 0x5a, 9
	many := func(n int) []byte {
		var opts []packettest.Option
		for range n {
			opts = append(opts, packettest.DestOpts(1))
		}
		return tcp(opts...)
	}
	afterAH := behind(24)
	empty := other(59, 40)
	short := packettest.DestOpts(1)
	return []golden{
		{"plain", tcp(), from6(syn), reason.None},
		{"padded", tcp(packettest.Trailer(6)), from6(syn), reason.None},
		{"traffic class, flow label, hop limit", tcp(packettest.TOS(0x5a), packettest.FlowLabel(0xfffff), packettest.TTL(9)), tos, reason.None},
		{"39 bytes", tcp()[:53], packet.Info{}, reason.FrameTooShort},
		{"version 4", edit(tcp(), 14, 0x45), packet.Info{}, reason.IPv6HeaderMalformed},
		{"payload length past frame", edit(tcp(), 18, 0, 21), packet.Info{}, reason.IPv6HeaderMalformed},
		{"jumbogram", edit(tcp(packettest.HopByHop(1)), 18, 0, 0), packet.Info{}, reason.IPv6HeaderMalformed},
		{"nothing behind, no next header", packettest.IP(client6.Addr(), vip6.Addr(), 59, nil), empty, reason.None},
		{"no next header, rubbish behind", packettest.IP(client6.Addr(), vip6.Addr(), 59, []byte{1, 2, 3}), other(59, 43), reason.None},
		{"ESP", packettest.IP(client6.Addr(), vip6.Addr(), 50, make([]byte, 40)), other(50, 80), reason.None},
		{"mobility header is not walked", packettest.IP(client6.Addr(), vip6.Addr(), 135, make([]byte, 8)), other(135, 48), reason.None},
		{"ICMP in IPv6", packettest.IP(client6.Addr(), vip6.Addr(), 1, make([]byte, 8)), packet.Info{}, reason.ProtocolUnsupported},

		{"hop-by-hop", tcp(packettest.HopByHop(1)), behind(8), reason.None},
		{"hop-by-hop, routing, destination options", tcp(packettest.HopByHop(2), packettest.Routing(), packettest.DestOpts(3)), behind(48), reason.None},
		{"authentication header", tcp(packettest.AH()), afterAH, reason.None},
		{"hop-by-hop in second place", tcp(packettest.DestOpts(1), packettest.HopByHop(1)), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"segments left", edit(tcp(packettest.Routing()), 57, 1), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"extension cut at 7 bytes", packettest.IP(client6.Addr(), vip6.Addr(), 60, []byte{6, 0, 1, 4, 0, 0, 0}), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"extension of 8 bytes is all", packettest.IP(client6.Addr(), vip6.Addr(), 60, []byte{59, 0, 1, 4, 0, 0, 0, 0}),
			from6(packet.Info{Proto: 59, TTL: 64, L3: 14, L4: 62, L3Len: 48, IPLen: 48}), reason.None},
		{"extension runs into padding", packettest.IP(client6.Addr(), vip6.Addr(), 60, []byte{6, 1, 1, 4, 0, 0, 0, 0}, packettest.Trailer(40)), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"authentication header of 8 bytes", tcp(packettest.Extension(51, make([]byte, 6)...)), packet.Info{}, reason.IPv6ExtensionMalformed},
		{"8 extensions", many(8), behind(64), reason.None},
		{"9 extensions", many(9), packet.Info{}, reason.IPv6ExtensionLimit},
		{"512 bytes of extensions", tcp(packettest.DestOpts(32), packettest.DestOpts(32)), behind(512), reason.None},
		{"520 bytes of extensions", tcp(packettest.DestOpts(32), packettest.DestOpts(32), short), packet.Info{}, reason.IPv6ExtensionLimit},
		{"one extension of 520 bytes", tcp(packettest.DestOpts(65)), packet.Info{}, reason.IPv6ExtensionLimit},

		{"source unspecified", source("::"), packet.Info{}, reason.SourceInvalid},
		{"source loopback", source("::1"), packet.Info{}, reason.SourceInvalid},
		{"source multicast", source("ff02::1"), packet.Info{}, reason.SourceInvalid},
		{"source IPv4-mapped", source("::ffff:192.0.2.1"), packet.Info{}, reason.SourceInvalid},
		{"destination IPv4-mapped", packettest.TCP(client6, packettest.AddrPort("[::ffff:192.0.2.1]:80")), packet.Info{}, reason.IPv6HeaderMalformed},
	}
}

func transportFrames() []golden {
	info4 := func(proto, flags uint8, ipLen uint16) packet.Info {
		return from4(packet.Info{Proto: proto, TTL: 64, L3: 14, L4: 34, L3Len: 20, IPLen: ipLen, SrcPort: 40000, DstPort: 80, TCPFlags: flags})
	}
	info6 := func(proto, flags uint8, ipLen uint16) packet.Info {
		return from6(packet.Info{Proto: proto, TTL: 64, L3: 14, L4: 54, L3Len: 40, IPLen: ipLen, SrcPort: 40000, DstPort: 80, TCPFlags: flags})
	}
	tcp := func(opts ...packettest.Option) []byte { return packettest.TCP(client4, vip4, opts...) }
	udp := func(opts ...packettest.Option) []byte { return packettest.UDP(client4, vip4, opts...) }
	flags := func(v uint8) []byte { return tcp(packettest.Flags(v)) }
	raw := func(proto uint8, n int) []byte {
		return packettest.IP(client4.Addr(), vip4.Addr(), proto, make([]byte, n), packettest.Trailer(30))
	}
	const fin, syn, rst, psh, ack, urg, ece, cwr = packet.TCPFlagFIN, packet.TCPFlagSYN, packet.TCPFlagRST,
		packet.TCPFlagPSH, packet.TCPFlagACK, packet.TCPFlagURG, packet.TCPFlagECE, packet.TCPFlagCWR
	return []golden{
		{"TCP with options and payload", tcp(packettest.MSS(1460), packettest.PayloadLen(10)), info4(6, syn, 54), reason.None},
		{"TCP of 19 bytes", raw(6, 19), packet.Info{}, reason.TCPHeaderMalformed},
		{"TCP data offset 4", edit(tcp(), 46, 0x40), packet.Info{}, reason.TCPHeaderMalformed},
		{"TCP data offset past packet", edit(tcp(packettest.Trailer(40)), 46, 0x60), packet.Info{}, reason.TCPHeaderMalformed},
		{"TCP data offset is all", edit(tcp(packettest.PayloadLen(40)), 46, 0xf0), info4(6, syn, 80), reason.None},
		{"TCP checksum wrong", tcp(packettest.BadChecksum()), info4(6, syn, 40), reason.None},
		{"TCP in IPv6", packettest.TCP(client6, vip6, packettest.Flags(ack)), info6(6, ack, 60), reason.None},
		{"flags SYN ACK", flags(syn | ack), info4(6, syn|ack, 40), reason.None},
		{"flags SYN ECE CWR", flags(syn | ece | cwr), info4(6, syn|ece|cwr, 40), reason.None},
		{"flags FIN", flags(fin), info4(6, fin, 40), reason.None},
		{"flags FIN PSH URG", flags(fin | psh | urg), info4(6, fin|psh|urg, 40), reason.None},
		{"flags RST", flags(rst), info4(6, rst, 40), reason.None},
		{"flags FIN RST", flags(fin | rst), info4(6, fin|rst, 40), reason.None},
		{"flags PSH", flags(psh), info4(6, psh, 40), reason.None},
		{"flags none", flags(0), packet.Info{}, reason.TCPFlagsInvalid},
		{"flags ECE CWR alone", flags(ece | cwr), packet.Info{}, reason.TCPFlagsInvalid},
		{"flags SYN FIN", flags(syn | fin), packet.Info{}, reason.TCPFlagsInvalid},
		{"flags SYN RST", flags(syn | rst), packet.Info{}, reason.TCPFlagsInvalid},
		{"flags all", flags(0xff), packet.Info{}, reason.TCPFlagsInvalid},

		{"UDP", udp(packettest.PayloadLen(5)), info4(17, 0, 33), reason.None},
		{"UDP without payload", udp(), info4(17, 0, 28), reason.None},
		{"UDP without checksum", udp(packettest.NoUDPChecksum()), info4(17, 0, 28), reason.None},
		{"UDP in IPv6", packettest.UDP(client6, vip6), info6(17, 0, 48), reason.None},
		{"UDP of 7 bytes", raw(17, 7), packet.Info{}, reason.UDPHeaderMalformed},
		{"UDP length 7", udp(packettest.UDPLength(7)), packet.Info{}, reason.UDPHeaderMalformed},
		{"UDP length 0", udp(packettest.UDPLength(0)), packet.Info{}, reason.UDPHeaderMalformed},
		{"UDP length past packet", udp(packettest.UDPLength(9), packettest.Trailer(9)), packet.Info{}, reason.UDPHeaderMalformed},
		{"UDP length below payload", udp(packettest.UDPLength(9), packettest.PayloadLen(5)), info4(17, 0, 33), reason.None},

		{"SCTP", packettest.SCTP(client4, vip4, packettest.PayloadLen(4)), info4(132, 0, 36), reason.None},
		{"SCTP header alone", packettest.SCTP(client4, vip4), info4(132, 0, 32), reason.None},
		{"SCTP of 11 bytes", raw(132, 11), packet.Info{}, reason.SCTPHeaderMalformed},
		{"SCTP in IPv6", packettest.SCTP(client6, vip6), info6(132, 0, 52), reason.None},
	}
}
