// Package headers writes the headers of a frame in one line, for people. It
// reads frames that are malformed or cut short as far as they go.
package headers

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"fairlead/dataplane/packet"
)

// Line describes a frame of which the first bytes are given.
func Line(frame []byte) string {
	var b strings.Builder
	if len(frame) < packet.EthernetLen {
		return fmt.Sprintf("%d bytes, too short for Ethernet", len(frame))
	}
	eth := packet.Ethernet(frame)
	etherType, rest := eth.EtherType(), frame[packet.EthernetLen:]
	if eth.DstIsGroup() {
		fmt.Fprintf(&b, "to group %v ", mac(eth.DstMAC()))
	}
	for packet.IsVLAN(etherType) && len(rest) >= packet.VLANLen {
		tag := packet.VLAN(rest)
		fmt.Fprintf(&b, "vlan %d ", tag.ID())
		etherType, rest = tag.EtherType(), rest[packet.VLANLen:]
	}
	switch {
	case packet.IsVLAN(etherType):
		b.WriteString("vlan tag cut short")
	case etherType == packet.EtherTypeIPv4:
		ipv4(&b, rest)
	case etherType == packet.EtherTypeIPv6:
		ipv6(&b, rest)
	case etherType == packet.EtherTypeARP:
		arp(&b, rest)
	default:
		fmt.Fprintf(&b, "%v > %v ethertype %#04x", mac(eth.SrcMAC()), mac(eth.DstMAC()), etherType)
	}
	return b.String()
}

func mac(m [6]byte) net.HardwareAddr { return m[:] }

func arp(b *strings.Builder, p []byte) {
	if len(p) < packet.ARPLen {
		b.WriteString("arp cut short")
		return
	}
	h := packet.ARP(p)
	switch h.Op() {
	case 1:
		fmt.Fprintf(b, "arp who has %v tell %v (%v)", h.TargetAddr(), h.SenderAddr(), mac(h.SenderMAC()))
	case 2:
		fmt.Fprintf(b, "arp %v is at %v", h.SenderAddr(), mac(h.SenderMAC()))
	default:
		fmt.Fprintf(b, "arp operation %d from %v", h.Op(), h.SenderAddr())
	}
}

func ipv4(b *strings.Builder, p []byte) {
	h := packet.IPv4(p)
	if len(p) < packet.IPv4MinLen {
		fmt.Fprintf(b, "ipv4 header of %d bytes, cut short", len(p))
		return
	}
	var notes []string
	if h.Version() != 4 {
		notes = append(notes, fmt.Sprintf("version %d", h.Version()))
	}
	if n := h.HeaderLen(); n != packet.IPv4MinLen {
		notes = append(notes, fmt.Sprintf("header %d bytes", n))
	}
	later := h.FragmentOffset() != 0
	if later || h.MoreFragments() {
		notes = append(notes, fmt.Sprintf("fragment %d of id %d%s", h.FragmentOffset(), h.ID(), more(h.MoreFragments())))
	}
	if h.DontFragment() {
		notes = append(notes, "DF")
	}
	notes = append(notes, fmt.Sprintf("ttl %d", h.TTL()), fmt.Sprintf("length %d", h.TotalLen()))
	body := []byte(nil)
	if n := h.HeaderLen(); n >= packet.IPv4MinLen && n <= len(p) {
		body = p[n:]
	}
	transport(b, h.Src(), h.Dst(), h.Proto(), body, later, notes)
}

func more(is bool) string {
	if is {
		return "+"
	}
	return ""
}

// mostExtensions bounds how many extension headers are walked.
const mostExtensions = 16

func ipv6(b *strings.Builder, p []byte) {
	h := packet.IPv6(p)
	if len(p) < packet.IPv6Len {
		fmt.Fprintf(b, "ipv6 header of %d bytes, cut short", len(p))
		return
	}
	var notes []string
	if h.Version() != 6 {
		notes = append(notes, fmt.Sprintf("version %d", h.Version()))
	}
	next, body, later := h.NextHeader(), p[packet.IPv6Len:], false
	for range mostExtensions {
		if len(body) < packet.IPv6ExtensionMinLen {
			break
		}
		ext, n := packet.IPv6Extension(body), 0
		switch next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDestOpts:
			n = ext.HeaderLen()
		case packet.ProtoAH:
			n = ext.AuthenticationLen()
		case packet.ProtoFragment:
			f := packet.IPv6Fragment(body)
			n, later = packet.IPv6FragmentLen, f.Offset() != 0
			notes = append(notes, fmt.Sprintf("fragment %d of id %d%s", f.Offset(), f.ID(), more(f.More())))
		}
		if n == 0 {
			break
		}
		next, body = ext.NextHeader(), body[min(n, len(body)):]
	}
	notes = append(notes, fmt.Sprintf("hop limit %d", h.HopLimit()), fmt.Sprintf("length %d", packet.IPv6Len+int(h.PayloadLen())))
	transport(b, h.Src(), h.Dst(), next, body, later, notes)
}

// transport writes the ends of a packet and what its transport header says.
func transport(b *strings.Builder, src, dst packet.Addr, proto uint8, p []byte, later bool, notes []string) {
	ends := func(srcPort, dstPort uint16) {
		fmt.Fprintf(b, "%v > %v ", netip.AddrPortFrom(src.Netip(), srcPort), netip.AddrPortFrom(dst.Netip(), dstPort))
	}
	short := func(name string) { fmt.Fprintf(b, "%v > %v %s header cut short", src, dst, name) }
	switch {
	case later:
		fmt.Fprintf(b, "%v > %v protocol %d", src, dst, proto)
	case proto == packet.ProtoTCP && len(p) < packet.TCPMinLen:
		short("tcp")
	case proto == packet.ProtoTCP:
		h := packet.TCP(p)
		ends(h.SrcPort(), h.DstPort())
		fmt.Fprintf(b, "tcp [%s] seq %d", flags(h.Flags()), h.Seq())
		if h.Flags()&packet.TCPFlagACK != 0 {
			fmt.Fprintf(b, " ack %d", h.Ack())
		}
		fmt.Fprintf(b, " win %d", h.Window())
		if n := h.HeaderLen(); n < packet.TCPMinLen {
			fmt.Fprintf(b, " header %d bytes", n)
		}
	case proto == packet.ProtoUDP && len(p) < packet.UDPLen:
		short("udp")
	case proto == packet.ProtoUDP:
		h := packet.UDP(p)
		ends(h.SrcPort(), h.DstPort())
		fmt.Fprintf(b, "udp length %d", h.Length())
	case proto == packet.ProtoSCTP && len(p) < packet.SCTPLen:
		short("sctp")
	case proto == packet.ProtoSCTP:
		h := packet.SCTP(p)
		ends(h.SrcPort(), h.DstPort())
		fmt.Fprintf(b, "sctp tag %#08x", h.Tag())
	case proto == packet.ProtoICMP && len(p) >= packet.ICMPLen:
		h := packet.ICMPv4(p)
		fmt.Fprintf(b, "%v > %v icmp type %d code %d", src, dst, h.Type(), h.Code())
	case proto == packet.ProtoICMPv6 && len(p) >= packet.ICMPLen:
		h := packet.ICMPv6(p)
		fmt.Fprintf(b, "%v > %v icmpv6 type %d code %d", src, dst, h.Type(), h.Code())
	default:
		fmt.Fprintf(b, "%v > %v protocol %d", src, dst, proto)
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(notes, ", "))
	}
}

// flags writes TCP flags as tcpdump does: a letter each, a dot for ACK.
func flags(f uint8) string {
	if f == 0 {
		return "none"
	}
	var b strings.Builder
	for _, one := range []struct {
		bit  uint8
		name byte
	}{
		{packet.TCPFlagFIN, 'F'}, {packet.TCPFlagSYN, 'S'}, {packet.TCPFlagRST, 'R'}, {packet.TCPFlagPSH, 'P'},
		{packet.TCPFlagACK, '.'}, {packet.TCPFlagURG, 'U'}, {packet.TCPFlagECE, 'E'}, {packet.TCPFlagCWR, 'W'},
	} {
		if f&one.bit != 0 {
			b.WriteByte(one.name)
		}
	}
	return b.String()
}
