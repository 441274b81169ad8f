package packettest

import (
	"fmt"
	"net/netip"
)

// Option changes what a builder builds.
type Option func(*spec)

// spec is all that can be said of a frame.
type spec struct {
	src, dst       netip.Addr
	proto          uint8
	dstMAC, srcMAC [6]byte
	vlans          []vlanTag
	ttl, tos       uint8
	flowLabel      uint32
	id             uint32
	df             bool
	fragment       bool
	fragOffset     int
	fragMore       bool
	ipOptions      []byte
	extensions     []extension
	payload        []byte
	flags          uint8
	seq, ack       uint32
	window         uint16
	tcpOptions     []byte
	rest           uint32
	tag            uint32
	udpLen         int // -1: as it is
	quoteLen       int // -1: as much as allowed
	trailer        int
	noUDPChecksum  bool
	badIPChecksum  bool
	badChecksum    bool
}

type vlanTag struct{ tpid, tci uint16 }

// extension is one IPv6 extension header; the fragment header is the one with
// proto 44, and takes what it says from the spec.
type extension struct {
	proto uint8
	body  []byte // what follows the first two bytes
}

func newSpec(src, dst netip.Addr, proto uint8, opts []Option) *spec {
	if src.Is4() != dst.Is4() {
		panic(fmt.Sprintf("packettest: %v and %v are of different families", src, dst))
	}
	s := &spec{
		src: src, dst: dst, proto: proto,
		dstMAC: DefaultDstMAC, srcMAC: DefaultSrcMAC,
		ttl: 64, flags: flagSYN, seq: 1000, window: 65535, tag: 0x5c7b0001, udpLen: -1, quoteLen: -1,
	}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// Join makes one option of several.
func Join(opts ...Option) Option {
	return func(s *spec) {
		for _, opt := range opts {
			opt(s)
		}
	}
}

// MACs sets the link-layer addresses.
func MACs(dst, src [6]byte) Option { return func(s *spec) { s.dstMAC, s.srcMAC = dst, src } }

// VLAN adds tags with the given tag control information, outermost first: one
// tag is 802.1Q; of two, the outer is 802.1ad; of more, all but the last.
func VLAN(tcis ...uint16) Option {
	return func(s *spec) {
		for i, tci := range tcis {
			tpid := uint16(0x88a8)
			if i == len(tcis)-1 {
				tpid = 0x8100
			}
			s.vlans = append(s.vlans, vlanTag{tpid, tci})
		}
	}
}

// VLANTag adds one tag with the given tag protocol identifier.
func VLANTag(tpid, tci uint16) Option {
	return func(s *spec) { s.vlans = append(s.vlans, vlanTag{tpid, tci}) }
}

// TTL sets TTL or hop limit; 64 otherwise.
func TTL(v uint8) Option { return func(s *spec) { s.ttl = v } }

// TOS sets the TOS byte or the traffic class.
func TOS(v uint8) Option { return func(s *spec) { s.tos = v } }

// FlowLabel sets IPv6's flow label.
func FlowLabel(v uint32) Option { return func(s *spec) { s.flowLabel = v } }

// ID sets IPv4's identification or that of the IPv6 fragment header.
func ID(v uint32) Option { return func(s *spec) { s.id = v } }

// DF sets IPv4's don't-fragment flag.
func DF() Option { return func(s *spec) { s.df = true } }

// Fragment makes the packet a fragment whose payload lies at offset, in bytes
// and a multiple of 8, of the original payload. At offset 0 the transport
// header is built, with a checksum over what is there; otherwise the payload
// is all there is. In IPv6 the fragment header follows the extension headers
// of the options before this one. Offset 0 and no more to come makes an atomic
// fragment in IPv6 (RFC 6946) and nothing in IPv4. See Fragments for fragments
// that are right as a whole.
func Fragment(offset int, more bool, id uint32) Option {
	return func(s *spec) {
		s.fragment, s.fragOffset, s.fragMore, s.id = true, offset, more, id
		s.extensions = append(s.extensions, extension{proto: protoFragment})
	}
}

// IPOptions adds IPv4 options, which are padded with End to four bytes.
func IPOptions(b ...byte) Option { return func(s *spec) { s.ipOptions = pad(b, 4) } }

// Extension adds an IPv6 extension header: its type and what follows its first
// two bytes; together they are a multiple of 8 bytes (4 in an authentication
// header).
func Extension(proto uint8, body ...byte) Option {
	return func(s *spec) { s.extensions = append(s.extensions, extension{proto, body}) }
}

// HopByHop adds a hop-by-hop options header with padding alone, of 8 times
// units bytes.
func HopByHop(units int) Option { return Extension(protoHopByHop, padOptions(units)...) }

// DestOpts adds a destination options header with padding alone, of 8 times
// units bytes.
func DestOpts(units int) Option { return Extension(protoDestOpts, padOptions(units)...) }

// Routing adds a routing header that has been used up: segments left is 0.
func Routing() Option { return Extension(protoRouting, 253, 0, 0, 0, 0, 0) }

// AH adds an authentication header with an integrity check value of 12 bytes.
func AH() Option { return Extension(protoAH, make([]byte, 22)...) }

// padOptions is the body of an options header of 8*units bytes: PadN options.
func padOptions(units int) []byte {
	body := make([]byte, 8*units-2)
	for at := 0; at < len(body); {
		n := min(len(body)-at, 257)
		if n == len(body)-at-1 {
			n-- // leave room for a whole option behind this one
		}
		body[at], body[at+1] = 1, byte(n-2)
		at += n
	}
	return body
}

// Payload sets the bytes behind the transport header.
func Payload(b []byte) Option { return func(s *spec) { s.payload = b } }

// PayloadLen sets a payload of n bytes, all different within 251.
func PayloadLen(n int) Option {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return Payload(b)
}

// Flags sets the TCP flag byte.
func Flags(v uint8) Option { return func(s *spec) { s.flags = v } }

// Seq sets the TCP sequence number.
func Seq(v uint32) Option { return func(s *spec) { s.seq = v } }

// Ack sets the TCP acknowledgment number.
func Ack(v uint32) Option { return func(s *spec) { s.ack = v } }

// Window sets the TCP window.
func Window(v uint16) Option { return func(s *spec) { s.window = v } }

// TCPOptions sets the TCP options, which are padded with End to four bytes.
func TCPOptions(b ...byte) Option { return func(s *spec) { s.tcpOptions = pad(b, 4) } }

// MSS sets the TCP options to a maximum segment size.
func MSS(v uint16) Option { return TCPOptions(2, 4, byte(v>>8), byte(v)) }

// UDPLength writes another length than the right one into the UDP header.
func UDPLength(n int) Option { return func(s *spec) { s.udpLen = n } }

// NoUDPChecksum leaves the UDP checksum zero.
func NoUDPChecksum() Option { return func(s *spec) { s.noUDPChecksum = true } }

// Tag sets the SCTP verification tag.
func Tag(v uint32) Option { return func(s *spec) { s.tag = v } }

// Rest sets the second word of an ICMP message: identifier and sequence
// number, or the MTU.
func Rest(v uint32) Option { return func(s *spec) { s.rest = v } }

// QuoteLen limits what ICMPError quotes, IP header included.
func QuoteLen(n int) Option { return func(s *spec) { s.quoteLen = n } }

// Trailer adds n bytes behind the IP packet, as link-layer padding does.
func Trailer(n int) Option { return func(s *spec) { s.trailer = n } }

// BadIPChecksum makes the IPv4 header checksum wrong.
func BadIPChecksum() Option { return func(s *spec) { s.badIPChecksum = true } }

// BadChecksum makes the transport checksum wrong.
func BadChecksum() Option { return func(s *spec) { s.badChecksum = true } }

func pad(b []byte, unit int) []byte {
	out := append([]byte(nil), b...)
	for len(out)%unit != 0 {
		out = append(out, 0)
	}
	return out
}
