// Package rewrite is the only place where bytes of a packet change: network
// address translation, tunnel headers, link-layer addresses, and the replies
// that the data path makes itself.
//
// Every function takes a frame that packet.Parse accepted together with the
// packet.Info it filled in, and neither allocates nor keeps anything. Offsets
// in an Info count from the start of the frame. No function changes the Info:
// what it says of addresses, ports and TTL stays what was received, and after
// a function that moves headers (tunnels, replies, Split4) its offsets hold no
// longer, so the frame is parsed again if more is to be done with it.
//
// Checksums follow two rules. Where a packet is forwarded, they are updated by
// the difference (RFC 1624, and the same for the CRC32c of SCTP), so that a
// checksum that was wrong on arrival is wrong by as much when it leaves, and
// corruption is never hidden. Where a packet is made here, they are computed.
//
// A reason.Reason that is returned is None on success. Otherwise the frame is
// as it was and the reason says why it cannot be rewritten.
package rewrite
