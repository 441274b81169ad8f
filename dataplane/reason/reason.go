// Package reason names every way a packet's journey through the data path can
// end. The names are stable: metrics, logs, flow records, `replay` and
// `explain` all print them, and operators build alerts on them.
package reason

import "fmt"

// Action is what happens to a frame.
type Action uint8

const (
	// Drop frees the frame; the Reason says why.
	Drop Action = iota
	// Pass leaves the frame to the host's network stack.
	Pass
	// Transmit sends the frame, rewritten, out of an interface.
	Transmit
)

// String gives the action's stable name: drop, pass or transmit.
func (a Action) String() string {
	switch a {
	case Drop:
		return "drop"
	case Pass:
		return "pass"
	case Transmit:
		return "transmit"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Reason is why a frame was dropped, passed or transmitted. The zero value is
// None and never ends a packet's journey: a ledger that counts it has a bug.
// The order is not stable, the names are.
type Reason uint8

// Reasons to transmit.
const (
	None Reason = iota

	ForwardNew       // first packet of a new flow, recorded in the flow table
	ForwardFlow      // packet of a known flow, client to backend
	ForwardStateless // sent by Maglev alone: the flow table had no room, or the packet has no flow
	ReplyFlow        // packet of a known NAT flow, backend to client
	FragmentForward  // later fragment, sent where its first fragment went
	ICMPErrorForward // ICMP error about a known flow, sent to whom it concerns
	EchoReply        // ping to a VIP, answered
	ARPReply         // ARP request for an address of ours, answered
	NeighborAdvert   // neighbour solicitation for an address of ours, answered
	TooBigReply      // packet exceeds the next hop's MTU; frag-needed or packet-too-big answered
	TTLExpiredReply  // TTL or hop limit ran out; time-exceeded answered
	ResetReply       // TCP RST answered: the flow's backend is gone
	RefusedReply     // no backend takes new flows: RST or port-unreachable answered

	transmitEnd // not a reason: where the reasons to pass begin
)

// Reasons to pass to the host.
const (
	PassNotOurs    Reason = iota + transmitEnd // neither a VIP nor a SNAT address
	PassNonIP                                  // EtherType other than IP and ARP
	PassARP                                    // ARP that asks for no address of ours
	PassNeighbor                               // neighbour discovery that asks for no address of ours
	PassFailAction                             // VIP with fail action pass, decided by the XDP program

	passEnd // not a reason: where the reasons to drop begin
)

// Reasons to drop.
const (
	FrameTooShort          Reason = iota + passEnd // shorter than an Ethernet header and what it announces
	VLANTooDeep                                    // more than two VLAN tags
	ARPMalformed                                   // ARP with wrong lengths or types
	IPv4HeaderMalformed                            // version, IHL or total length impossible
	IPv4ChecksumWrong                              // header checksum does not verify
	IPv6HeaderMalformed                            // version or payload length impossible
	IPv6ExtensionLimit                             // too many or too long extension headers
	IPv6ExtensionMalformed                         // extension header runs past the packet
	FragmentMalformed                              // offset and length impossible (RFC 791, RFC 8200), or a tiny first fragment (RFC 1858)
	SourceInvalid                                  // source address is multicast, unspecified, loopback, or broadcast
	TCPHeaderMalformed                             // data offset impossible, or header cut short
	TCPFlagsInvalid                                // SYN with FIN or RST, or no flag at all
	UDPHeaderMalformed                             // length impossible, or header cut short
	SCTPHeaderMalformed                            // header cut short
	ICMPMalformed                                  // header cut short, or the quoted packet cannot be read
	ICMPChecksumWrong                              // checksum does not verify
	ICMPUnsupported                                // an ICMP type this node neither answers nor forwards
	ProtocolUnsupported                            // transport protocol that no service can match
	ServiceNotFound                                // a VIP of ours, but no service on that port and protocol
	ServiceEmpty                                   // the service's pool has no backend that may be chosen
	BackendGone                                    // the flow's backend is dead or removed, and the service says drop
	FlowNotFound                                   // packet to a SNAT address that belongs to no flow
	ICMPFlowNotFound                               // ICMP error that quotes no known flow
	TCPNotSYN                                      // first packet of a NAT flow that is no SYN: there is no binding to follow
	FlowTableFull                                  // no entry could be freed, and the method cannot go without one
	SNATExhausted                                  // every SNAT address and port towards this backend is in use
	NextHopUnresolved                              // no MAC address known for the backend's next hop
	SourceNotAllowed                               // the client's address is outside the service's source ranges
	LinkBroadcast                                  // sent to a group at the link layer, and so not to us alone (RFC 1812 section 5.3.4)
	TTLExpired                                     // TTL or hop limit ran out and the answer was rate-limited or not allowed
	TooBig                                         // exceeds the next hop's MTU and no answer was due or allowed
	ReplyRateLimited                               // an answer of ours was due, but its budget is spent
	FragmentTimeout                                // held fragment whose first fragment never came
	FragmentLimit                                  // no room to hold another fragment
	FragmentUnsupported                            // fragment of a kind that cannot be rewritten
	Oversize                                       // frame longer than one buffer (multi-buffer)
	FamilyMismatch                                 // the method cannot carry this family to this backend
	StaleSteering                                  // redirected to us, but no longer an address of ours
	TransmitRingFull                               // the TX ring took no more after bounded kicks
	TransmitDown                                   // the interface to send on is gone or down
	HeadroomExhausted                              // no room before the packet for the outer headers
	RestartLost                                    // owned by a data process that died before it sent it

	end // not a reason
)

// Count is the number of reasons, None included; counters indexed by Reason
// have this length.
const Count = int(end)

// Action says which action a reason ends in.
func (r Reason) Action() Action {
	switch {
	case r > None && r < transmitEnd:
		return Transmit
	case r >= transmitEnd && r < passEnd:
		return Pass
	}
	return Drop
}

// Valid reports whether r is a reason a journey may end with.
func (r Reason) Valid() bool { return r > None && r < end }

// All lists every valid reason in order.
func All() []Reason {
	all := make([]Reason, 0, Count)
	for r := None; r < end; r++ {
		if r.Valid() {
			all = append(all, r)
		}
	}
	return all
}
