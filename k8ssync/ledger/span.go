package ledger

import (
	"math"
	"math/big"
	"net/netip"
	"slices"

	"fairlead/k8ssync/kube"
)

// span is an inclusive range of addresses of one family.
type span struct{ first, last netip.Addr }

func (s span) String() string {
	if s.first == s.last {
		return s.first.String()
	}
	return s.first.String() + "-" + s.last.String()
}

func (s span) has(a netip.Addr) bool {
	return a.BitLen() == s.first.BitLen() && s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0
}

// union are the addresses of ranges, as sorted spans that neither overlap nor touch.
// IPv4 is before IPv6.
func union(ranges []kube.Range) []span {
	sorted := make([]span, 0, len(ranges))
	for _, r := range ranges {
		if r.First.Is4() == r.Last.Is4() && r.First.Compare(r.Last) <= 0 {
			sorted = append(sorted, span{r.First, r.Last})
		}
	}
	slices.SortFunc(sorted, func(a, b span) int { return a.first.Compare(b.first) })
	var spans []span
	for _, s := range sorted {
		if n := len(spans); n > 0 && spans[n-1].first.BitLen() == s.first.BitLen() {
			end := &spans[n-1].last
			// The last address of a family has no next one, and nothing is behind it.
			if next := end.Next(); !next.IsValid() || s.first.Compare(next) <= 0 {
				if end.Less(s.last) {
					*end = s.last
				}
				continue
			}
		}
		spans = append(spans, s)
	}
	return spans
}

// split are the parts of a that are in none and in some of b. Both are sorted and
// without overlaps.
func split(a, b []span) (without, common []span) {
	for _, s := range a {
		rest, empty := s, false
		for _, o := range b {
			if o.first.BitLen() != rest.first.BitLen() || o.last.Less(rest.first) {
				continue
			}
			if rest.last.Less(o.first) {
				break
			}
			if rest.first.Less(o.first) {
				without = append(without, span{rest.first, o.first.Prev()})
				rest.first = o.first
			}
			if !o.last.Less(rest.last) {
				common = append(common, rest)
				empty = true
				break
			}
			common = append(common, span{rest.first, o.last})
			rest.first = o.last.Next()
		}
		if !empty {
			without = append(without, rest)
		}
	}
	return without, common
}

// size is how many addresses the span has.
func (s span) size() *big.Int {
	first, last := new(big.Int).SetBytes(s.first.AsSlice()), new(big.Int).SetBytes(s.last.AsSlice())
	return last.Sub(last, first).Add(last, big.NewInt(1))
}

// buggy is whether some equipment takes an address for that of a network or for a
// broadcast.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	end := a.As4()[3]
	return end == 0 || end == 255
}

// buggySize is how many addresses of the span are buggy.
func (s span) buggySize() *big.Int {
	if !s.first.Is4() {
		return new(big.Int)
	}
	// Below x there are as many that end in .0 as there are beginnings of blocks of
	// 256, and as many that end in .255 as there are ends.
	below := func(x int64) int64 { return (x+255)/256 + x/256 }
	return big.NewInt(below(number(s.last)+1) - below(number(s.first)))
}

// number is an IPv4 address as a number.
func number(a netip.Addr) int64 {
	b := a.As4()
	return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
}

// saturated is a count as far as an int64 can tell it.
func saturated(n *big.Int) int64 {
	if !n.IsInt64() {
		return math.MaxInt64
	}
	return n.Int64()
}

func bigSub(n *big.Int, less int64) *big.Int { return new(big.Int).Sub(n, big.NewInt(less)) }
