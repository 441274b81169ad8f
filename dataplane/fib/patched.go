package fib

import (
	"cmp"
	"fmt"
	"slices"
)

// OpenPatched is Open for an image that equals the one of before but for its
// generation and the records in written. It looks at those records and at what
// refers to them, so that its cost does not follow from the size of the image,
// save for a glance at each pool. It accepts and refuses what Open does, as
// long as it is told of everything that was written. before stays as it is.
func OpenPatched(image []byte, before *Snapshot, written []Range) (*Snapshot, error) {
	s, err := open(image)
	if err == nil {
		err = s.verifyPatched(before, written)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImage, err)
	}
	return s, nil
}

// counts is how many records each section has.
func (s *Snapshot) counts() [sectionCount]int {
	return [sectionCount]int{
		secSettings: 1, secLocals: len(s.locals), secLocalIDs: len(s.localIDs), secServices: len(s.services),
		secPorts: len(s.ports), secRanges: len(s.ranges), secPools: len(s.pools), secMembers: len(s.members),
		secTables: len(s.tables), secBackends: len(s.backends), secNextHops: len(s.nextHops), secInterfaces: len(s.interfaces),
		secSNATs: len(s.snats), secSourceRanges: len(s.sourceRanges), secTimeouts: len(s.timeouts), secNames: len(s.names),
	}
}

// patchCheck carries one run of verifyPatched.
type patchCheck struct {
	s, before *Snapshot
	ranges    [sectionCount][]Range // what was written, sorted and merged
	pools     []uint32              // to be looked at; sorted and each once when complete
}

// verifyPatched relies on before having been verified. What it accepts keeps
// every promise of verify: a record that was not written refers to what it
// referred to before, no section has become shorter, and the one reference
// that says something about the record referred to, that of a pool to its
// members, is looked at again from both ends.
func (s *Snapshot) verifyPatched(before *Snapshot, written []Range) error {
	c := &patchCheck{s: s, before: before}
	if err := c.sort(written); err != nil {
		return err
	}
	for _, stage := range []func() error{c.interfaces, c.backends, c.findPools, c.verifyPools, c.tables} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// sort takes the ranges in, and what sections have grown by.
func (c *patchCheck) sort(written []Range) error {
	was, is := c.before.counts(), c.s.counts()
	for i := range sectionCount {
		name := sectionInfo[i].name
		switch {
		case is[i] < was[i]:
			return fmt.Errorf("a patch takes section %s from %d to %d records", name, was[i], is[i])
		case is[i] > was[i] && !patchable[i].grow:
			return fmt.Errorf("a patch brings section %s from %d to %d records", name, was[i], is[i])
		case c.s.offsets[i] != c.before.offsets[i]:
			return fmt.Errorf("a patch moves section %s from %d to %d", name, c.before.offsets[i], c.s.offsets[i])
		case is[i] > was[i]:
			c.ranges[i] = append(c.ranges[i], Range{uint32(i), uint32(was[i]), uint32(is[i] - was[i])})
		}
	}
	if c.s.size != c.before.size {
		return fmt.Errorf("a patch brings the image from %d to %d bytes", c.before.size, c.s.size)
	}
	for _, r := range written {
		if r.Section >= uint32(sectionCount) || !patchable[r.Section].write {
			return fmt.Errorf("a patch writes to section %d, which is never patched", r.Section)
		}
		// A patch that was given up may have written after the last record.
		if n := uint64(is[r.Section]); uint64(r.First) < n {
			r.Count = uint32(min(uint64(r.Count), n-uint64(r.First)))
			c.ranges[r.Section] = append(c.ranges[r.Section], r)
		}
	}
	for i := range c.ranges {
		c.ranges[i] = merge(c.ranges[i])
	}
	return nil
}

// merge sorts ranges of one section and makes one of those that touch.
func merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && r.First <= out[n-1].First+out[n-1].Count {
			last := &out[n-1]
			last.Count = max(last.Count, r.First+r.Count-last.First)
			continue
		}
		out = append(out, r)
	}
	return out
}

// touched reports whether one of count records from first on was written.
func (c *patchCheck) touched(s section, first, count uint32) bool {
	ranges := c.ranges[s]
	// Most are nowhere near.
	if len(ranges) == 0 || uint64(first)+uint64(count) <= uint64(ranges[0].First) || uint64(first) >= ranges[len(ranges)-1].end() {
		return false
	}
	at, _ := slices.BinarySearchFunc(ranges, first, func(r Range, first uint32) int {
		if r.end() <= uint64(first) {
			return -1
		}
		return 1
	}) // the first range that ends after first
	return count > 0 && at < len(ranges) && uint64(ranges[at].First) < uint64(first)+uint64(count)
}

// each calls f for every record of a section that was written.
func (c *patchCheck) each(s section, f func(i int) error) error {
	for _, r := range c.ranges[s] {
		for i := r.First; i < r.First+r.Count; i++ {
			if err := f(int(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *patchCheck) interfaces() error {
	if err := c.each(secInterfaces, c.s.verifyInterface); err != nil {
		return err
	}
	return c.each(secNextHops, c.s.verifyNextHop)
}

// backends looks at each record and notes whose member it was and is.
func (c *patchCheck) backends() error {
	return c.each(secBackends, func(i int) error {
		if i < len(c.before.backends) && c.before.backends[i].ID != 0 {
			c.pools = append(c.pools, c.before.backends[i].Pool)
		}
		if err := c.s.verifyBackend(i); err != nil {
			return err
		}
		if c.s.backends[i].ID != 0 {
			c.pools = append(c.pools, c.s.backends[i].Pool)
		}
		return nil
	})
}

// findPools adds the pools whose own record, members or table were written.
func (c *patchCheck) findPools() error {
	for i := range c.s.pools {
		p := &c.s.pools[i]
		if c.touched(secPools, uint32(i), 1) || c.touched(secMembers, p.Members, p.MemberCount) || c.touched(secTables, p.Table, p.TableSize) || c.touched(secTables, p.Base, p.BaseSize) || c.touched(secTables, p.Also, p.AlsoSize) {
			c.pools = append(c.pools, uint32(i))
		}
	}
	slices.Sort(c.pools)
	c.pools = slices.Compact(c.pools)
	return nil
}

func (c *patchCheck) verifyPools() error {
	for _, i := range c.pools {
		if err := c.s.verifyPool(int(i)); err != nil {
			return err
		}
		if err := c.s.verifyTableOf(i); err != nil {
			return err
		}
	}
	return nil
}

// tables checks that the tables of the pools looked at are apart from all
// others, or the same.
func (c *patchCheck) tables() error {
	checked := make([]tableUse, 0, len(c.pools)) // by where they begin
	for _, i := range c.pools {
		checked = c.s.usesOf(i, checked)
	}
	if len(checked) == 0 {
		return nil
	}
	slices.SortFunc(checked, func(a, b tableUse) int { return a.compare(b) })
	for n := 1; n < len(checked); n++ {
		if before, u := &checked[n-1], &checked[n]; before.end() > uint64(u.first) && !before.same(u) {
			return before.overlaps(u)
		}
	}
	lowest, highest := uint64(checked[0].first), checked[len(checked)-1].end()
	var uses [3]tableUse
	for i := range c.s.pools {
		for _, other := range c.s.usesOf(uint32(i), uses[:0]) {
			if other.end() <= lowest || uint64(other.first) >= highest {
				continue // most are nowhere near
			}
			// Those checked are apart or the same, so their ends are sorted too.
			at, _ := slices.BinarySearchFunc(checked, other.first, func(u tableUse, first uint32) int {
				if u.end() <= uint64(first) {
					return -1
				}
				return 1
			})
			if at == len(checked) {
				continue
			}
			if u := &checked[at]; uint64(u.first) < other.end() && !u.same(&other) {
				return u.overlaps(&other)
			}
		}
	}
	return nil
}
