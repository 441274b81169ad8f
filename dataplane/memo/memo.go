// Package memo remembers verdicts: how the plain packets of one direction of
// an established flow are forwarded. A memo never decides anything. The worker
// writes it from a verdict of Decide, and whoever holds the table applies it
// to the flow's next packets: the worker itself, and, where the table lies in
// memory shared with the kernel, the XDP program (package xdp/steer), before
// the packet ever reaches a socket.
//
// A memo consists of an entry (one for each direction of a flow: one cache
// line) and of a route that entries share (one for each way to a backend or
// back to clients behind one router). It holds while three things do:
//
//   - the entry is there: whatever ends or changes the flow drops it;
//   - its route is valid: a new snapshot invalidates every route that it would
//     build differently, before it is in force;
//   - its lease has not run out: the flow's record is kept for at least its
//     idle timeout after the end of every lease, so that a flow in use never
//     expires, and no packet has to touch the record meanwhile.
//
// Only plain packets go by a memo: whole, untagged, without IP options or
// extension headers, TCP without SYN, FIN and RST or UDP, with a TTL above 1,
// and no longer than the way carries. All others, and every first one, are
// decided upon.
package memo

import "fairlead/dataplane/packet"

// Key identifies one direction of a flow exactly, as flow.Key does, in the
// form the table holds it: the peer's address (IPv4 in mapped form, big-endian
// halves) and
//
//	bits 48-63 peer port | 32-47 local port | 16-31 fib.Local ID | 8-15 protocol | 0-7 zero
type Key struct {
	Hi, Lo, Rest uint64
}

// NoKey as the Rest of a key is found nowhere.
const NoKey = 1

// MakeKey makes the key of packets from peer to a local address.
func MakeKey(peer packet.Addr, peerPort, localPort, local uint16, proto uint8) Key {
	return Key{peer.Hi, peer.Lo, Rest(peerPort, localPort, local, proto)}
}

// Rest packs all of a key but the peer's address.
func Rest(peerPort, localPort, local uint16, proto uint8) uint64 {
	return uint64(peerPort)<<48 | uint64(localPort)<<32 | uint64(local)<<16 | uint64(proto)<<8
}

// Multipliers of Hash: odd, with their bits well spread (from the fractions of
// the square roots of 2, 3 and 5).
const (
	mul0 = 0x6a09e667f3bcc909
	mul1 = 0xbb67ae8584caa73b
	mul2 = 0x3c6ef372fe94f82b
)

// Seed keys the hash, so that nobody outside can choose flows that collide. A
// collision costs speed only.
type Seed [2]uint64

// Hash places a key. It uses what an XDP program has: multiplications of 64
// bits by 64 of which the low 64 remain. They carry upwards only, and it is low
// bits that choose a place: so what is in a word's upper half, such as the peer's
// port, goes into the lower half too.
func Hash(k *Key, seed *Seed) uint64 {
	h := (k.Hi ^ seed[0]) * mul0
	h = (h ^ h>>32 ^ k.Lo) * mul1
	h = (h ^ h>>32 ^ k.Rest ^ k.Rest>>32 ^ seed[1]) * mul2
	return h ^ h>>32
}
