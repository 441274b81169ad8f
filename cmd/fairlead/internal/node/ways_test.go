package node

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"fairlead/controlplane/neighbor"
)

// TestPages takes a list in random order apart into pages and puts it together
// again, whatever their size.
func TestPages(t *testing.T) {
	var all []cursor
	for i := range 200 {
		all = append(all, cursor{i%3 > 0, fmt.Sprintf("eth%d", i%2), netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
		all = append(all, cursor{i%3 > 0, "eth0", netip.MustParseAddr(fmt.Sprintf("fe80::%x%%eth1", i))})
	}
	want := slices.SortedFunc(slices.Values(all), cursor.compare)
	for _, limit := range []int{3, 7, 199, 400, 5000} {
		var got []cursor
		for after := ""; ; {
			list := slices.Clone(all)
			rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			page, next, err := pageOf(list, after, limit, func(c *cursor) cursor { return *c })
			if err != nil || len(page) > limit {
				t.Fatalf("a page of %d: %v", len(page), err)
			}
			got = append(got, page...)
			if after = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %d of %d, or in another order", limit, len(got), len(want))
		}
	}
	for _, after := range []string{"x", "true/eth0", "maybe/eth0/198.18.0.1", "true/eth0/198.18.0"} {
		_, _, err := pageOf(all, after, 10, func(c *cursor) cursor { return *c })
		if want := fmt.Sprintf(`parameter "after": %q is not the next of a page`, after); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestProblems asserts what is said of each way, and what to do.
func TestProblems(t *testing.T) {
	target := netip.MustParseAddr("192.0.2.1")
	hop := func(resolved, lost bool) neighbor.Hop {
		return neighbor.Hop{Interface: "eth1", Address: netip.MustParseAddr("198.18.10.254"), MAC: [6]byte{2, 0, 0, 0, 0, 1}, Resolved: resolved, Lost: lost, State: "reachable", Weight: 1}
	}
	for _, c := range []struct {
		way     neighbor.Way
		problem string
	}{
		{neighbor.Way{Hops: []neighbor.Hop{hop(true, false)}}, ""},
		{neighbor.Way{Hops: []neighbor.Hop{hop(false, false)}}, "the Ethernet address of 198.18.10.254 on eth1 is not known"},
		{neighbor.Way{Hops: []neighbor.Hop{hop(true, true)}}, "198.18.10.254 on eth1 does not answer"},
		{neighbor.Way{Hops: []neighbor.Hop{hop(true, false), hop(true, true), hop(false, true)}}, "2 of 3 next hops do not answer; the others are used"},
		{neighbor.Way{Outside: "lo"}, "it is an address of the host itself"},
		{neighbor.Way{Outside: "eth9"}, "the way there is through eth9, which is none of the node's interfaces"},
		{neighbor.Way{}, "no route leads there, or one that forbids"},
	} {
		c.way.Target = target
		got := describeRoute(&c.way)
		if got.Problem != c.problem || (got.Advice == "") != (c.problem == "") {
			t.Errorf("%+v: %q, %q", c.way, got.Problem, got.Advice)
		}
	}
	for _, c := range []struct {
		resolved, lost bool
		problem        string
	}{
		{true, false, ""}, {true, true, "it does not answer any more; its last address stays in use"},
		{false, true, "nobody answers for it"}, {false, false, "its Ethernet address is not known yet"},
	} {
		h := hop(c.resolved, c.lost)
		got := describeNeighbor(&h)
		if got.Problem != c.problem || (got.Advice == "") != (c.problem == "") || (got.MAC == "") == c.resolved || got.Answers == c.lost {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
