package packet_test

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// The oracle is a second parser, written from the RFCs and from what Parse
// promises, and sharing nothing with it: fields are cut out bit by bit at the
// positions that the RFC figures give, sums are added word by word, and
// numbers are the standards'. It is slow and keeps to one rule after another.

// bits is the number of width bits that begins at bit from of b.
func bits(b []byte, from, width int) uint64 {
	var v uint64
	for i := from; i < from+width; i++ {
		v = v<<1 | uint64(b[i/8]>>(7-i%8)&1)
	}
	return v
}

// onesSum adds the 16-bit words of the parts, each padded to whole words.
func onesSum(parts ...[]byte) uint16 {
	var sum uint64
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			sum += uint64(b[i]) << 8
			if i+1 < len(b) {
				sum += uint64(b[i+1])
			}
		}
	}
	for sum > 0xffff {
		sum = sum%0x10000 + sum/0x10000
	}
	return uint16(sum)
}

func addr4(b []byte) packet.Addr {
	return packet.Addr{Lo: 0xffff00000000 + bits(b, 0, 32)}
}

func addr16(b []byte) packet.Addr {
	return packet.Addr{Hi: bits(b, 0, 64), Lo: bits(b, 64, 64)}
}

func isMapped(b []byte) bool {
	for i := 0; i < 10; i++ {
		if b[i] != 0 {
			return false
		}
	}
	return b[10] == 0xff && b[11] == 0xff
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// oracleParse is what Parse should say of a frame.
func oracleParse(frame []byte) (packet.Info, reason.Reason) {
	var o oracle
	r := o.parse(frame)
	return o.info, r
}

type oracle struct {
	info   packet.Info
	frame  []byte
	packet []byte // the IP packet, exactly
	is6    bool
}

func (o *oracle) parse(frame []byte) reason.Reason {
	o.frame = frame
	if len(frame) < 14 {
		return reason.FrameTooShort
	}
	if len(frame) > 65535 {
		return reason.Oversize
	}
	at := 12
	tags := 0
	for {
		t := bits(frame[at:], 0, 16)
		if t != 0x8100 && t != 0x88a8 && t != 0x9100 {
			break
		}
		tags++
		if tags == 3 {
			return reason.VLANTooDeep
		}
		at += 4
		if at+2 > len(frame) {
			return reason.FrameTooShort
		}
		o.info.VLANs = uint8(tags)
	}
	l3 := at + 2
	o.info.L3 = uint16(l3)
	rest := frame[l3:]
	switch bits(frame[at:], 0, 16) {
	case 0x0806:
		o.info.Kind = packet.KindARP
		return o.arp(rest)
	case 0x0800:
		o.info.Kind = packet.KindIPv4
		return o.ipv4(rest)
	case 0x86dd:
		o.info.Kind = packet.KindIPv6
		o.is6 = true
		return o.ipv6(rest)
	}
	return reason.None
}

func (o *oracle) arp(b []byte) reason.Reason {
	if len(b) < 28 {
		return reason.FrameTooShort
	}
	if bits(b, 0, 48) != 0x000108000604 {
		return reason.ARPMalformed
	}
	op := bits(b, 48, 16)
	if op < 1 || op > 2 {
		return reason.ARPMalformed
	}
	o.info.ARPOp = uint16(op)
	o.info.Src, o.info.Dst = addr4(b[14:]), addr4(b[24:])
	return reason.None
}

func (o *oracle) ipv4(b []byte) reason.Reason {
	if len(b) < 20 {
		return reason.FrameTooShort
	}
	header, total := int(bits(b, 4, 4))*4, int(bits(b, 16, 16))
	if bits(b, 0, 4) != 4 || header < 20 || total < header || total > len(b) {
		return reason.IPv4HeaderMalformed
	}
	o.packet = b[:total]
	if onesSum(b[:header]) != 0xffff {
		return reason.IPv4ChecksumWrong
	}
	options := b[20:header]
	for len(options) > 0 && options[0] != 0 {
		skip := 1
		if options[0] != 1 {
			if len(options) == 1 || options[1] < 2 {
				return reason.IPv4HeaderMalformed
			}
			skip = int(options[1])
		}
		if skip > len(options) {
			return reason.IPv4HeaderMalformed
		}
		options = options[skip:]
	}
	o.info.TOS, o.info.TTL, o.info.Proto = b[1], b[8], b[9]
	o.info.Src, o.info.Dst = addr4(b[12:]), addr4(b[16:])
	o.info.IPLen, o.info.L3Len = uint16(total), uint16(header)
	o.info.L4 = o.info.L3 + uint16(header)
	s := b[12:16]
	if allZero(s) || s[0] == 127 || s[0] >= 224 && s[0] <= 239 || bits(s, 0, 32) == 0xffffffff {
		return reason.SourceInvalid
	}
	o.info.DontFragment = bits(b, 49, 1) == 1
	more, offset := bits(b, 50, 1) == 1, int(bits(b, 51, 13))*8
	if more || offset > 0 {
		o.info.FragID = uint32(bits(b, 32, 16))
		if r := o.fragment(offset, more, header, total-header); r != reason.None {
			return r
		}
	}
	return o.transport(b[header:total])
}

func (o *oracle) fragment(offset int, more bool, before, length int) reason.Reason {
	o.info.FragOffset = uint16(offset)
	o.info.Frag = packet.FragAny
	if offset == 0 {
		o.info.Frag += packet.FragFirst
	}
	if more {
		o.info.Frag += packet.FragMore
	}
	if length == 0 || more && length%8 != 0 || before+offset+length > 65535 {
		return reason.FragmentMalformed
	}
	return reason.None
}

func (o *oracle) ipv6(b []byte) reason.Reason {
	if len(b) < 40 {
		return reason.FrameTooShort
	}
	payload, next := int(bits(b, 32, 16)), b[6]
	if bits(b, 0, 4) != 6 || 40+payload > len(b) || payload == 0 && next == 0 {
		return reason.IPv6HeaderMalformed
	}
	o.packet = b[:40+payload]
	o.info.Src, o.info.Dst = addr16(b[8:]), addr16(b[24:])
	o.info.TOS, o.info.TTL, o.info.Proto = uint8(bits(b, 4, 8)), b[7], next
	o.info.DontFragment = true
	o.info.IPLen = uint16(40 + payload)
	if isMapped(b[24:40]) {
		return reason.IPv6HeaderMalformed
	}
	src := b[8:24]
	if isMapped(src) || src[0] == 0xff || allZero(src[:15]) && src[15] == 1 {
		return reason.SourceInvalid
	}
	chain := oracleChain(b[40:40+payload], next)
	if chain.fault != reason.None {
		return chain.fault
	}
	if chain.routed {
		return reason.IPv6ExtensionMalformed
	}
	o.info.Proto = chain.next
	if chain.fragAt >= 0 {
		f := b[40+chain.fragAt:]
		o.info.FragHeader = o.info.L3 + 40 + uint16(chain.fragAt)
		o.info.FragID = uint32(bits(f, 32, 32))
		offset, more := int(bits(f, 16, 13))*8, bits(f, 31, 1) == 1
		if offset != 0 || more {
			if r := o.fragment(offset, more, chain.fragAt, payload-chain.fragAt-8); r != reason.None {
				return r
			}
		}
	}
	o.info.L3Len = uint16(40 + chain.length)
	o.info.L4 = o.info.L3 + o.info.L3Len
	rest := b[40+chain.length : 40+payload]
	if allZero(src) {
		solicited := bits(b[24:], 0, 64) == 0xff02000000000000 && bits(b[32:], 0, 40) == 0x00000001ff
		if !solicited || o.info.Frag != 0 || chain.next != 58 || len(rest) == 0 || rest[0] != 135 {
			return reason.SourceInvalid
		}
	}
	return o.transport(rest)
}

// oracleHeaders is what oracleChain found: fragAt is the offset of the
// fragment header from the first extension header, -1 if there is none.
type oracleHeaders struct {
	next    byte
	length  int
	fragAt  int
	stopped bool // at a later fragment
	routed  bool
	fault   reason.Reason
}

// oracleChain walks extension headers of which b holds all there is.
func oracleChain(b []byte, next byte) oracleHeaders {
	c := oracleHeaders{next: next, fragAt: -1}
	for n := 1; !c.stopped; n++ {
		known := c.next == 0 || c.next == 43 || c.next == 44 || c.next == 51 || c.next == 60
		if !known {
			return c
		}
		if n > 8 {
			c.fault = reason.IPv6ExtensionLimit
			return c
		}
		h := b[c.length:]
		if len(h) < 8 || c.next == 0 && n > 1 || c.next == 44 && c.fragAt >= 0 {
			c.fault = reason.IPv6ExtensionMalformed
			return c
		}
		size := 8 + 8*int(h[1])
		switch c.next {
		case 51:
			size = 8 + 4*int(h[1])
			if size < 12 {
				c.fault = reason.IPv6ExtensionMalformed
				return c
			}
		case 44:
			size = 8
			c.fragAt = c.length
			c.stopped = bits(h, 16, 13) != 0
		case 43:
			c.routed = c.routed || h[3] > 0
		}
		if size > len(h) {
			c.fault = reason.IPv6ExtensionMalformed
			return c
		}
		c.next = h[0]
		c.length += size
		if c.length > 512 {
			c.fault = reason.IPv6ExtensionLimit
			return c
		}
	}
	return c
}

func (o *oracle) transport(b []byte) reason.Reason {
	whole := o.info.Frag == 0
	if !whole && o.info.FragOffset > 0 {
		if o.info.Proto == 6 && o.info.FragOffset == 8 {
			return reason.FragmentMalformed
		}
		return reason.None
	}
	short := func(need int, r reason.Reason) reason.Reason {
		switch {
		case len(b) >= need:
			return reason.None
		case whole:
			return r
		}
		return reason.FragmentMalformed
	}
	switch o.info.Proto {
	case 6:
		if r := short(20, reason.TCPHeaderMalformed); r != reason.None {
			return r
		}
		o.ports(b)
		o.info.TCPFlags = b[13]
		header := int(bits(b, 96, 4)) * 4
		if header < 20 || whole && header > len(b) {
			return reason.TCPHeaderMalformed
		}
		urg, ack, psh, rst, syn, fin := bits(b, 106, 1), bits(b, 107, 1), bits(b, 108, 1), bits(b, 109, 1), bits(b, 110, 1), bits(b, 111, 1)
		if urg+ack+psh+rst+syn+fin == 0 || syn == 1 && rst+fin > 0 {
			return reason.TCPFlagsInvalid
		}
	case 17:
		if r := short(8, reason.UDPHeaderMalformed); r != reason.None {
			return r
		}
		o.ports(b)
		length := int(bits(b, 32, 16))
		if length < 8 || whole && length > len(b) {
			return reason.UDPHeaderMalformed
		}
	case 132:
		if r := short(12, reason.SCTPHeaderMalformed); r != reason.None {
			return r
		}
		o.ports(b)
	case 1, 58:
		if o.is6 != (o.info.Proto == 58) {
			return reason.ProtocolUnsupported
		}
		if r := short(8, reason.ICMPMalformed); r != reason.None {
			return r
		}
		return o.icmp(b, whole)
	}
	return reason.None
}

func (o *oracle) ports(b []byte) {
	o.info.SrcPort, o.info.DstPort = uint16(bits(b, 0, 16)), uint16(bits(b, 16, 16))
}

func (o *oracle) icmp(b []byte, whole bool) reason.Reason {
	typ, code := b[0], b[1]
	o.info.ICMPType, o.info.ICMPCode = typ, code
	if whole {
		sum := onesSum(b)
		if o.is6 {
			n := len(b)
			sum = onesSum(o.packet[8:40], []byte{0, 0, byte(n >> 8), byte(n), 0, 0, 0, 58}, b)
		}
		if sum != 0xffff {
			return reason.ICMPChecksumWrong
		}
	}
	isEcho, isError := typ == 0 || typ == 8, typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
	if o.is6 {
		isEcho, isError = typ == 128 || typ == 129, typ >= 1 && typ <= 4
	}
	if isEcho {
		id := uint16(bits(b, 32, 16))
		o.info.SrcPort, o.info.DstPort = id, id
	}
	if isError {
		return o.quote(b[8:])
	}
	if o.is6 && typ == 135 {
		return o.solicitation(b, code)
	}
	return reason.None
}

func (o *oracle) solicitation(b []byte, code byte) reason.Reason {
	if code != 0 || o.info.TTL != 255 || o.info.FragHeader != 0 || len(b) < 24 {
		return reason.ICMPMalformed
	}
	target := b[8:24]
	if target[0] == 0xff || allZero(target) || isMapped(target) {
		return reason.ICMPMalformed
	}
	hasSource := false
	options := b[24:]
	for len(options) > 0 {
		if len(options) < 8 || options[1] == 0 || int(options[1])*8 > len(options) {
			return reason.ICMPMalformed
		}
		hasSource = hasSource || options[0] == 1
		options = options[int(options[1])*8:]
	}
	if hasSource && allZero(o.packet[8:24]) {
		return reason.ICMPMalformed
	}
	return reason.None
}

func (o *oracle) quote(q []byte) reason.Reason {
	end := int(o.info.L3) + len(o.packet)
	start := end - len(q)
	inner := &o.info.Inner
	var transport []byte
	if o.is6 {
		if len(q) < 40 || q[0]>>4 != 6 || isMapped(q[8:24]) || isMapped(q[24:40]) {
			return reason.ICMPMalformed
		}
		chain := oracleChain(q[40:], q[6])
		if chain.fault != reason.None {
			return reason.ICMPMalformed
		}
		inner.Src, inner.Dst = addr16(q[8:]), addr16(q[24:])
		inner.Proto, inner.Fragment = chain.next, chain.stopped
		transport = q[40+chain.length:]
	} else {
		if len(q) < 20 || q[0]>>4 != 4 || q[0]&15 < 5 || int(q[0]&15)*4 > len(q) {
			return reason.ICMPMalformed
		}
		inner.Src, inner.Dst = addr4(q[12:]), addr4(q[16:])
		inner.Proto, inner.Fragment = q[9], bits(q, 51, 13) != 0
		transport = q[int(q[0]&15)*4:]
	}
	inner.L3, inner.End = uint16(start), uint16(end)
	inner.L4 = uint16(end - len(transport))
	if inner.Fragment {
		return reason.None
	}
	echoes, known := []byte{0, 8}, []byte{6, 17, 132, 1}
	if o.is6 {
		echoes, known = []byte{128, 129}, []byte{6, 17, 132, 58}
	}
	for i, proto := range known {
		if proto != inner.Proto {
			continue
		}
		if len(transport) < 8 {
			return reason.ICMPMalformed
		}
		if i < 3 {
			inner.SrcPort, inner.DstPort = uint16(bits(transport, 0, 16)), uint16(bits(transport, 16, 16))
		} else if transport[0] == echoes[0] || transport[0] == echoes[1] {
			inner.SrcPort = uint16(bits(transport, 32, 16))
			inner.DstPort = inner.SrcPort
		}
	}
	return reason.None
}

// repairChecksums makes the checksums that Parse verifies right, as far as the
// frame can be read, so that mutated frames get past them.
func repairChecksums(frame []byte) {
	var o oracle
	o.parse(frame)
	if o.packet == nil {
		return
	}
	put := func(b []byte, at int, parts ...[]byte) {
		b[at], b[at+1] = 0, 0
		sum := ^onesSum(append(parts, b)...)
		b[at], b[at+1] = byte(sum>>8), byte(sum)
	}
	if !o.is6 {
		put(o.packet[:int(o.packet[0]&15)*4], 10)
	}
	var again oracle
	again.parse(frame)
	if again.info.L4 == 0 || again.info.Frag != 0 {
		return
	}
	b := again.packet[again.info.L3Len:]
	if len(b) < 8 {
		return
	}
	switch {
	case !again.is6 && again.info.Proto == 1:
		put(b, 2)
	case again.is6 && again.info.Proto == 58:
		n := len(b)
		put(b, 2, again.packet[8:40], []byte{0, 0, byte(n >> 8), byte(n), 0, 0, 0, 58})
	}
}
