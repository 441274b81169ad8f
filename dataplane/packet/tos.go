package packet

// ECN codepoints: the low two bits of the TOS byte and of the traffic class
// (RFC 3168 section 5).
const (
	ECNMask   = 0x03
	ECNNotECT = 0x00 // not ECN-capable
	ECNECT1   = 0x01 // ECN-capable
	ECNECT0   = 0x02 // ECN-capable
	ECNCE     = 0x03 // congestion experienced
)

// ECN is the ECN codepoint of a TOS byte or traffic class.
func ECN(tos uint8) uint8 { return tos & ECNMask }

// DSCP is the differentiated services codepoint of a TOS byte or traffic
// class, 0 to 63 (RFC 2474).
func DSCP(tos uint8) uint8 { return tos >> 2 }

// WithECN is tos with another ECN codepoint.
func WithECN(tos, ecn uint8) uint8 { return tos&^uint8(ECNMask) | ecn&ECNMask }
