package packet

import "encoding/binary"

// TCP option kinds (RFC 9293 section 3.2) and the length of the MSS option.
const (
	TCPOptionEnd    = 0
	TCPOptionNop    = 1
	TCPOptionMSS    = 2
	TCPOptionMSSLen = 4
)

// Options are the bytes between the fixed header and HeaderLen.
func (h TCP) Options() TCPOptions { return TCPOptions(h[TCPMinLen:h.HeaderLen()]) }

// TCPOptions is the list of options of a TCP header. Each is a kind byte, and
// except for End and Nop a length byte, which counts both, and a value.
type TCPOptions []byte

// Next gives the option that begins at offset at, and the offset behind it,
// for as long as ok. It skips Nop, stops at End and at the list's end, and
// stops too, with malformed true, at a length that is below 2 or runs past
// the list. The value aliases the list.
func (o TCPOptions) Next(at int) (kind uint8, value []byte, next int, ok, malformed bool) {
	for at < len(o) {
		kind = o[at]
		if kind == TCPOptionEnd {
			return 0, nil, at, false, false
		}
		if kind == TCPOptionNop {
			at++
			continue
		}
		if at+1 >= len(o) {
			return 0, nil, at, false, true
		}
		length := int(o[at+1])
		if length < 2 || at+length > len(o) {
			return 0, nil, at, false, true
		}
		return kind, o[at+2 : at+length], at + length, true, false
	}
	return 0, nil, at, false, false
}

// MSS finds the maximum segment size option (kind 2): the offset of its value
// in the list, which may be odd, and the value. ok is false if there is no
// such option or if an option before it is malformed.
func (o TCPOptions) MSS() (offset int, mss uint16, ok bool) {
	for at := 0; ; {
		kind, value, next, more, _ := o.Next(at)
		if !more {
			return 0, 0, false
		}
		if kind == TCPOptionMSS {
			if len(value) != TCPOptionMSSLen-2 {
				return 0, 0, false
			}
			return next - len(value), binary.BigEndian.Uint16(value), true
		}
		at = next
	}
}
