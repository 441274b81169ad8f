package rewrite

import (
	"encoding/binary"

	"fairlead/dataplane/packet"
)

// ClampMSS lowers the maximum segment size that a SYN or SYN-ACK announces to
// max, never raises it, updates the checksum, and reports whether it changed
// anything. A segment without the option is left alone, for its sender then
// gets 536 or 1220 byte segments (RFC 9293 section 3.7.1); so are fragments,
// an option of another length than 4, and what follows a malformed option.
func ClampMSS(frame []byte, info *packet.Info, max uint16) bool {
	if info.Proto != packet.ProtoTCP || info.Frag != 0 || info.TCPFlags&packet.TCPFlagSYN == 0 {
		return false
	}
	h := packet.TCP(frame[info.L4 : info.L3+info.IPLen])
	options := h.Options()
	var change packet.Delta
	for at := 0; ; {
		kind, value, next, ok, _ := options.Next(at)
		if !ok {
			break
		}
		at = next
		if kind != packet.TCPOptionMSS || len(value) != packet.TCPOptionMSSLen-2 {
			continue
		}
		mss := binary.BigEndian.Uint16(value)
		if mss <= max {
			continue
		}
		binary.BigEndian.PutUint16(value, max)
		// Options begin at an even offset of the segment, but NOPs may put the
		// value at an odd one.
		if (next-len(value))&1 == 0 {
			change = change.Word(mss, max)
		} else {
			change = change.OddWord(mss, max)
		}
	}
	if change == 0 {
		return false
	}
	h.SetChecksum(change.Apply(h.Checksum()))
	return true
}
