package packet

// IP protocol numbers and IPv6 next-header values (IANA protocol numbers).
const (
	ProtoHopByHop = 0 // IPv6 hop-by-hop options
	ProtoICMP     = 1
	ProtoIPIP     = 4 // IPv4 in IP
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoIPv6     = 41 // IPv6 in IP
	ProtoRouting  = 43 // IPv6 routing header
	ProtoFragment = 44 // IPv6 fragment header
	ProtoESP      = 50
	ProtoAH       = 51 // authentication header
	ProtoICMPv6   = 58
	ProtoNoNext   = 59 // IPv6: nothing follows
	ProtoDestOpts = 60 // IPv6 destination options
	ProtoSCTP     = 132
)
