package fib

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"fairlead/dataplane/packet"
)

// keyed is a snapshot that can do nothing but hash.
func keyed(seed [2]uint64) *Snapshot { return &Snapshot{keys: hashKeys(seed)} }

// flow is what FlowHash hashes.
type flow struct {
	src, dst         packet.Addr
	srcPort, dstPort uint16
	proto            uint8
}

func (s *Snapshot) hash(f flow) uint64 {
	return s.FlowHash(f.src, f.dst, f.srcPort, f.dstPort, f.proto)
}

// TestFlowHashGolden pins hashes for ever: nodes of different releases in one
// cluster must agree.
func TestFlowHashGolden(t *testing.T) {
	four := flow{ip("203.0.113.9"), ip("198.18.0.10"), 1234, 80, 6}
	six := flow{ip("2001:db8::9"), ip("2001:db8::10"), 1234, 80, 17}
	for _, c := range []struct {
		seed     [2]uint64
		flow     flow
		hash     uint64
		affinity uint64
	}{
		{[2]uint64{}, four, 0x32ebba39341c7712, 0xc1a8745bb20fd83a},
		{[2]uint64{1, 2}, four, 0xfc315c3d0fa3c696, 0x23e858a48832ae30},
		{[2]uint64{}, six, 0xe49bb2fbdecdd361, 0x4c8806ec3ed3d6bc},
	} {
		s := keyed(c.seed)
		if got := s.hash(c.flow); got != c.hash {
			t.Errorf("seed %v: flow hash is %#x, want %#x", c.seed, got, c.hash)
		}
		if got := s.AffinityHash(c.flow.src, c.flow.dst); got != c.affinity {
			t.Errorf("seed %v: affinity hash is %#x, want %#x", c.seed, got, c.affinity)
		}
	}
}

// TestFlowHashSpreads: traffic of little variety falls evenly on table slots,
// under ordinary seeds and zero.
func TestFlowHashSpreads(t *testing.T) {
	vip := ip("198.18.0.10")
	patterns := map[string]func(i uint64) flow{
		"one client, its ports in turn": func(i uint64) flow { return flow{ip("203.0.113.9"), vip, uint16(i), 80, 6} },
		"clients in turn, one port":     func(i uint64) flow { return flow{packet.Addr{Lo: 0xffff_cb00_0000 + i}, vip, 40000, 80, 6} },
		"clients in turn, port zero":    func(i uint64) flow { return flow{packet.Addr{Lo: 0xffff_0000_0000 + i}, vip, 0, 0, 0} },
		"IPv6 subnets in turn": func(i uint64) flow {
			return flow{packet.Addr{Hi: 0x20010db8_00000000 + i, Lo: 1}, ip("2001:db8::10"), 40000, 443, 17}
		},
		"IPv6 hosts in turn": func(i uint64) flow {
			return flow{packet.Addr{Hi: 0x20010db8_00000000, Lo: i}, ip("2001:db8::10"), 40000, 443, 17}
		},
		"client and port together": func(i uint64) flow {
			return flow{packet.Addr{Lo: 0xffff_cb00_0000 + i>>8}, vip, uint16(1024 + i&255), 80, 6}
		},
		"VIPs in turn": func(i uint64) flow {
			return flow{ip("203.0.113.9"), packet.Addr{Lo: 0xffff_c612_0000 + i}, 40000, 80, 6}
		},
		"source equal to destination": func(i uint64) flow { a := packet.Addr{Hi: i, Lo: i}; return flow{a, a, uint16(i), uint16(i), 6} },
	}
	const slots, count = 1009, 65536
	for _, seed := range [][2]uint64{{}, {1, 2}, {math.MaxUint64, math.MaxUint64}, {0x9e3779b97f4a7c15, 0}} {
		s := keyed(seed)
		for name, make := range patterns {
			for what, slotOf := range map[string]func(uint64) uint64{
				"high": func(h uint64) uint64 { hi, _ := bits.Mul64(h, slots); return hi },
				"low":  func(h uint64) uint64 { return h & 0xffffffff % slots },
			} {
				var hits [slots]int
				for i := range uint64(count) {
					hits[slotOf(s.hash(make(i)))]++
				}
				// Chi-square with 1,008 degrees of freedom: mean 1,008,
				// standard deviation 45; six of them are allowed.
				chi, mean := 0.0, float64(count)/slots
				for _, n := range hits {
					chi += (float64(n) - mean) * (float64(n) - mean) / mean
				}
				if chi > 1008+6*45 || chi < 1008-6*45 {
					t.Errorf("seed %v, %s, %s bits: chi-square is %.0f, want 1008 +- 270", seed, name, what, chi)
				}
			}
		}
	}
}

// TestFlowHashAvalanche: each bit of the input changes each bit of the hash in
// about half of all cases.
func TestFlowHashAvalanche(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	s := keyed([2]uint64{3, 4})
	const rounds = 4000
	flip := func(f flow, bit int) flow {
		switch {
		case bit < 64:
			f.src.Hi ^= 1 << bit
		case bit < 128:
			f.src.Lo ^= 1 << (bit - 64)
		case bit < 192:
			f.dst.Hi ^= 1 << (bit - 128)
		case bit < 256:
			f.dst.Lo ^= 1 << (bit - 192)
		case bit < 272:
			f.srcPort ^= 1 << (bit - 256)
		case bit < 288:
			f.dstPort ^= 1 << (bit - 272)
		default:
			f.proto ^= 1 << (bit - 288)
		}
		return f
	}
	for bit := range 296 {
		var changed [64]int
		for range rounds {
			f := flow{
				packet.Addr{Hi: r.Uint64(), Lo: r.Uint64()}, packet.Addr{Hi: r.Uint64(), Lo: r.Uint64()},
				uint16(r.Uint32()), uint16(r.Uint32()), uint8(r.Uint32()),
			}
			d := s.hash(f) ^ s.hash(flip(f, bit))
			for out := range changed {
				changed[out] += int(d >> out & 1)
			}
		}
		for out, n := range changed {
			if p := float64(n) / rounds; p < 0.45 || p > 0.55 {
				t.Errorf("input bit %d changes bit %d of the hash in %.0f %% of all cases", bit, out, 100*p)
			}
		}
	}
}

// TestNoZeroMultiplier: an address that meets the key so that one factor is
// zero does not hide the rest of the flow.
func TestNoZeroMultiplier(t *testing.T) {
	s := keyed([2]uint64{3, 4})
	seen := make(map[uint64]bool)
	const count = 10000
	for i := range uint64(count) {
		seen[s.hash(flow{packet.Addr{Hi: s.keys[0], Lo: i}, ip("198.18.0.10"), 1, 2, 6})] = true
		seen[s.hash(flow{packet.Addr{Hi: i, Lo: s.keys[1]}, ip("198.18.0.10"), 1, 2, 6})] = true
		seen[s.hash(flow{ip("203.0.113.9"), packet.Addr{Hi: s.keys[2], Lo: i}, 1, 2, 6})] = true
		seen[s.AffinityHash(packet.Addr{Hi: s.keys[1], Lo: i}, ip("198.18.0.10"))] = true
		seen[fold(0, i)^1<<63] = true
	}
	if len(seen) != 5*count {
		t.Errorf("%d flows have %d hashes", 5*count, len(seen))
	}
}

func TestSeedsGiveDifferentHashes(t *testing.T) {
	f := flow{ip("203.0.113.9"), ip("198.18.0.10"), 1234, 80, 6}
	seen := make(map[uint64][2]uint64)
	for a := range uint64(50) {
		for b := range uint64(50) {
			seed := [2]uint64{a, b}
			h := keyed(seed).hash(f)
			if other, ok := seen[h]; ok {
				t.Errorf("seeds %v and %v give one hash", seed, other)
			}
			seen[h] = seed
		}
	}
}

func TestAffinityHashIsOfClientAndVIP(t *testing.T) {
	s := keyed([2]uint64{3, 4})
	seen := make(map[uint64]bool)
	for i := range uint64(100) {
		for j := range uint64(100) {
			seen[s.AffinityHash(packet.Addr{Lo: i}, packet.Addr{Lo: j})] = true
		}
	}
	if len(seen) != 10000 {
		t.Errorf("10000 pairs of client and VIP have %d hashes", len(seen))
	}
}
