package rewrite

import (
	"encoding/binary"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// NATArgs are the ends a packet has after translation. All four are written, so
// what does not change is given as it is.
type NATArgs struct {
	Src, Dst         packet.Addr
	SrcPort, DstPort uint16
}

// NAT rewrites source and destination of a packet, in either direction of a
// flow: the addresses, and for TCP, UDP and SCTP the ports. A later fragment
// has no ports and only its addresses are rewritten; the checksum of its
// packet is in the first fragment and is updated there. Of ICMP and ICMPv6
// messages the addresses are rewritten; errors need ICMPToClient or
// ICMPToBackend instead.
//
// A UDP checksum of 0 stays 0, in IPv6 too, where tunnels send it (RFC 6935).
//
// Reasons: FamilyMismatch when an address is not of the packet's family,
// FragmentUnsupported when the ports of a fragmented SCTP packet would change
// (its CRC covers bytes that are not here), ProtocolUnsupported for any other
// transport protocol.
func NAT(frame []byte, info *packet.Info, to *NATArgs) reason.Reason {
	is4 := info.Kind == packet.KindIPv4
	if to.Src.Is4() != is4 || to.Dst.Is4() != is4 {
		return reason.FamilyMismatch
	}
	if laterFragment(info) {
		setAddrs(frame, info, to.Src, to.Dst)
		return reason.None
	}
	segment := frame[info.L4 : info.L3+info.IPLen]
	switch info.Proto {
	case packet.ProtoTCP:
		natTCP(segment, setAddrs(frame, info, to.Src, to.Dst), to)
	case packet.ProtoUDP:
		natUDP(segment, setAddrs(frame, info, to.Src, to.Dst), to)
	case packet.ProtoSCTP:
		h := packet.SCTP(segment)
		if info.Frag != 0 && (h.SrcPort() != to.SrcPort || h.DstPort() != to.DstPort) {
			return reason.FragmentUnsupported
		}
		setAddrs(frame, info, to.Src, to.Dst)
		natSCTP(segment, to)
	case packet.ProtoICMP:
		setAddrs(frame, info, to.Src, to.Dst)
	case packet.ProtoICMPv6:
		change := setAddrs(frame, info, to.Src, to.Dst)
		h := packet.ICMPv6(segment)
		h.SetChecksum(change.Apply(h.Checksum()))
	default:
		return reason.ProtocolUnsupported
	}
	return reason.None
}

// setAddrs writes the packet's addresses, of its own family, updates the IPv4
// header checksum, and returns the change for the transport checksum, whose
// pseudo-header has the addresses too.
func setAddrs(frame []byte, info *packet.Info, src, dst packet.Addr) packet.Delta {
	if info.Kind == packet.KindIPv4 {
		h := packet.IPv4(frame[info.L3:][:packet.IPv4MinLen])
		change := packet.Delta(0).
			Long(uint32(h.Src().Lo), uint32(src.Lo)).
			Long(uint32(h.Dst().Lo), uint32(dst.Lo))
		h.SetSrc(src)
		h.SetDst(dst)
		h.SetChecksum(change.Apply(h.Checksum()))
		return change
	}
	h := packet.IPv6(frame[info.L3:][:packet.IPv6Len])
	change := packet.Delta(0).Addr(h.Src(), src).Addr(h.Dst(), dst)
	h.SetSrc(src)
	h.SetDst(dst)
	return change
}

func natTCP(h packet.TCP, change packet.Delta, to *NATArgs) {
	h = h[:packet.TCPMinLen]
	change = change.Word(h.SrcPort(), to.SrcPort).Word(h.DstPort(), to.DstPort)
	h.SetSrcPort(to.SrcPort)
	h.SetDstPort(to.DstPort)
	h.SetChecksum(change.Apply(h.Checksum()))
}

func natUDP(h packet.UDP, change packet.Delta, to *NATArgs) {
	h = h[:packet.UDPLen]
	change = change.Word(h.SrcPort(), to.SrcPort).Word(h.DstPort(), to.DstPort)
	h.SetSrcPort(to.SrcPort)
	h.SetDstPort(to.DstPort)
	if old := h.Checksum(); old != 0 {
		h.SetChecksum(packet.UDPChecksum(change.Apply(old)))
	}
}

// natSCTP rewrites the ports of a whole SCTP packet and updates its CRC32c by
// the difference they make. A checksum of 0 that is not the packet's CRC says
// that there is none (RFC 9653) and stays.
func natSCTP(segment []byte, to *NATArgs) {
	h := packet.SCTP(segment)
	if h.SrcPort() == to.SrcPort && h.DstPort() == to.DstPort {
		return
	}
	none := h.Checksum() == 0 && packet.SCTPChecksum(segment) != 0
	if !none {
		h.SetChecksum(h.Checksum() ^ portsDifference(h, to, len(segment)))
	}
	h.SetSrcPort(to.SrcPort)
	h.SetDstPort(to.DstPort)
}

// portsDifference is by how much the CRC32c of an SCTP packet of n bytes will
// change with its ports.
func portsDifference(h packet.SCTP, to *NATArgs, n int) uint32 {
	var ports [4]byte
	binary.BigEndian.PutUint32(ports[:], uint32(to.SrcPort)<<16|uint32(to.DstPort))
	return crcDifference(binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(ports[:]), n)
}
