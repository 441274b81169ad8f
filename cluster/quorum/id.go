package quorum

import (
	"hash/fnv"

	"fairlead/controlplane/model"
)

// ID stands for a backend between nodes: 64 bits of a hash of its pool's name, its
// address and its port. It is part of the wire format. That two of a million
// backends have the same one has a chance of 1 to 36 million; the second of them is
// then said to be one that cannot be checked.
type ID uint64

// IDOf is the ID of a backend.
func IDOf(key model.BackendKey) ID {
	h := fnv.New64a()
	h.Write([]byte(key.Pool))
	address := key.Endpoint.Addr().As16()
	family, port := byte(6), key.Endpoint.Port()
	if key.Endpoint.Addr().Is4() {
		family = 4
	}
	h.Write([]byte{0, family})
	h.Write(address[:])
	h.Write([]byte{byte(port >> 8), byte(port)})
	return ID(mix(h.Sum64()))
}

// nodeHash is what a node's name enters rendezvous hashing with.
func nodeHash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return mix(h.Sum64())
}

// score is how much a node is the one to check a backend: those with the highest
// scores do (highest random weight; Thaler and Ravishankar, 1998).
func score(node uint64, id ID) uint64 { return mix(node ^ uint64(id)) }

// mix is a bijection of 64 bits in which every bit depends on every other: the
// finalizer of MurmurHash3.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
