package rewrite

import (
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

const (
	router4, router6 = "203.0.113.254", "2001:db8:f::1"
)

// quoting is a kind of packet that an ICMP error may quote.
type quoting struct {
	name  string
	build func(src, dst string, opts ...packettest.Option) []byte
	quote int // bytes of it that are quoted
}

func quotings(headerLen int) []quoting {
	tcp := func(src, dst string, opts ...packettest.Option) []byte {
		return packettest.TCP(ap(src), ap(dst), append(opts, packettest.PayloadLen(1300), packettest.Flags(packet.TCPFlagACK))...)
	}
	udp := func(src, dst string, opts ...packettest.Option) []byte {
		return packettest.UDP(ap(src), ap(dst), append(opts, packettest.PayloadLen(1300))...)
	}
	noChecksum := func(src, dst string, opts ...packettest.Option) []byte {
		return udp(src, dst, append(opts, packettest.NoUDPChecksum())...)
	}
	sctp := func(src, dst string, opts ...packettest.Option) []byte {
		return packettest.SCTP(ap(src), ap(dst), append(opts, packettest.PayloadLen(1300))...)
	}
	echo := func(src, dst string, opts ...packettest.Option) []byte {
		return packettest.Echo(ap(src).Addr(), ap(dst).Addr(), 7, 8, append(opts, packettest.PayloadLen(100))...)
	}
	later := func(src, dst string, opts ...packettest.Option) []byte {
		return udp(src, dst, append(opts, packettest.Fragment(1480, false, 5))...)
	}
	return []quoting{
		{"TCP, 8 bytes", tcp, headerLen + 8},
		{"TCP, odd length", tcp, headerLen + 13},
		{"TCP, to the checksum", tcp, headerLen + 16},
		{"TCP, checksum just there", tcp, headerLen + 18},
		{"TCP, much of it", tcp, headerLen + 500},
		{"UDP, 8 bytes", udp, headerLen + 8},
		{"UDP, odd length", udp, headerLen + 77},
		{"UDP without checksum", noChecksum, headerLen + 60},
		{"SCTP, 8 bytes", sctp, headerLen + 8},
		{"SCTP, checksum just there", sctp, headerLen + 12},
		{"echo", echo, headerLen + 40},
		{"later fragment", later, headerLen + 64},
	}
}

// An error about a NAT flow must look to each end as if there were no NAT: the
// whole message is what packettest builds from the packet that this end sent.
func TestICMPErrorNAT(t *testing.T) {
	toClient := func(src, dst string) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason {
			return ICMPToClient(b.Frame(), info, natArgs(src, dst))
		}
	}
	toBackend := func(src, dst string) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason {
			return ICMPToBackend(b.Frame(), info, natArgs(src, dst))
		}
	}
	var cases []golden
	add := func(name, from string, q quoting, typ, code uint8, do func(*Buf, *packet.Info) reason.Reason,
		outerSrc, outerDst, sentSrc, sentDst, newSrc, newDst, wasSrc, wasDst string, quoteOpts ...packettest.Option) {
		limit := packettest.QuoteLen(q.quote)
		in := packettest.ICMPError(ip(outerSrc), ip(outerDst), typ, code, q.build(sentSrc, sentDst, quoteOpts...), limit, packettest.Rest(1280), packettest.VLAN(5))
		out := packettest.ICMPError(ip(newSrc), ip(newDst), typ, code, q.build(wasSrc, wasDst, quoteOpts...), limit, packettest.Rest(1280), packettest.VLAN(5))
		cases = append(cases, golden{name: name + ", " + from + ", " + q.name, in: in, do: do, out: out})
	}
	for _, q := range quotings(20) {
		for from, src := range map[string]string{"from a router": router4, "from the end": backend4} {
			add("IPv4 to client", from, q, 3, 4, toClient(vipEnd4, clientEnd4),
				src, snat4, snatEnd4, backendEnd4, vip4, client4, clientEnd4, vipEnd4)
		}
		add("IPv4 to backend", "from a router", q, 11, 0, toBackend(snatEnd4, backendEnd4),
			router4, vip4, vipEnd4, clientEnd4, snat4, backend4, backendEnd4, snatEnd4)
	}
	for _, q := range quotings(20 + 4) {
		add("IPv4 with quoted options", "from a router", q, 3, 1, toClient(vipEnd4, clientEnd4),
			router4, snat4, snatEnd4, backendEnd4, vip4, client4, clientEnd4, vipEnd4, packettest.IPOptions(1, 1, 1, 0))
	}
	for _, q := range quotings(40) {
		if q.name == "later fragment" {
			q.quote += 8 // the fragment header
		}
		add("IPv6 to client", "from a router", q, 2, 0, toClient(vipEnd6, clientEnd6),
			router6, snat6, snatEnd6, backendEnd6, vip6, client6, clientEnd6, vipEnd6)
		add("IPv6 to backend", "from the end", q, 1, 4, toBackend(snatEnd6, backendEnd6),
			client6, vip6, vipEnd6, clientEnd6, snat6, backend6, backendEnd6, snatEnd6)
	}
	for _, q := range quotings(40 + 16) {
		if q.name == "later fragment" {
			q.quote += 8
		}
		if q.name == "SCTP, checksum just there" {
			continue // the quoted length is not read through extension headers
		}
		add("IPv6 with quoted extension headers", "from a router", q, 2, 0, toClient(vipEnd6, clientEnd6),
			router6, snat6, snatEnd6, backendEnd6, vip6, client6, clientEnd6, vipEnd6, packettest.DestOpts(2))
	}
	runGolden(t, cases)
}

func TestICMPErrorNATOfWholeSmallPackets(t *testing.T) {
	// Quotes that hold the whole packet, which packettest then checks down to
	// the transport checksum.
	for _, c := range []struct {
		name     string
		sent     []byte
		src, dst string
		to       *NATArgs
	}{
		{"TCP", packettest.TCP(ap(snatEnd4), ap(backendEnd4)), backend4, snat4, natArgs(vipEnd4, clientEnd4)},
		{"UDP", packettest.UDP(ap(snatEnd4), ap(backendEnd4), packettest.PayloadLen(9)), backend4, snat4, natArgs(vipEnd4, clientEnd4)},
		{"SCTP", packettest.SCTP(ap(snatEnd4), ap(backendEnd4), packettest.PayloadLen(16)), backend4, snat4, natArgs(vipEnd4, clientEnd4)},
		{"TCP, IPv6", packettest.TCP(ap(snatEnd6), ap(backendEnd6)), backend6, snat6, natArgs(vipEnd6, clientEnd6)},
		{"UDP, IPv6", packettest.UDP(ap(snatEnd6), ap(backendEnd6), packettest.PayloadLen(9)), backend6, snat6, natArgs(vipEnd6, clientEnd6)},
		{"SCTP, IPv6", packettest.SCTP(ap(snatEnd6), ap(backendEnd6), packettest.PayloadLen(16)), backend6, snat6, natArgs(vipEnd6, clientEnd6)},
	} {
		t.Run(c.name, func(t *testing.T) {
			typ := uint8(packet.ICMPv4Unreachable)
			if c.to.Src.Is4() == false {
				typ = packet.ICMPv6Unreachable
			}
			frame := packettest.ICMPError(ip(c.src), ip(c.dst), typ, 3, c.sent)
			if r := ICMPToClient(frame, parse(t, frame), c.to); r != reason.None {
				t.Fatal(r)
			}
			info := verify(t, frame)
			if err := packettest.VerifyQuote(frame); err != nil {
				t.Error(err)
			}
			if info.Src != c.to.Src || info.Dst != c.to.Dst || info.Inner.Src != c.to.Dst || info.Inner.Dst != c.to.Src ||
				info.Inner.SrcPort != c.to.DstPort || info.Inner.DstPort != c.to.SrcPort {
				t.Errorf("the result says %+v", info)
			}
		})
	}
}

func TestICMPErrorNATRefuses(t *testing.T) {
	do := func(src, dst string) func(*Buf, *packet.Info) reason.Reason {
		return func(b *Buf, info *packet.Info) reason.Reason {
			return ICMPToClient(b.Frame(), info, natArgs(src, dst))
		}
	}
	runGolden(t, []golden{
		{name: "no error", in: packettest.Echo(ip(router4), ip(snat4), 1, 1), do: do(vipEnd4, clientEnd4), want: reason.ICMPMalformed},
		{name: "UDP", in: packettest.UDP(ap(snatEnd4), ap(backendEnd4)), do: do(vipEnd4, clientEnd4), want: reason.ICMPMalformed},
		{name: "client of the other family", do: do(vipEnd6, clientEnd6), want: reason.FamilyMismatch,
			in: packettest.ICMPError(ip(router4), ip(snat4), 3, 1, packettest.UDP(ap(snatEnd4), ap(backendEnd4)))},
		{name: "addresses of two families", do: do(vipEnd4, clientEnd6), want: reason.FamilyMismatch,
			in: packettest.ICMPError(ip(router4), ip(snat4), 3, 1, packettest.UDP(ap(snatEnd4), ap(backendEnd4)))},
	})
}

// Routers quote headers whose checksum is not what they forward. The error of
// a quoted checksum stays what it was.
func TestICMPErrorNATKeepsWrongQuote(t *testing.T) {
	sent := packettest.UDP(ap(snatEnd4), ap(backendEnd4), packettest.BadIPChecksum(), packettest.BadChecksum(), packettest.PayloadLen(20))
	frame := packettest.ICMPError(ip(router4), ip(snat4), 3, 1, sent)
	info := parse(t, frame)
	quoted := func() (header, transport uint64) {
		inner := &packet.Info{Kind: packet.KindIPv4, Proto: packet.ProtoUDP, L3: info.Inner.L3, L4: info.Inner.L4, IPLen: info.Inner.End - info.Inner.L3}
		return headerError(frame, inner), transportError(frame, inner)
	}
	header, transport := quoted()
	if header == 0 || transport == 0 {
		t.Fatal("the quote's checksums are right, which this test does not mean")
	}
	if r := ICMPToClient(frame, info, natArgs(vipEnd4, clientEnd4)); r != reason.None {
		t.Fatal(r)
	}
	verify(t, frame)
	if h, tr := quoted(); h != header || tr != transport {
		t.Errorf("errors of the quoted checksums are %#x and %#x, were %#x and %#x", h, tr, header, transport)
	}
}

func TestICMPErrorNATKeepsQuotedICMPv6InIPv4(t *testing.T) {
	sent := packettest.IP(ip(snat4), ip(backend4), packet.ProtoICMPv6, []byte{1, 2, 3})
	frame := packettest.ICMPError(ip(router4), ip(snat4), 3, 2, sent)
	want := packettest.ICMPError(ip(vip4), ip(client4), 3, 2, packettest.IP(ip(client4), ip(vip4), packet.ProtoICMPv6, []byte{1, 2, 3}))
	if r := ICMPToClient(frame, parse(t, frame), natArgs(vipEnd4, clientEnd4)); r != reason.None {
		t.Fatal(r)
	}
	if string(frame) != string(want) {
		t.Errorf("frame is\n%x, want\n%x", frame, want)
	}
}

// A transport checksum of which the quote has a part cannot be updated, and
// stays; the ICMP checksum over it is right all the same.
func TestICMPErrorNATOfQuoteCutInChecksum(t *testing.T) {
	for _, c := range []struct {
		name     string
		sent     []byte
		quote    int
		checksum int // offset in the frame of the quoted part of the checksum
	}{
		{"TCP", packettest.TCP(ap(snatEnd4), ap(backendEnd4)), 20 + 17, 14 + 28 + 20 + 16},
		{"SCTP, one byte", packettest.SCTP(ap(snatEnd4), ap(backendEnd4)), 20 + 9, 14 + 28 + 20 + 8},
		{"SCTP, three bytes", packettest.SCTP(ap(snatEnd4), ap(backendEnd4)), 20 + 11, 14 + 28 + 20 + 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := packettest.ICMPError(ip(router4), ip(snat4), 3, 1, c.sent, packettest.QuoteLen(c.quote))
			part := string(frame[c.checksum:])
			if r := ICMPToClient(frame, parse(t, frame), natArgs(vipEnd4, clientEnd4)); r != reason.None {
				t.Fatal(r)
			}
			verify(t, frame)
			if got := string(frame[c.checksum:]); got != part {
				t.Errorf("the quoted part of the checksum is %x, was %x", got, part)
			}
		})
	}
}

// The CRC of a quoted SCTP packet is left as it is where its change cannot be
// known: in a fragment, behind extension headers, and where there is none.
func TestICMPErrorNATKeepsQuotedSCTPChecksum(t *testing.T) {
	sctp4 := func(opts ...packettest.Option) []byte {
		return packettest.SCTP(ap(snatEnd4), ap(backendEnd4), append(opts, packettest.PayloadLen(36))...)
	}
	none := sctp4()
	clear(none[14+20+8 : 14+20+12])
	for _, c := range []struct {
		name  string
		frame []byte
		to    *NATArgs
	}{
		{"first fragment", packettest.ICMPError(ip(router4), ip(snat4), 11, 1, sctp4(packettest.Fragment(0, true, 3))), natArgs(vipEnd4, clientEnd4)},
		{"no checksum (RFC 9653)", packettest.ICMPError(ip(router4), ip(snat4), 3, 1, none), natArgs(vipEnd4, clientEnd4)},
		{"extension header", packettest.ICMPError(ip(router6), ip(snat6), 2, 0,
			packettest.SCTP(ap(snatEnd6), ap(backendEnd6), packettest.DestOpts(1))), natArgs(vipEnd6, clientEnd6)},
		{"first fragment, IPv6", packettest.ICMPError(ip(router6), ip(snat6), 3, 1,
			packettest.SCTP(ap(snatEnd6), ap(backendEnd6), packettest.Fragment(0, true, 3), packettest.PayloadLen(36))), natArgs(vipEnd6, clientEnd6)},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := parse(t, c.frame)
			quoted := packet.SCTP(c.frame[info.Inner.L4:])
			was := quoted.Checksum()
			if r := ICMPToClient(c.frame, info, c.to); r != reason.None {
				t.Fatal(r)
			}
			verify(t, c.frame)
			if got := quoted.Checksum(); got != was {
				t.Errorf("the quoted checksum is %#08x, was %#08x", got, was)
			}
			if quoted.SrcPort() != c.to.DstPort || quoted.DstPort() != c.to.SrcPort {
				t.Errorf("the quoted ports are %d and %d", quoted.SrcPort(), quoted.DstPort())
			}
		})
	}
}
