package owner

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func addr4(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
}

// oracle is Assign for one VIP, written down as it is described and slowly.
func oracle(vip netip.Addr, candidates []Candidate) string {
	list := slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool { return c.Lacks[vip] })
	prefer := func(ok func(c Candidate) bool) {
		if slices.ContainsFunc(list, ok) {
			list = slices.DeleteFunc(list, func(c Candidate) bool { return !ok(c) })
		}
	}
	prefer(func(c Candidate) bool {
		return slices.ContainsFunc(c.Networks, func(p netip.Prefix) bool { return p.Contains(vip) })
	})
	prefer(func(c Candidate) bool { return !c.Impaired })
	prefer(func(c Candidate) bool { return !c.Drained })
	prefer(func(c Candidate) bool { return c.Settled })
	if len(list) == 0 {
		return ""
	}
	weight := func(c Candidate) uint64 {
		name, address := sha256.Sum256([]byte(c.Name)), vip.As16()
		place := sha256.Sum256(address[:])
		x := binary.BigEndian.Uint64(name[:8]) ^ binary.BigEndian.Uint64(place[:8])
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		return x ^ x>>31
	}
	return slices.MaxFunc(list, func(a, b Candidate) int {
		switch wa, wb := weight(a), weight(b); {
		case wa < wb:
			return -1
		case wa > wb:
			return 1
		}
		return 0
	}).Name
}

func someVIPs(r *rand.Rand, n int) (vips []netip.Addr) {
	for range n {
		switch r.IntN(3) {
		case 0:
			vips = append(vips, addr4(r.IntN(1<<16)))
		case 1:
			raw := netip.MustParseAddr("2001:db8::").As16()
			binary.BigEndian.PutUint64(raw[8:], r.Uint64())
			raw[5] = byte(r.IntN(3))
			vips = append(vips, netip.AddrFrom16(raw))
		default:
			vips = append(vips, netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(256))}))
		}
	}
	return vips
}

func someCandidates(r *rand.Rand, vips []netip.Addr) (list []Candidate) {
	networks := []netip.Prefix{
		netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("198.18.128.0/17"), netip.MustParsePrefix("2001:db8:1::/48"),
		netip.MustParsePrefix("2001:db8:0:100::/48"), netip.MustParsePrefix("192.0.2.0/24"),
	}
	for i := range r.IntN(8) {
		c := Candidate{Name: fmt.Sprintf("lb%d", i), Impaired: r.IntN(5) == 0, Drained: r.IntN(5) == 0, Settled: r.IntN(4) > 0}
		for _, p := range networks {
			if r.IntN(2) == 0 {
				c.Networks = append(c.Networks, p)
			}
		}
		if r.IntN(4) == 0 {
			c.Lacks = map[netip.Addr]bool{vips[r.IntN(len(vips))]: true, vips[r.IntN(len(vips))]: true}
		}
		list = append(list, c)
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// TestAssignIsTheOracle compares Assign with its description, for any candidates.
func TestAssignIsTheOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 3))
	for range 2000 {
		vips := someVIPs(r, 20)
		candidates := someCandidates(r, vips)
		for i, got := range Assign(vips, candidates) {
			if want := oracle(vips[i], candidates); got != want {
				t.Fatalf("%s of %+v: %q, want %q", vips[i], candidates, got, want)
			}
		}
	}
}

func equalNodes(n int) (list []Candidate) {
	for i := range n {
		list = append(list, Candidate{Name: fmt.Sprintf("node-%d", i), Settled: true})
	}
	return list
}

func assigned(vips []netip.Addr, candidates []Candidate) map[netip.Addr]string {
	m := make(map[netip.Addr]string)
	for i, owner := range Assign(vips, candidates) {
		m[vips[i]] = owner
	}
	return m
}

// TestAssignMovesLittle has nodes go, come, drain and become impaired, one at a
// time and at random: a VIP moves only from the node that got worse, or to the one
// that got better.
func TestAssignMovesLittle(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	vips := someVIPs(r, 500)
	all := equalNodes(12)
	for i := range all {
		all[i].Impaired = true // out, at first; impaired, drained and unsettled are one kind of worse here
	}
	before := assigned(vips, all)
	for step := range 400 {
		k := r.IntN(len(all))
		worse := r.IntN(2) == 0
		switch r.IntN(3) {
		case 0:
			all[k].Impaired = worse
		case 1:
			all[k].Drained = worse
		case 2:
			all[k].Settled = !worse
		}
		after := assigned(vips, all)
		// What is worse in one thing may be the best of what is left, so that the
		// grades of all others count, too; where they are equal nothing but k's moves.
		for vip, owner := range after {
			if was := before[vip]; was != owner && was != all[k].Name && owner != all[k].Name {
				t.Fatalf("step %d: %s became %+v, and %s moved from %s to %s", step, all[k].Name, all[k], vip, was, owner)
			}
		}
		before = after
	}
}

// TestAssignIsFair bounds how far from equal the parts of equal nodes are: 10,000
// VIPs of 10 nodes are 1,000 each with a standard deviation of 30.
func TestAssignIsFair(t *testing.T) {
	var vips []netip.Addr
	for i := range 10_000 {
		vips = append(vips, addr4(i))
	}
	count := map[string]int{}
	for _, owner := range Assign(vips, equalNodes(10)) {
		count[owner]++
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if n := count[name]; n < 850 || n > 1150 {
			t.Errorf("%s has %d of 10,000 VIPs: want about 1,000", name, n)
		}
	}
	if len(count) != 10 {
		t.Errorf("%d nodes have VIPs, want 10", len(count))
	}
}

// TestAssignStays keeps who owns what from changing between versions: nodes of
// two versions would not agree.
func TestAssignStays(t *testing.T) {
	nodes := equalNodes(5)
	for _, c := range []struct{ vip, owner string }{
		{"198.18.0.101", "node-1"}, {"198.18.0.102", "node-3"}, {"203.0.113.1", "node-4"}, {"203.0.113.2", "node-1"},
		{"2001:db8::101", "node-4"}, {"2001:db8::102", "node-4"}, {"2001:db8:100::1", "node-1"},
	} {
		if got := Assign([]netip.Addr{netip.MustParseAddr(c.vip)}, nodes)[0]; got != c.owner {
			t.Errorf("%s belongs to %s, want %s", c.vip, got, c.owner)
		}
	}
}

func BenchmarkAssign(b *testing.B) {
	var vips []netip.Addr
	for i := range 10_000 {
		vips = append(vips, addr4(i))
	}
	nodes := equalNodes(100)
	for i := range nodes {
		nodes[i].Networks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("2001:db8::/64")}
	}
	for b.Loop() {
		Assign(vips, nodes)
	}
}
