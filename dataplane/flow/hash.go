package flow

import "math/bits"

// hashKey is the four secrets of the hash.
type hashKey struct{ a, b, c, d uint64 }

// mix multiplies to 128 bits and folds the product. Adding the operands back
// keeps what one of them carries when the other is zero, where a product alone
// would forget both.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo ^ a ^ b
}

// expandSeed makes the hash's secrets of the table's seed.
func expandSeed(s0, s1 uint64) hashKey {
	const golden = 0x9e3779b97f4a7c15
	var out [4]uint64
	x := s0 ^ golden
	for i := range out {
		x = mix(x+golden, s1^bits.RotateLeft64(golden, 17*i+1))
		out[i] = x
	}
	return hashKey{out[0], out[1], out[2], out[3]}
}

// nearPorts is how many keys that differ in the low bits of the local port
// alone share one stretch of the index: 64 buckets are a page of memory, so a
// search for a free SNAT port reads the index page by page.
const nearPorts = 64

// Hash is the keyed hash that finds k in the table. It differs from table to
// table (by the seed) and is not the hash that chooses backends.
//
// It is two rounds of multiply and fold, the first over the peer's address,
// the second over all else but the low bits of the local port, which choose
// among nearPorts buckets. Each round adds back what a factor that happens to
// be zero would have erased.
func (t *Table) Hash(k *Key) uint64 {
	ends := t.key.d ^ uint64(k.Local)<<48 ^ uint64(k.PeerPort)<<32 ^ uint64(k.Proto)<<16 ^ uint64(k.LocalPort)
	hi, lo := bits.Mul64(k.Peer.Hi^t.key.a, k.Peer.Lo^t.key.b)
	hi, lo = bits.Mul64(hi^lo^k.Peer.Lo^t.key.c, ends&^(nearPorts-1))
	return hi ^ lo ^ ends
}

// nearHash is the hash of a key with local port to, given that of the same key
// with local port from. The ports differ in the low bits alone: near says so.
func nearHash(hash uint64, from, to uint16) uint64 { return hash ^ uint64(from^to) }

func near(from, to uint16) bool { return (from^to)&^(nearPorts-1) == 0 }
