package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// Reset turns a TCP segment into the reset that answers it where no connection
// exists (RFC 9293 section 3.10.7.1), in place, without its options and
// payload: with the sequence number that the segment acknowledges, or if it
// acknowledges nothing, with sequence number 0 and an acknowledgment of all of
// it. The caller has asked MayReset.
//
// Reasons: ProtocolUnsupported when it is no TCP segment, TCPFlagsInvalid when
// it is a reset itself, FragmentUnsupported when it is not whole.
func Reset(b *Buf, info *packet.Info) reason.Reason {
	switch {
	case info.Proto != packet.ProtoTCP:
		return reason.ProtocolUnsupported
	case info.Frag != 0:
		return reason.FragmentUnsupported
	case info.TCPFlags&packet.TCPFlagRST != 0:
		return reason.TCPFlagsInvalid
	}
	is4 := info.Kind == packet.KindIPv4
	received := packet.TCP(b.Frame()[info.L4:])
	seq, ack, flags := uint32(0), received.Seq()+segmentLen(received, info), uint8(packet.TCPFlagRST|packet.TCPFlagACK)
	if info.TCPFlags&packet.TCPFlagACK != 0 {
		seq, ack, flags = received.Ack(), 0, packet.TCPFlagRST
	}

	b.End = b.Start + int(info.L3) + ipHeaderLen(is4) + packet.TCPMinLen
	frame := b.Frame()
	swapMACs(frame)
	tos := packet.WithECN(info.TOS, packet.ECNNotECT)
	if is4 {
		putIPv4(frame[info.L3:], &ipv4Fields{src: info.Dst, dst: info.Src, length: packet.IPv4MinLen + packet.TCPMinLen,
			flags: packet.IPv4FlagDF, tos: tos, ttl: replyTTL, proto: packet.ProtoTCP})
	} else {
		putIPv6(frame[info.L3:], &ipv6Fields{src: info.Dst, dst: info.Src, payload: packet.TCPMinLen,
			trafficClass: tos, hopLimit: replyTTL, next: packet.ProtoTCP})
	}
	h := packet.TCP(frame[int(info.L3)+ipHeaderLen(is4):])
	h.SetSrcPort(info.DstPort)
	h.SetDstPort(info.SrcPort)
	h.SetSeq(seq)
	h.SetAck(ack)
	h.SetHeaderLen(packet.TCPMinLen)
	h.SetFlags(flags)
	h.SetWindow(0)
	h.SetChecksum(0)
	h.SetUrgent(0)
	pseudo := packet.PseudoSum(info.Dst, info.Src, packet.ProtoTCP, packet.TCPMinLen)
	h.SetChecksum(packet.Finish(packet.Sum(h, pseudo)))
	return reason.None
}

// segmentLen is how much sequence space a segment takes: its payload, and one
// each for SYN and FIN (SEG.LEN in RFC 9293 section 3.4).
func segmentLen(h packet.TCP, info *packet.Info) uint32 {
	n := uint32(int(info.IPLen) - int(info.L3Len) - h.HeaderLen())
	if info.TCPFlags&packet.TCPFlagSYN != 0 {
		n++
	}
	if info.TCPFlags&packet.TCPFlagFIN != 0 {
		n++
	}
	return n
}
