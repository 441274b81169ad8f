package packet

import "fairlead/dataplane/reason"

// extensionChain is what a walk over IPv6 extension headers found.
type extensionChain struct {
	proto        uint8 // what follows the last header walked
	l4           int   // offset of what follows
	fragment     int   // offset of the fragment header, 0 if there is none
	later        bool  // the fragment's offset is not zero: the walk stopped there
	segmentsLeft bool  // a routing header has not been used up
}

// authenticationMinLen is the fixed part of an authentication header (RFC 4302
// section 2).
const authenticationMinLen = 12

// routingSegmentsLeft is the offset of that field in a routing header (RFC
// 8200 section 4.4).
const routingSegmentsLeft = 3

// isExtension reports whether a next-header value is an extension header that
// can be walked. Behind an encapsulated security payload nothing can be read.
func isExtension(proto uint8) bool {
	switch proto {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoAH, ProtoDestOpts:
		return true
	}
	return false
}

// walkExtensions walks the extension headers of the packet that ends at end,
// the first of which is of type next and begins at offset at. Hop-by-hop
// options come first or not at all (RFC 8200 section 4.1), and there is one
// fragment header at most. In a later fragment only the headers before and
// with the fragment header are there.
func walkExtensions(frame []byte, at, end int, next uint8) (extensionChain, reason.Reason) {
	chain := extensionChain{proto: next, l4: at}
	for count := 0; isExtension(chain.proto) && !chain.later; count++ {
		if count == MaxExtensions {
			return chain, reason.IPv6ExtensionLimit
		}
		if chain.l4+IPv6ExtensionMinLen > end {
			return chain, reason.IPv6ExtensionMalformed
		}
		h := IPv6Extension(frame[chain.l4:])
		length := h.HeaderLen()
		switch chain.proto {
		case ProtoHopByHop:
			if count != 0 {
				return chain, reason.IPv6ExtensionMalformed
			}
		case ProtoRouting:
			if h[routingSegmentsLeft] != 0 {
				chain.segmentsLeft = true
			}
		case ProtoAH:
			if length = h.AuthenticationLen(); length < authenticationMinLen {
				return chain, reason.IPv6ExtensionMalformed
			}
		case ProtoFragment:
			if chain.fragment != 0 {
				return chain, reason.IPv6ExtensionMalformed
			}
			length = IPv6FragmentLen
			chain.fragment = chain.l4
			chain.later = IPv6Fragment(h).Offset() != 0
		}
		if chain.l4+length > end {
			return chain, reason.IPv6ExtensionMalformed
		}
		chain.proto = h.NextHeader()
		chain.l4 += length
		if chain.l4-at > MaxExtensionBytes {
			return chain, reason.IPv6ExtensionLimit
		}
	}
	return chain, reason.None
}
