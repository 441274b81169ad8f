package owner

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
)

// Candidate is a node that could answer for VIPs: it is a member that is not
// known to be dead, it forwards, and it does not leave.
type Candidate struct {
	Name string
	// Networks are the subnets of its interfaces that carry frames.
	Networks []netip.Prefix
	// Impaired says that something is wrong with it that is not wrong with the
	// others, so that it serves worse than they do, or not at all.
	Impaired bool
	Drained  bool
	// Settled says that it has been well for the hold-down time: VIPs may move to
	// it from a node that serves them.
	Settled bool
	// Lacks are VIPs that its configuration does not have; nil: none.
	Lacks map[netip.Addr]bool
}

// same reports whether two candidates are the same to Assign. What they lack is
// never changed, so it is the same when it is the same map.
func (c *Candidate) same(o *Candidate) bool {
	return c.Name == o.Name && slices.Equal(c.Networks, o.Networks) && c.Impaired == o.Impaired && c.Drained == o.Drained &&
		c.Settled == o.Settled && len(c.Lacks) == len(o.Lacks) && reflect.ValueOf(c.Lacks).Pointer() == reflect.ValueOf(o.Lacks).Pointer()
}

// Assign gives every VIP to one of the candidates, by highest random weight
// (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
// 1998): a VIP's owner is the node with the highest weight for it, and a node's
// weight for a VIP follows from their names alone. So every node that sees the
// same candidates comes to the same answer, and when one goes or comes, only its
// own VIPs move.
//
// A VIP is given to the best that there is: to nodes on its segment, where any
// is; among these to nodes that are well; then to those that are not drained;
// then to those that have settled. So it has no owner only when no candidate has
// it in its configuration: an impaired or a drained node answers for it rather
// than nobody.
//
// The result has the owner's name for each VIP, "" for nobody.
func Assign(vips []netip.Addr, candidates []Candidate) []string {
	owners := make([]string, len(vips))
	weights := make([]uint64, len(candidates))
	for k := range candidates {
		weights[k] = hash([]byte(candidates[k].Name))
	}
	segments := newSegments(candidates)
	for i, vip := range vips {
		raw := vip.As16()
		seed := hash(raw[:])
		best, bestGrade, bestWeight := -1, grade(0), uint64(0)
		on := segments.of(vip)
		for k := range candidates {
			c := &candidates[k]
			if c.Lacks[vip] {
				continue
			}
			g, w := c.grade(on[k]), mix(seed^weights[k])
			if best < 0 || g > bestGrade || g == bestGrade && (w > bestWeight || w == bestWeight && c.Name < candidates[best].Name) {
				best, bestGrade, bestWeight = k, g, w
			}
		}
		if best >= 0 {
			owners[i] = candidates[best].Name
		}
	}
	return owners
}

// grade orders candidates for a VIP before their weights do. The higher one is
// better.
type grade uint8

const (
	settled grade = 1 << iota
	undrained
	well
	onSegment
)

func (c *Candidate) grade(segment bool) (g grade) {
	if c.Settled {
		g |= settled
	}
	if !c.Drained {
		g |= undrained
	}
	if !c.Impaired {
		g |= well
	}
	if segment {
		g |= onSegment
	}
	return g
}

// segments are the subnets that candidates are on.
type segments struct {
	prefixes []netip.Prefix
	on       [][]bool // by prefix and candidate
	found    []bool   // by candidate, for the address looked up last
}

func newSegments(candidates []Candidate) *segments {
	s := &segments{found: make([]bool, len(candidates))}
	index := make(map[netip.Prefix]int)
	for k := range candidates {
		for _, p := range candidates[k].Networks {
			i, ok := index[p.Masked()]
			if !ok {
				i = len(s.prefixes)
				index[p.Masked()] = i
				s.prefixes, s.on = append(s.prefixes, p.Masked()), append(s.on, make([]bool, len(candidates)))
			}
			s.on[i][k] = true
		}
	}
	return s
}

// of says which candidates are on the segment of an address, until it is asked
// again.
func (s *segments) of(a netip.Addr) []bool {
	clear(s.found)
	for i, p := range s.prefixes {
		if !p.Contains(a) {
			continue
		}
		for k, on := range s.on[i] {
			s.found[k] = s.found[k] || on
		}
	}
	return s.found
}

// hash and mix are part of what nodes agree on: another function would give VIPs
// to other nodes, and nodes of two versions would disagree.
func hash(text []byte) uint64 {
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a permutation of
// 64-bit numbers of which every bit depends on every bit.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
