package rewrite

import (
	"bytes"
	"testing"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

func TestNAT(t *testing.T) {
	forward4, forward6 := nat(snatEnd4, backendEnd4), nat(snatEnd6, backendEnd6)
	payload := packettest.PayloadLen(100)
	odd := packettest.PayloadLen(101)
	tagged := packettest.Join(packettest.VLAN(5, 6), packettest.TOS(0xb9), packettest.TTL(7))
	runGolden(t, []golden{
		{name: "TCP, IPv4",
			in:  packettest.TCP(ap(clientEnd4), ap(vipEnd4), payload),
			do:  forward4,
			out: packettest.TCP(ap(snatEnd4), ap(backendEnd4), payload)},
		{name: "TCP, IPv6",
			in:  packettest.TCP(ap(clientEnd6), ap(vipEnd6), odd),
			do:  forward6,
			out: packettest.TCP(ap(snatEnd6), ap(backendEnd6), odd)},
		{name: "TCP, IPv4, reply",
			in:  packettest.TCP(ap(backendEnd4), ap(snatEnd4), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK)),
			do:  nat(vipEnd4, clientEnd4),
			out: packettest.TCP(ap(vipEnd4), ap(clientEnd4), packettest.Flags(packet.TCPFlagSYN|packet.TCPFlagACK))},
		{name: "TCP, IPv4, two VLAN tags, TOS, IP options and padding kept",
			in:  packettest.TCP(ap(clientEnd4), ap(vipEnd4), tagged, packettest.IPOptions(7, 7, 4, 0, 0, 0, 0), packettest.Trailer(3)),
			do:  forward4,
			out: packettest.TCP(ap(snatEnd4), ap(backendEnd4), tagged, packettest.IPOptions(7, 7, 4, 0, 0, 0, 0), packettest.Trailer(3))},
		{name: "TCP, IPv6, extension headers kept",
			in:  packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.HopByHop(1), packettest.DestOpts(2), tagged),
			do:  forward6,
			out: packettest.TCP(ap(snatEnd6), ap(backendEnd6), packettest.HopByHop(1), packettest.DestOpts(2), tagged)},
		{name: "UDP, IPv4, odd length",
			in:  packettest.UDP(ap(clientEnd4), ap(vipEnd4), odd),
			do:  forward4,
			out: packettest.UDP(ap(snatEnd4), ap(backendEnd4), odd)},
		{name: "UDP, IPv6, empty",
			in:  packettest.UDP(ap(clientEnd6), ap(vipEnd6)),
			do:  forward6,
			out: packettest.UDP(ap(snatEnd6), ap(backendEnd6))},
		{name: "UDP, IPv4, without checksum",
			in:  packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload, packettest.NoUDPChecksum()),
			do:  forward4,
			out: packettest.UDP(ap(snatEnd4), ap(backendEnd4), payload, packettest.NoUDPChecksum())},
		{name: "UDP, IPv6, without checksum stays so",
			in:         packettest.UDP(ap(clientEnd6), ap(vipEnd6), payload, packettest.NoUDPChecksum()),
			do:         forward6,
			out:        packettest.UDP(ap(snatEnd6), ap(backendEnd6), payload, packettest.NoUDPChecksum()),
			unverified: true},
		{name: "SCTP, IPv4",
			in:  packettest.SCTP(ap(clientEnd4), ap(vipEnd4), payload),
			do:  forward4,
			out: packettest.SCTP(ap(snatEnd4), ap(backendEnd4), payload)},
		{name: "SCTP, IPv6, with extension header, longer than a page of the CRC table",
			in:  packettest.SCTP(ap(clientEnd6), ap(vipEnd6), packettest.DestOpts(1), packettest.PayloadLen(1203)),
			do:  forward6,
			out: packettest.SCTP(ap(snatEnd6), ap(backendEnd6), packettest.DestOpts(1), packettest.PayloadLen(1203))},
		{name: "SCTP, IPv4, padding is not part of the packet",
			in:  packettest.SCTP(ap(clientEnd4), ap(vipEnd4), packettest.Trailer(9)),
			do:  forward4,
			out: packettest.SCTP(ap(snatEnd4), ap(backendEnd4), packettest.Trailer(9))},
		{name: "SCTP, ports unchanged",
			in:  packettest.SCTP(ap(clientEnd4), ap(vipEnd4), payload),
			do:  nat(snat4+":4000", backend4+":80"),
			out: packettest.SCTP(ap(snat4+":4000"), ap(backend4+":80"), payload)},
		{name: "SCTP, first fragment, ports would change",
			in:   packettest.SCTP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(0, true, 9), packettest.PayloadLen(36)),
			do:   forward4,
			want: reason.FragmentUnsupported, unverified: true},
		{name: "SCTP, first fragment, ports unchanged",
			in:  packettest.SCTP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(0, true, 9), packettest.PayloadLen(36)),
			do:  nat(snat4+":4000", backend4+":80"),
			out: packettest.SCTP(ap(snat4+":4000"), ap(backend4+":80"), packettest.Fragment(0, true, 9), packettest.PayloadLen(36))},
		{name: "later fragment, IPv4",
			in:  packettest.UDP(ap(clientEnd4), ap(vipEnd4), packettest.Fragment(1480, false, 9), payload),
			do:  forward4,
			out: packettest.UDP(ap(snatEnd4), ap(backendEnd4), packettest.Fragment(1480, false, 9), payload)},
		{name: "later fragment, IPv6",
			in:  packettest.TCP(ap(clientEnd6), ap(vipEnd6), packettest.Fragment(1232, true, 9), packettest.PayloadLen(64)),
			do:  forward6,
			out: packettest.TCP(ap(snatEnd6), ap(backendEnd6), packettest.Fragment(1232, true, 9), packettest.PayloadLen(64))},
		{name: "atomic fragment, IPv6",
			in:  packettest.UDP(ap(clientEnd6), ap(vipEnd6), packettest.Fragment(0, false, 9), payload),
			do:  forward6,
			out: packettest.UDP(ap(snatEnd6), ap(backendEnd6), packettest.Fragment(0, false, 9), payload)},
		{name: "ICMP echo: addresses alone",
			in:  packettest.Echo(ip(client4), ip(vip4), 7, 1, payload),
			do:  forward4,
			out: packettest.Echo(ip(snat4), ip(backend4), 7, 1, payload)},
		{name: "ICMPv6 echo: addresses and checksum",
			in:  packettest.Echo(ip(client6), ip(vip6), 7, 1, payload),
			do:  forward6,
			out: packettest.Echo(ip(snat6), ip(backend6), 7, 1, payload)},
		{name: "another transport protocol",
			in:   packettest.IP(ip(client4), ip(vip4), 47, make([]byte, 20)),
			do:   forward4,
			want: reason.ProtocolUnsupported},
		{name: "IPv4 packet, IPv6 backend",
			in:   packettest.TCP(ap(clientEnd4), ap(vipEnd4)),
			do:   nat(snatEnd6, backendEnd6),
			want: reason.FamilyMismatch},
		{name: "IPv6 packet, IPv4 backend",
			in:   packettest.TCP(ap(clientEnd6), ap(vipEnd6)),
			do:   nat(snatEnd6, backendEnd4),
			want: reason.FamilyMismatch},
	})
}

// A checksum that arrived wrong leaves wrong, in the same way: packettest
// damages both frames alike.
func TestNATKeepsWrongChecksums(t *testing.T) {
	bad := packettest.BadChecksum()
	payload := packettest.PayloadLen(50)
	cases := []golden{
		{name: "TCP, IPv4", do: nat(snatEnd4, backendEnd4), in: packettest.TCP(ap(clientEnd4), ap(vipEnd4), payload, bad)},
		{name: "TCP, IPv6", do: nat(snatEnd6, backendEnd6), in: packettest.TCP(ap(clientEnd6), ap(vipEnd6), payload, bad)},
		{name: "UDP, IPv4", do: nat(snatEnd4, backendEnd4), in: packettest.UDP(ap(clientEnd4), ap(vipEnd4), payload, bad)},
		{name: "UDP, IPv6", do: nat(snatEnd6, backendEnd6), in: packettest.UDP(ap(clientEnd6), ap(vipEnd6), payload, bad)},
		{name: "SCTP, IPv4", do: nat(snatEnd4, backendEnd4), in: packettest.SCTP(ap(clientEnd4), ap(vipEnd4), payload, bad)},
		{name: "SCTP, IPv6", do: nat(snatEnd6, backendEnd6), in: packettest.SCTP(ap(clientEnd6), ap(vipEnd6), payload, bad)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBuf(c.in)
			info := parse(t, b.Frame())
			before := transportError(b.Frame(), info)
			if before == 0 {
				t.Fatal("the checksum is right, which this test does not mean")
			}
			if r := c.do(b, info); r != reason.None {
				t.Fatal(r)
			}
			if after := transportError(b.Frame(), parse(t, b.Frame())); after != before {
				t.Errorf("checksum was wrong by %#x, is wrong by %#x", before, after)
			}
		})
	}
}

// Zero is a UDP checksum that says there is none. A rewrite that arrives at
// zero must send 0xffff (RFC 768), whatever ports lead there.
func TestNATNeverComputesZeroForUDP(t *testing.T) {
	hits := 0
	for port := 1; port < 65536; port++ {
		frame := packettest.UDP(ap(clientEnd4), ap(vipEnd4))
		info := parse(t, frame)
		to := natArgs(snatEnd4, backendEnd4)
		to.SrcPort = uint16(port)
		if r := NAT(frame, info, to); r != reason.None {
			t.Fatal(r)
		}
		check := packet.UDP(frame[info.L4:]).Checksum()
		if check == 0 {
			t.Fatalf("port %d: checksum is 0", port)
		}
		if e := transportError(frame, info); e != 0 {
			t.Fatalf("port %d: checksum is wrong by %#x", port, e)
		}
		if check == 0xffff {
			hits++
		}
	}
	if hits != 1 {
		t.Errorf("%d ports lead to 0xffff, want 1", hits)
	}
}

// For TCP both representations of zero mean the same; the right one, which a
// full computation gives, is 0.
func TestNATToZeroForTCP(t *testing.T) {
	hits := 0
	for port := 1; port < 65536; port++ {
		frame := packettest.TCP(ap(clientEnd4), ap(vipEnd4))
		info := parse(t, frame)
		to := natArgs(snatEnd4, backendEnd4)
		to.SrcPort = uint16(port)
		NAT(frame, info, to)
		check := packet.TCP(frame[info.L4:]).Checksum()
		if check == 0xffff {
			t.Fatalf("port %d: checksum is 0xffff, which no computation gives", port)
		}
		if e := transportError(frame, info); e != 0 {
			t.Fatalf("port %d: checksum is wrong by %#x", port, e)
		}
		if check == 0 {
			hits++
		}
	}
	if hits != 1 {
		t.Errorf("%d ports lead to 0, want 1", hits)
	}
}

// An SCTP checksum of 0 says that there is none (RFC 9653), unless 0 is what
// the CRC is.
func TestNATOfSCTPWithoutChecksum(t *testing.T) {
	frame := packettest.SCTP(ap(clientEnd4), ap(vipEnd4), packettest.PayloadLen(40))
	info := parse(t, frame)
	packet.SCTP(frame[info.L4:]).SetChecksum(0)
	want := bytes.Clone(packettest.SCTP(ap(snatEnd4), ap(backendEnd4), packettest.PayloadLen(40)))
	packet.SCTP(want[info.L4:]).SetChecksum(0)
	if r := NAT(frame, info, natArgs(snatEnd4, backendEnd4)); r != reason.None {
		t.Fatal(r)
	}
	if !bytes.Equal(frame, want) {
		t.Errorf("frame is\n%x, want\n%x", frame, want)
	}
}

func TestNATOfSCTPWhoseChecksumIsZero(t *testing.T) {
	segment, payload := sctpWithZeroCRC(t, 4000, 80)
	if packet.SCTPChecksum(segment) != 0 {
		t.Fatal("the CRC is not 0")
	}
	frame := packettest.IP(ip(client4), ip(vip4), packet.ProtoSCTP, segment)
	info := parse(t, frame)
	if r := NAT(frame, info, natArgs(snatEnd4, backendEnd4)); r != reason.None {
		t.Fatal(r)
	}
	want := packettest.SCTP(ap(snatEnd4), ap(backendEnd4), packettest.Tag(0), packettest.Payload(payload))
	if !bytes.Equal(frame, want) {
		t.Errorf("frame is\n%x, want\n%x", frame, want)
	}
}

// NAT takes ICMP for IPv4 and ICMPv6 for IPv6, since Parse refuses the others.
func TestParseRefusesICMPOfTheOtherFamily(t *testing.T) {
	for _, frame := range [][]byte{
		packettest.IP(ip(client4), ip(vip4), packet.ProtoICMPv6, make([]byte, 8)),
		packettest.IP(ip(client6), ip(vip6), packet.ProtoICMP, make([]byte, 8)),
	} {
		var info packet.Info
		if r := packet.Parse(frame, &info); r != reason.ProtocolUnsupported {
			t.Errorf("reason is %v, want %v", r, reason.ProtocolUnsupported)
		}
	}
}
