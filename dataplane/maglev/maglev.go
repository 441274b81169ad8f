// Package maglev builds the lookup tables that spread flows over the backends
// of a pool: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4) with
// weights, over the tables of github.com/dgryski/go-maglev.
//
// A table depends on nothing but the members' names, weights and states and on
// the seed, so that every node computes the same one. A member of weight w
// enters as w virtual names. The weights are reduced first; the size of the
// table follows from their sum, and from the configured members alone: a
// member that goes down and comes back changes neither the size nor the place
// of the others.
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

// entriesPerName is how many entries of the table a virtual name has at least
// (paper section 5.3: with a table 100 times larger than the number of
// backends, their shares differ by at most one per cent).
const entriesPerName = 100

// sizes is the ladder of table sizes, all prime. Few and far between: when a
// pool grows past a rung, nearly every entry changes. The first holds a sum of
// weights of 10, so that most pools never leave it.
var sizes = [...]uint32{1009, 2003, 4001, 8009, 16001, 32003, 65537, 131101, 262147, 524309, 655373}

// maxNames is how many virtual names the largest table holds at entriesPerName
// each. Larger sums of weights are scaled down to it. Only a pool of more
// members than this has more names, and fewer entries for each.
const maxNames = 655373 / entriesPerName

// Member is one backend of a pool.
type Member struct {
	Name   string // unique in the pool and the same on every node, such as address and port
	Weight int    // 0 to MaxWeight; 0: not in the table
	Down   bool   // not in the table for now; its weight still counts for the table's size
}

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
	weights := reduce(members)
	sum := 0
	for _, w := range weights {
		sum += w
	}
	size := sizeFor(sum)

	suffix := "@" + strconv.FormatUint(seed[0], 16) + "." + strconv.FormatUint(seed[1], 16)
	b.walks = slices.Grow(b.walks[:0], sum)
	for _, i := range order {
		m := &members[i]
		if m.Down {
			continue
		}
		for n := range weights[i] {
			b.name = append(append(b.name[:0], m.Name...), '#')
			b.name = append(strconv.AppendInt(b.name, int64(n), 10), suffix...)
			b.walks = append(b.walks, newWalk(b.name, uint16(i), size))
		}
	}
	if len(b.walks) == 0 {
		return nil, nil
	}
	t := &Table{entries: b.fill(size)}
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

// reduce turns weights into numbers of virtual names in the same proportion:
// divided by their greatest common divisor and, where their sum is still more
// than maxNames, scaled down to about that, at least one for each member of
// positive weight.
func reduce(members []Member) []int {
	weights := make([]int, len(members))
	divisor, sum := 0, 0
	for i := range members {
		weights[i] = members[i].Weight
		divisor = gcd(divisor, weights[i])
	}
	if divisor == 0 {
		return weights
	}
	for i := range weights {
		weights[i] /= divisor
		sum += weights[i]
	}
	if sum <= maxNames {
		return weights
	}
	for i, w := range weights {
		if w > 0 {
			weights[i] = max(1, (w*maxNames+sum/2)/sum) // whole numbers: the same on every machine
		}
	}
	return weights
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// sizeFor is the size of the table for so many virtual names: the first rung
// with entriesPerName for each, else the last.
func sizeFor(names int) uint32 {
	for _, size := range sizes {
		if int(size) >= names*entriesPerName {
			return size
		}
	}
	return sizes[len(sizes)-1]
}

// checksum covers what the table was built from and the table itself, with the
// members in the order of their names. Members that are not in the table count
// only by what they do to it.
func (b *builder) checksum(members []Member, order []int, seed [2]uint64, entries []uint16) uint64 {
	buf := b.sum[:0]
	buf = binary.LittleEndian.AppendUint64(buf, seed[0])
	buf = binary.LittleEndian.AppendUint64(buf, seed[1])
	rank := make([]uint16, len(members))
	n := uint16(0)
	for _, i := range order {
		m := &members[i]
		if m.Weight == 0 || m.Down {
			continue
		}
		rank[i] = n
		n++
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(m.Name)))
		buf = append(buf, m.Name...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(m.Weight))
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
