package compile

import (
	"net/netip"
	"time"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
)

// IP protocol numbers (IANA).
const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// addr converts an address; the zero Addr stays zero.
func addr(a netip.Addr) packet.Addr {
	if !a.IsValid() {
		return packet.Addr{}
	}
	return packet.AddrFrom(a)
}

// milliseconds converts a duration that validation has bounded.
func milliseconds(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

func protocol(p model.Protocol) uint8 {
	switch p {
	case model.UDP:
		return protoUDP
	case model.SCTP:
		return protoSCTP
	}
	return protoTCP
}

func method(m model.Method) fib.Method {
	switch m {
	case model.IPIP:
		return fib.MethodIPIP
	case model.GUE:
		return fib.MethodGUE
	case model.L2:
		return fib.MethodL2
	}
	return fib.MethodNAT
}

func gone(p model.GonePolicy) fib.GonePolicy {
	switch p {
	case model.GoneRehash:
		return fib.GoneRehash
	case model.GoneDrop:
		return fib.GoneDrop
	}
	return fib.GoneReset
}

func timeouts(t model.Timeouts) fib.Timeouts {
	return fib.Timeouts{
		TCPSynSent:     milliseconds(t.TCPSynSent),
		TCPEstablished: milliseconds(t.TCPEstablished),
		TCPFinWait:     milliseconds(t.TCPFinWait),
		TCPClose:       milliseconds(t.TCPClose),
		UDP:            milliseconds(t.UDP),
		UDPStream:      milliseconds(t.UDPStream),
		SCTP:           milliseconds(t.SCTP),
		ICMP:           milliseconds(t.ICMP),
	}
}
