package reason

// names are the stable names, the ones that metrics, logs and `explain` print.
var names = [Count]string{
	None:                   "none",
	ForwardNew:             "forward_new",
	ForwardFlow:            "forward_flow",
	ForwardStateless:       "forward_stateless",
	ReplyFlow:              "reply_flow",
	FragmentForward:        "fragment_forward",
	ICMPErrorForward:       "icmp_error_forward",
	EchoReply:              "echo_reply",
	ARPReply:               "arp_reply",
	NeighborAdvert:         "neighbor_advert",
	TooBigReply:            "too_big_reply",
	TTLExpiredReply:        "ttl_expired_reply",
	ResetReply:             "reset_reply",
	RefusedReply:           "refused_reply",
	PassNotOurs:            "pass_not_ours",
	PassNonIP:              "pass_non_ip",
	PassARP:                "pass_arp",
	PassNeighbor:           "pass_neighbor",
	PassFailAction:         "pass_fail_action",
	FrameTooShort:          "frame_too_short",
	VLANTooDeep:            "vlan_too_deep",
	ARPMalformed:           "arp_malformed",
	IPv4HeaderMalformed:    "ipv4_header_malformed",
	IPv4ChecksumWrong:      "ipv4_checksum_wrong",
	IPv6HeaderMalformed:    "ipv6_header_malformed",
	IPv6ExtensionLimit:     "ipv6_extension_limit",
	IPv6ExtensionMalformed: "ipv6_extension_malformed",
	FragmentMalformed:      "fragment_malformed",
	SourceInvalid:          "source_invalid",
	TCPHeaderMalformed:     "tcp_header_malformed",
	TCPFlagsInvalid:        "tcp_flags_invalid",
	UDPHeaderMalformed:     "udp_header_malformed",
	SCTPHeaderMalformed:    "sctp_header_malformed",
	ICMPMalformed:          "icmp_malformed",
	ICMPChecksumWrong:      "icmp_checksum_wrong",
	ICMPUnsupported:        "icmp_unsupported",
	ProtocolUnsupported:    "protocol_unsupported",
	ServiceNotFound:        "service_not_found",
	ServiceEmpty:           "service_empty",
	BackendGone:            "backend_gone",
	FlowNotFound:           "flow_not_found",
	ICMPFlowNotFound:       "icmp_flow_not_found",
	TCPNotSYN:              "tcp_not_syn",
	FlowTableFull:          "flow_table_full",
	SNATExhausted:          "snat_exhausted",
	NextHopUnresolved:      "next_hop_unresolved",
	SourceNotAllowed:       "source_not_allowed",
	LinkBroadcast:          "link_broadcast",
	TTLExpired:             "ttl_expired",
	TooBig:                 "too_big",
	ReplyRateLimited:       "reply_rate_limited",
	FragmentTimeout:        "fragment_timeout",
	FragmentLimit:          "fragment_limit",
	FragmentUnsupported:    "fragment_unsupported",
	Oversize:               "oversize",
	FamilyMismatch:         "family_mismatch",
	StaleSteering:          "stale_steering",
	TransmitRingFull:       "transmit_ring_full",
	TransmitDown:           "transmit_down",
	HeadroomExhausted:      "headroom_exhausted",
	RestartLost:            "restart_lost",
}

// String gives the stable snake_case name.
func (r Reason) String() string {
	if r < end {
		return names[r]
	}
	return "unknown"
}

// Parse finds the reason with the given stable name.
func Parse(name string) (Reason, bool) {
	for r, n := range names {
		if n == name && Reason(r).Valid() {
			return Reason(r), true
		}
	}
	return None, false
}
