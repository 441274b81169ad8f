package packet

// Peek reads the addresses of the IP packet in a frame that may be cut short,
// malformed or longer than it says. It is for looking at packets, not for
// deciding upon them: see Parse.
func Peek(frame []byte) (src, dst Addr, ok bool) {
	at, etherType := EthernetLen, uint16(0)
	if len(frame) < at {
		return src, dst, false
	}
	for etherType = Ethernet(frame).EtherType(); IsVLAN(etherType) && len(frame) >= at+VLANLen; at += VLANLen {
		etherType = VLAN(frame[at:]).EtherType()
	}
	l3 := frame[at:]
	switch {
	case etherType == EtherTypeIPv4 && len(l3) >= IPv4MinLen:
		return IPv4(l3).Src(), IPv4(l3).Dst(), true
	case etherType == EtherTypeIPv6 && len(l3) >= IPv6Len:
		return IPv6(l3).Src(), IPv6(l3).Dst(), true
	}
	return src, dst, false
}
