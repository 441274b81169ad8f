package rewrite

import (
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// IPIP wraps the packet in an outer IP header of either family: 4in4 (RFC
// 2003), 6in4 (RFC 4213), 4in6 and 6in6 (RFC 2473).
//
// Reasons: FamilyMismatch when the outer addresses are of two families,
// HeadroomExhausted when the header does not fit before the packet, TooBig
// when the length of the result cannot be expressed.
func IPIP(b *Buf, info *packet.Info, outer *OuterArgs) reason.Reason {
	_, r := b.pushOuter(info, outer, 0, innerProto(info))
	return r
}
