package flow

import "fmt"

// place is one key of one record.
type place struct {
	rec uint32
	dir Direction
}

// checkTable verifies a table that nobody is changing: every slot belongs to a
// record that is in use and has the slot's key; every record in use has each of
// its slots once; no two flows keep the same key; the counts of passed keys are
// exact, or too high by at most slack in all.
func checkTable(t *Table, now Time, slack uint64) error {
	slots := map[place]int{}
	passed := make([]uint64, len(t.index))
	for b := range t.index {
		for s := 1; s <= bucketSlots; s++ {
			v := t.index[b][s]
			if v == 0 {
				continue
			}
			rec, dir := uint32(v), slotDirection(v)
			r := &t.records[rec]
			l := r.life()
			if l.state() == StateFree {
				return fmt.Errorf("bucket %d has a slot for free record %d", b, rec)
			}
			forward, reply, nat := r.keys()
			k := forward
			if dir == Reply {
				k = reply
			}
			h := t.Hash(&k)
			if v != makeSlot(h, rec, dir) || dir == Reply && !nat {
				return fmt.Errorf("bucket %d has slot %#x for record %d, whose key is %+v", b, v, rec, k)
			}
			found := false
			for i := range uint64(maxProbes) {
				if t.probe(h, i) == &t.index[b] {
					found = true
					break
				}
				passed[(h+i*(h>>32|1))&t.mask]++
			}
			if !found {
				return fmt.Errorf("bucket %d has a slot for record %d, whose key %+v does not belong there", b, rec, k)
			}
			slots[place{rec, dir}]++
		}
	}
	for b := range t.index {
		if have := t.index[b].passed(); have < passed[b] || have > passed[b]+slack {
			return fmt.Errorf("bucket %d says %d keys passed it, and %d did", b, have, passed[b])
		} else {
			slack -= have - passed[b]
		}
	}
	holders := map[Key]uint32{}
	for i := range t.records {
		rec := uint32(i)
		r := &t.records[rec]
		l := r.life()
		if l.state() == StateFree {
			continue
		}
		if r.load(wordIdent)&seqOdd != 0 {
			return fmt.Errorf("record %d is half-written", rec)
		}
		forward, reply, nat := r.keys()
		for dir, k := range []Key{forward, reply} {
			if dir == int(Reply) && !nat {
				continue
			}
			if n := slots[place{rec, Direction(dir)}]; n != 1 {
				return fmt.Errorf("record %d (life %#x) has %d slots for key %+v", rec, uint64(l), n, k)
			}
			if !l.holds(Direction(dir), now) {
				continue
			}
			if other, taken := holders[k]; taken {
				return fmt.Errorf("records %d and %d both hold key %+v", rec, other, k)
			}
			holders[k] = rec
			var f Flow
			ref, d, ok := t.Lookup(&k, t.Hash(&k), now, &f)
			if l.live(now) && (!ok || ref != Ref(rec) || d != Direction(dir)) {
				return fmt.Errorf("key %+v of record %d leads to %d (%v)", k, rec, ref, ok)
			}
		}
	}
	return nil
}

// sweepAll has every worker look at all of its records once.
func sweepAll(t *Table, now Time) (expired int) {
	for _, w := range t.workers {
		expired += w.Sweep(now, int(w.last-w.first))
	}
	return expired
}

// checkEmpty verifies that nothing is left in a table.
func checkEmpty(t *Table, slack uint64) error {
	for i := range t.records {
		if l := t.records[i].life(); l != 0 {
			return fmt.Errorf("record %d is still in use: life %#x", i, uint64(l))
		}
	}
	return checkTable(t, 0, slack)
}
