package offline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"fairlead/dataplane/packet/packettest"
)

// guePort is the UDP port that the tables' configuration has GUE on.
const guePort = 6080

// describe says in one line what a frame is, layer by layer, as gopacket
// decodes it, and what is wrong with it, if anything is: a length, a checksum,
// or a quoted packet.
func (n *names) describe(frame []byte, port uint16) string {
	d := &describer{}
	var eth layers.Ethernet
	if !d.decode(&eth, frame) {
		return d.line()
	}
	d.say("%s > %s", n.of(eth.SrcMAC), n.of(eth.DstMAC))
	if name := n.order[port]; n.of(eth.SrcMAC) != name {
		d.add(" leaves by %s", name)
	}
	d.link(uint16(eth.EthernetType), frame[14:])
	verify := packettest.Verify
	if d.quotes {
		verify = func(frame []byte, _ ...uint16) error { return packettest.VerifyQuote(frame) }
	}
	if err := verify(frame, guePort); err != nil {
		d.say("WRONG: %v", err)
	}
	return d.line()
}

func (n *names) of(mac net.HardwareAddr) string {
	if name, known := n.name[[6]byte(mac)]; known {
		return name
	}
	return mac.String()
}

// describer collects the parts of a line.
type describer struct {
	parts  []string
	nested bool // inside a tunnel
	quotes bool // the frame is an ICMP error, not in a tunnel
}

func (d *describer) say(format string, args ...any) {
	d.parts = append(d.parts, fmt.Sprintf(format, args...))
}

// add continues the last part.
func (d *describer) add(format string, args ...any) {
	d.parts[len(d.parts)-1] += fmt.Sprintf(format, args...)
}

func (d *describer) line() string { return strings.Join(d.parts, " | ") }

func (d *describer) decode(layer gopacket.DecodingLayer, b []byte) bool {
	if err := layer.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		d.say("WRONG: %v", err)
		return false
	}
	return true
}

func (d *describer) link(etherType uint16, b []byte) {
	for etherType == 0x8100 || etherType == 0x88a8 {
		var tag layers.Dot1Q
		if !d.decode(&tag, b) {
			return
		}
		name := "vlan"
		if etherType == 0x88a8 {
			name = "s-vlan"
		}
		d.say("%s %d", name, tag.VLANIdentifier)
		etherType, b = uint16(tag.Type), b[4:]
	}
	switch etherType {
	case 0x0800:
		d.ip4(b, false)
	case 0x86dd:
		d.ip6(b, false)
	case 0x0806:
		d.arp(b)
	default:
		d.say("ethertype %#04x", etherType)
	}
}

func (d *describer) arp(b []byte) {
	var h layers.ARP
	if !d.decode(&h, b) {
		return
	}
	what := map[uint16]string{1: "asks", 2: "tells"}[h.Operation]
	d.say("arp %v at %v %s %v at %v", net.IP(h.SourceProtAddress), net.HardwareAddr(h.SourceHwAddress), what,
		net.IP(h.DstProtAddress), net.HardwareAddr(h.DstHwAddress))
}

// ip4 describes an IPv4 packet. One that an ICMP error quotes may be cut short.
func (d *describer) ip4(b []byte, quoted bool) {
	var h layers.IPv4
	if !d.decode(&h, b) {
		return
	}
	d.say("ip4 %v > %v ttl %d tos %#02x", h.SrcIP, h.DstIP, h.TTL, h.TOS)
	if h.Flags&layers.IPv4DontFragment != 0 {
		d.add(" df")
	}
	if h.Id != 0 {
		d.add(" id %d", h.Id)
	}
	if len(h.Options) > 0 {
		d.add(" options %x", b[20:int(h.IHL)*4])
	}
	more := h.Flags&layers.IPv4MoreFragments != 0
	offset := int(h.FragOffset) * 8
	d.fragment(offset, more)
	end := len(b)
	if !quoted {
		end = min(end, int(h.Length))
		defer d.padding(len(b) - end)
	}
	if offset > 0 {
		d.payload(b[int(h.IHL)*4 : end])
		return
	}
	d.transport(uint8(h.Protocol), b[int(h.IHL)*4:end], quoted)
}

func (d *describer) fragment(offset int, more bool) {
	if more {
		d.add(" frag %d more", offset)
	} else if offset > 0 {
		d.add(" frag %d last", offset)
	}
}

func (d *describer) padding(n int) {
	if n > 0 {
		d.say("padding %d", n)
	}
}

func (d *describer) ip6(b []byte, quoted bool) {
	var h layers.IPv6
	if len(b) < 40 || h.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil && !quoted {
		d.say("WRONG: no IPv6 header")
		return
	}
	d.say("ip6 %v > %v ttl %d tos %#02x", net.IP(b[8:24]), net.IP(b[24:40]), b[7], binary.BigEndian.Uint16(b)>>4&0xff)
	if label := binary.BigEndian.Uint32(b) & 0xfffff; label != 0 {
		d.add(" flow %#05x", label)
	}
	end := len(b)
	if !quoted {
		end = min(end, 40+int(binary.BigEndian.Uint16(b[4:])))
		defer d.padding(len(b) - end)
	}
	next, rest := b[6], b[40:end]
	for {
		switch next {
		case 0, 60, 43:
			n := 8 * (int(rest[1]) + 1)
			d.add(" %s %d", map[uint8]string{0: "hop-by-hop", 60: "dest-opts", 43: "routing"}[next], n/8)
			next, rest = rest[0], rest[n:]
			continue
		case 44:
			word := binary.BigEndian.Uint16(rest[2:])
			d.add(" id %d", binary.BigEndian.Uint32(rest[4:]))
			d.fragment(int(word&^7), word&1 != 0)
			if word&^7 > 0 {
				d.payload(rest[8:])
				return
			}
			next, rest = rest[0], rest[8:]
			continue
		}
		d.transport(next, rest, quoted)
		return
	}
}

func (d *describer) transport(proto uint8, b []byte, quoted bool) {
	if quoted && len(b) < 20 && proto == 6 { // eight bytes of TCP are all that is promised
		d.say("tcp %d > %d seq %d", binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]))
		d.say("%d bytes in all", len(b))
		return
	}
	switch proto {
	case 1:
		d.icmp4(b)
	case 58:
		d.icmp6(b)
	case 4, 41:
		d.tunnelled(proto, b, quoted)
	case 6:
		d.tcp(b)
	case 17:
		d.udp(b, quoted)
	case 132:
		var h layers.SCTP
		if d.decode(&h, b) {
			d.say("sctp %d > %d tag %#x", uint16(h.SrcPort), uint16(h.DstPort), h.VerificationTag)
			d.payload(b[12:])
		}
	default:
		d.say("proto %d", proto)
		d.payload(b)
	}
}

// tunnelled describes the packet in a tunnel.
func (d *describer) tunnelled(proto uint8, b []byte, quoted bool) {
	d.nested = true
	if proto == 41 {
		d.ip6(b, quoted)
	} else {
		d.ip4(b, quoted)
	}
}

func (d *describer) tcp(b []byte) {
	var h layers.TCP
	if !d.decode(&h, b) {
		return
	}
	var flags []string
	for _, name := range []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"} {
		if b[13]&tcpFlags[name] != 0 {
			flags = append(flags, name)
		}
	}
	d.say("tcp %d > %d %s seq %d", uint16(h.SrcPort), uint16(h.DstPort), strings.Join(flags, "+"), h.Seq)
	if h.Ack != 0 {
		d.add(" acks %d", h.Ack)
	}
	for _, o := range h.Options {
		switch {
		case o.OptionType == layers.TCPOptionKindMSS && len(o.OptionData) == 2:
			d.add(" mss %d", binary.BigEndian.Uint16(o.OptionData))
		case o.OptionType != layers.TCPOptionKindNop && o.OptionType != layers.TCPOptionKindEndList:
			d.add(" option %d", o.OptionType)
		}
	}
	d.payload(h.Payload)
}

func (d *describer) udp(b []byte, quoted bool) {
	var h layers.UDP
	if len(b) < 8 || h.DecodeFromBytes(b, gopacket.NilDecodeFeedback) != nil && !quoted {
		d.say("WRONG: no UDP header")
		return
	}
	src, dst := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	d.say("udp %d > %d", src, dst)
	if binary.BigEndian.Uint16(b[6:]) == 0 {
		d.add(" no-checksum")
	}
	if dst == guePort && len(b) >= 12 {
		d.say("gue version %d protocol %d", b[8]>>6, b[9])
		d.tunnelled(b[9], b[12:], quoted)
		return
	}
	d.payload(b[8:])
}

// icmpNames are the types that have a name in the tables, by type and code.
var icmpNames = [2]map[[2]uint8]string{
	{{3, 4}: "frag-needed", {3, 3}: "port-unreachable", {3, 1}: "host-unreachable", {11, 0}: "time-exceeded", {8, 0}: "ping", {0, 0}: "pong"},
	{{2, 0}: "too-big", {1, 4}: "port-unreachable", {1, 3}: "host-unreachable", {3, 0}: "time-exceeded", {128, 0}: "ping", {129, 0}: "pong"},
}

func (d *describer) icmp4(b []byte) {
	var h layers.ICMPv4
	if !d.decode(&h, b) {
		return
	}
	typ, code := h.TypeCode.Type(), h.TypeCode.Code()
	d.icmp(icmpNames[0][[2]uint8{typ, code}], typ, code, b)
	if typ == 3 || typ == 11 || typ == 12 {
		d.quotes = !d.nested
		d.add(" about")
		d.ip4(b[8:], true)
		return
	}
	d.payload(b[8:])
}

func (d *describer) icmp6(b []byte) {
	var h layers.ICMPv6
	if !d.decode(&h, b) {
		return
	}
	typ, code := h.TypeCode.Type(), h.TypeCode.Code()
	if typ == 136 {
		d.advert(b)
		return
	}
	d.icmp(icmpNames[1][[2]uint8{typ, code}], typ, code, b)
	if typ < 128 {
		d.quotes = !d.nested
		d.add(" about")
		d.ip6(b[8:], true)
		return
	}
	d.payload(b[8:])
}

func (d *describer) icmp(name string, typ, code uint8, b []byte) {
	if name == "" {
		name = fmt.Sprintf("icmp %d %d", typ, code)
	}
	d.say("%s", name)
	switch name {
	case "ping", "pong":
		d.add(" id %d seq %d", binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]))
	case "frag-needed", "too-big":
		d.add(" mtu %d", binary.BigEndian.Uint32(b[4:]))
	}
}

func (d *describer) advert(b []byte) {
	var h layers.ICMPv6NeighborAdvertisement
	if !d.decode(&h, b[4:]) {
		return
	}
	d.say("advert %v", h.TargetAddress)
	for _, flag := range []struct {
		set  bool
		name string
	}{{h.Router(), "router"}, {h.Solicited(), "solicited"}, {h.Override(), "override"}} {
		if flag.set {
			d.add(" %s", flag.name)
		}
	}
	for _, o := range h.Options {
		if o.Type == layers.ICMPv6OptTargetAddress {
			d.add(" at %v", net.HardwareAddr(o.Data))
		}
	}
}

// payload says how long it is. The builder fills payloads with numbers that
// count up to 250; anything else is told by a sum.
func (d *describer) payload(b []byte) {
	d.say("len %d", len(b))
	if len(b) == 0 {
		return
	}
	want := make([]byte, len(b))
	for i := range want {
		want[i] = byte((int(b[0]) + i) % 251)
	}
	switch {
	case !bytes.Equal(b, want):
		d.add(" crc %08x", crc32.ChecksumIEEE(b))
	case b[0] != 0:
		d.add(" from %d", b[0])
	}
}
