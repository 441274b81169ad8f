package packet

import "fairlead/dataplane/reason"

// maxReassembled is the longest packet that fragments may make: what IPv4's
// total length and IPv6's payload length can say.
const maxReassembled = 65535

// parseFragment notes a fragment whose payload of length bytes lies at offset
// of the original's. The packet that comes of it has before bytes in front of
// that payload as its length field counts them.
func parseFragment(info *Info, offset uint16, more bool, before, length int) reason.Reason {
	info.Frag = FragAny
	info.FragOffset = offset
	if offset == 0 {
		info.Frag |= FragFirst
	}
	if more {
		info.Frag |= FragMore
	}
	switch {
	case length == 0,
		more && length%FragmentUnit != 0,
		before+int(offset)+length > maxReassembled:
		return reason.FragmentMalformed
	}
	return reason.None
}

// parseLaterFragment checks a fragment that has no transport header. One of
// TCP that begins at the second unit is there to overwrite the flags of the
// first fragment (RFC 1858 section 4, RFC 3128).
func parseLaterFragment(info *Info) reason.Reason {
	if info.Proto == ProtoTCP && info.FragOffset == FragmentUnit {
		return reason.FragmentMalformed
	}
	return reason.None
}
