// Package maglev builds the lookup tables that spread flows over the backends
// of a pool: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4) with
// weights, over the tables of github.com/dgryski/go-maglev.
//
// A table depends on nothing but the members' names, weights and states and on
// the seed, so that every node computes the same one. It is made in two steps.
// The first fills a table in which all members have equal parts; its size and
// its entries follow from the members' names alone. In the second, members that
// are due less than that part give entries up, and those that are due more take
// them over (share.go). So a change of weights, a member that goes down or comes
// back, and one that begins slowly move the entries that have to move and leave
// the others where they are.
package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxMembers is the most members a table has: its entries are 16 bits wide.
const MaxMembers = 65535

// MaxWeight is the largest weight of a member.
const MaxWeight = 65535

// entriesPerMember is how many entries of the table there are for each member
// at least (paper section 5.3: with a table 100 times larger than the number of
// backends, their shares differ by at most one per cent). Only a pool of more
// than 6,553 members has fewer.
const entriesPerMember = 100

// sizes is the ladder of table sizes, all prime. Few and far between: when a
// pool grows past a rung, nearly every entry changes. The first holds 10
// members, so that most pools never leave it.
var sizes = [...]uint32{1009, 2003, 4001, 8009, 16001, 32003, 65537, 131101, 262147, 524309, 655373}

// Member is one backend of a pool.
type Member struct {
	Name   string // unique in the pool and the same on every node, such as address and port
	Weight int    // 0 to MaxWeight; 0: it gets no entries
	// Withheld is how much of what its weight is due the others get, per mille:
	// 0 to 1,000.
	Withheld int
	Down     bool // it gets no entries
}

// due is what the member's part of the table is proportional to. Weights are
// reduced to the terms of a divisor first, so that equal proportions give equal
// tables.
func (m *Member) due(divisor int) uint64 {
	if m.Down {
		return 0
	}
	return uint64(m.Weight/divisor) * uint64(FullShare-m.Withheld)
}

// divisor is the greatest that the weights have in common, 1 when all are 0.
func divisor(members []Member) int {
	d := 0
	for i := range members {
		d = gcd(d, members[i].Weight)
	}
	return max(1, d)
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// FullShare is Withheld of a member that gets nothing.
const FullShare = 1000

// Table is a lookup table. It is immutable.
type Table struct {
	entries  []uint16
	checksum uint64
	key      cacheKey // by which a Cache knows it
}

// Entries are the table: for each slot the index of a member in the list that
// the table was built from. They must not be changed.
func (t *Table) Entries() []uint16 { return t.entries }

// Size is the number of entries, a prime.
func (t *Table) Size() int { return len(t.entries) }

// Checksum is the same for tables of the same members, weights and seed on
// every node, whatever the order the members were given in.
func (t *Table) Checksum() uint64 { return t.checksum }

// Build makes the table of the members. It is nil without an error when no
// member may be chosen.
func Build(members []Member, seed [2]uint64) (*Table, error) {
	return new(builder).build(members, seed)
}

// builder builds one table after the other in the same working memory.
type builder struct {
	walks []walk
	taken []bool // by slot: whether it has an owner
	rest  []uint32
	name  []byte
	sum   []byte // what is summed up
}

func (b *builder) build(members []Member, seed [2]uint64) (*Table, error) {
	order, err := check(members)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(members, func(m Member) bool { return m.due(1) > 0 }) {
		return nil, nil
	}
	size := sizeFor(len(members))
	suffix := "#0@" + strconv.FormatUint(seed[0], 16) + "." + strconv.FormatUint(seed[1], 16)
	b.walks = slices.Grow(b.walks[:0], len(members))
	for _, i := range order {
		b.name = append(append(b.name[:0], members[i].Name...), suffix...)
		b.walks = append(b.walks, newWalk(b.name, uint16(i), size))
	}
	t := &Table{entries: b.fill(size)}
	byDue(t.entries, members, seed)
	t.checksum = b.checksum(members, order, seed, t.entries)
	return t, nil
}

// check refuses what cannot be built and returns the members' indexes in the
// order of their names.
func check(members []Member) ([]int, error) {
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("maglev: %d members, at most %d fit a table", len(members), MaxMembers)
	}
	order := make([]int, len(members))
	for i := range members {
		m := &members[i]
		if m.Name == "" {
			return nil, errors.New("maglev: a member has no name")
		}
		if m.Weight < 0 || m.Weight > MaxWeight {
			return nil, fmt.Errorf("maglev: member %s has weight %d; it must be 0 to %d", m.Name, m.Weight, MaxWeight)
		}
		if m.Withheld < 0 || m.Withheld > FullShare {
			return nil, fmt.Errorf("maglev: member %s withholds %d per mille; it must be 0 to %d", m.Name, m.Withheld, FullShare)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(members[i].Name, members[j].Name) })
	for n := 1; n < len(order); n++ {
		if members[order[n-1]].Name == members[order[n]].Name {
			return nil, fmt.Errorf("maglev: member %s is there twice", members[order[n]].Name)
		}
	}
	return order, nil
}

// sizeFor is the size of the table for so many members: the first rung with
// entriesPerMember for each, else the last.
func sizeFor(members int) uint32 {
	for _, size := range sizes {
		if int(size) >= members*entriesPerMember {
			return size
		}
	}
	return sizes[len(sizes)-1]
}

// checksum covers what the table was built from and the table itself, with the
// members in the order of their names. Members without entries count only by
// what they do to it.
func (b *builder) checksum(members []Member, order []int, seed [2]uint64, entries []uint16) uint64 {
	buf := b.sum[:0]
	buf = binary.LittleEndian.AppendUint64(buf, seed[0])
	buf = binary.LittleEndian.AppendUint64(buf, seed[1])
	rank := make([]uint16, len(members))
	common := divisor(members)
	n := uint16(0)
	for _, i := range order {
		m := &members[i]
		if m.due(common) == 0 {
			continue
		}
		rank[i] = n
		n++
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(m.Name)))
		buf = append(buf, m.Name...)
		buf = binary.LittleEndian.AppendUint64(buf, m.due(common))
	}
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(entries)))
	at := len(buf)
	buf = slices.Grow(buf, 2*len(entries))[:at+2*len(entries)]
	for i, ranks := 0, buf[at:]; i < len(entries); i++ {
		binary.LittleEndian.PutUint16(ranks[2*i:], rank[entries[i]])
	}
	b.sum = buf
	sum := sha256.Sum256(buf)
	return binary.LittleEndian.Uint64(sum[:])
}
