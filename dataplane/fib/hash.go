package fib

import (
	"math/bits"

	"fairlead/dataplane/packet"
)

// fold multiplies two words to 128 bits and folds the halves together with the
// words themselves. Without the words, a zero on one side would wipe out
// whatever the other side holds, and whoever can bring a zero about could send
// every flow to one slot.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo ^ a ^ b
}

// spread turns one word into another so that consecutive inputs have nothing
// in common (the finaliser of splitmix64).
func spread(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashKeys makes the words that the hashes are keyed with out of the seed. Any
// seed will do, zero too.
func hashKeys(seed [2]uint64) (keys [5]uint64) {
	state := spread(seed[0]) ^ bits.RotateLeft64(spread(^seed[1]), 32)
	for i := range keys {
		state = spread(state ^ seed[i%2])
		keys[i] = state
	}
	return keys
}

// FlowHash is the hash of a flow's five fields under Settings.HashSeed. It is
// the same on every node with the same seed. All 64 bits are of use.
func (s *Snapshot) FlowHash(src, dst packet.Addr, srcPort, dstPort uint16, proto uint8) uint64 {
	from := fold(src.Hi^s.keys[0], src.Lo^s.keys[1])
	to := fold(dst.Hi^s.keys[2], dst.Lo^s.keys[3])
	rest := uint64(srcPort)<<48 | uint64(dstPort)<<32 | uint64(proto)
	return fold(fold(from^rest, to^s.keys[4]), s.keys[0])
}

// AffinityHash is the hash that stands for FlowHash where a service keeps a
// client at one backend: of the client's address and the VIP, so that services
// of one VIP with equal pools send a client to the same backend whatever the
// port and protocol.
func (s *Snapshot) AffinityHash(client, vip packet.Addr) uint64 {
	from := fold(client.Hi^s.keys[1], client.Lo^s.keys[0])
	to := fold(vip.Hi^s.keys[3], vip.Lo^s.keys[2])
	return fold(fold(from, to^s.keys[4]), s.keys[1])
}

// localHash places an address in the locals table. The set of locals is the
// operator's, so it needs no key.
func localHash(a packet.Addr) uint64 {
	return fold(a.Hi^0x9e3779b97f4a7c15, a.Lo^0xc2b2ae3d27d4eb4f)
}

// portKey packs what an exact port is found by into 40 bits; it is never 0,
// since no local has ID 0. Port 0 stands for the service of all other ports.
func portKey(local uint16, proto uint8, port uint16) uint64 {
	return uint64(local)<<24 | uint64(proto)<<16 | uint64(port)
}

// portHash places a port key in the ports table.
func portHash(key uint64) uint64 {
	return fold(key, 0x9e3779b97f4a7c15)
}
