package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Community is one BGP community: standard (RFC 1997, A:B) or large (RFC 8092,
// A:B:C).
type Community struct {
	Large   bool
	A, B, C uint32 // a standard one has no C, and A and B are at most 65,535
}

// GracefulShutdown asks routers to prefer every other way (RFC 8326).
var GracefulShutdown = Community{A: 65535, B: 0}

// wellKnown are communities with names, as IANA's registry and routers spell
// them.
var wellKnown = []struct {
	name string
	b    uint32 // of 65535:b
}{
	{"graceful-shutdown", 0},
	{"accept-own", 1},
	{"llgr-stale", 6},
	{"no-llgr", 7},
	{"blackhole", 666},
	{"no-export", 65281},
	{"no-advertise", 65282},
	{"no-export-subconfed", 65283},
	{"no-peer", 65284},
}

// WellKnownCommunities are the names that ParseCommunity knows.
func WellKnownCommunities() []string {
	names := make([]string, len(wellKnown))
	for i, w := range wellKnown {
		names[i] = w.name
	}
	return names
}

// ParseCommunity reads a community as operators write it: "65000:100",
// "65000:1:2" or a well-known name such as "no-export".
func ParseCommunity(text string) (Community, error) {
	for _, w := range wellKnown {
		if text == w.name {
			return Community{A: 65535, B: w.b}, nil
		}
	}
	parts := strings.Split(text, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return Community{}, fmt.Errorf(`%q is no community: write "65000:100", "65000:1:2", or one of the names %s`,
			text, strings.Join(WellKnownCommunities(), ", "))
	}
	c := Community{Large: len(parts) == 3}
	most := uint64(65535)
	if c.Large {
		most = 1<<32 - 1
	}
	for i, into := range []*uint32{&c.A, &c.B, &c.C}[:len(parts)] {
		n, err := strconv.ParseUint(parts[i], 10, 64)
		if err != nil || n > most {
			return Community{}, fmt.Errorf("%q is no community: %q is not a number from 0 to %d", text, parts[i], most)
		}
		*into = uint32(n)
	}
	return c, nil
}

// String is the community's shortest spelling: its name, or its numbers.
func (c Community) String() string {
	if c.Large {
		return fmt.Sprintf("%d:%d:%d", c.A, c.B, c.C)
	}
	if c.A == 65535 {
		for _, w := range wellKnown {
			if c.B == w.b {
				return w.name
			}
		}
	}
	return fmt.Sprintf("%d:%d", c.A, c.B)
}

// compare orders standard communities before large ones, and by number.
func (c Community) compare(o Community) int {
	key := func(c Community) []uint32 {
		large := uint32(0)
		if c.Large {
			large = 1
		}
		return []uint32{large, c.A, c.B, c.C}
	}
	return slices.Compare(key(c), key(o))
}

// Communities is a set of communities in its one spelling, separated by spaces,
// so that what has it can be compared with ==. The empty text is the empty set.
type Communities string

// NewCommunities makes a set.
func NewCommunities(list ...Community) Communities {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, Community.compare)
	words := make([]string, 0, len(sorted))
	for _, c := range slices.Compact(sorted) {
		words = append(words, c.String())
	}
	return Communities(strings.Join(words, " "))
}

// List is the set's members in order. What is no community is left out;
// NewCommunities makes no such set.
func (s Communities) List() []Community {
	var list []Community
	for word := range strings.FieldsSeq(string(s)) {
		if c, err := ParseCommunity(word); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// With is the union of two sets.
func (s Communities) With(o Communities) Communities {
	return NewCommunities(append(s.List(), o.List()...)...)
}
