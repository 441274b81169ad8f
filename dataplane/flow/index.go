package flow

import "sync/atomic"

// The index maps keys to records. A slot is
//
//	bit 63     used: 0 is an empty slot
//	bits 33-62 tag: the top 30 bits of the key's hash, with the low 6 mixed in
//	bit 32     direction of the key
//	bits 0-31  record number
//
// A key belongs in the bucket that the low bits of its hash name. When that is
// full it goes to the next in its probe sequence, and every bucket it passed
// counts it, so that a search ends at the first bucket that nobody passed: one
// cache line as a rule, found or not. A count is raised before the slot is published and lowered after it is
// cleared, so a crash can leave it too high, which costs a line, never too low.
//
// Slots are claimed by compare-and-swap from empty and cleared by the owner of
// the record they name; no lock covers a bucket. What the locks cover is a
// key: see spinLock.
const (
	slotUsed  = 1 << 63
	slotReply = 1 << 32
	tagMask   = slotUsed | (1<<30-1)<<33
	maxProbes = 16
)

// slotTag is the used bit and the tag of a hash's slots. The low bits are in
// it because keys next to each other (see nearPorts) share all others.
func slotTag(hash uint64) uint64 { return slotUsed | (hash^hash<<58)>>1&tagMask }

func makeSlot(hash uint64, rec uint32, dir Direction) uint64 {
	return slotTag(hash) | uint64(dir)<<32 | uint64(rec)
}

func slotDirection(slot uint64) Direction { return Direction(slot >> 32 & 1) }

// probe is the i-th bucket of a hash's probe sequence. Each step goes far away
// and by an odd number of buckets, so no two are the same: where neighbouring
// keys fill a whole stretch of the index, its end is out of reach.
func (t *Table) probe(hash, i uint64) *bucket {
	return &t.index[(hash+i*(hash>>32|1))&t.mask]
}

// passed says how many keys went on to a later bucket.
func (b *bucket) passed() uint64 { return atomic.LoadUint64(&b[0]) }

func (b *bucket) slot(i int) uint64 { return atomic.LoadUint64(&b[i]) }

// tagged reports whether the index has a slot with the hash's tag where the
// hash's key would be. If not, nobody has the key; if so, almost surely
// somebody has or had it.
func (t *Table) tagged(hash uint64) bool {
	tag := slotTag(hash)
	for i := uint64(0); i < maxProbes; i++ {
		b := t.probe(hash, i)
		// No branch for each slot: this is called for a whole range of
		// ports, most of them taken, and where the tag is cannot be guessed.
		found := same(b.slot(1), tag) | same(b.slot(2), tag) | same(b.slot(3), tag) | same(b.slot(4), tag) |
			same(b.slot(5), tag) | same(b.slot(6), tag) | same(b.slot(7), tag)
		if found != 0 {
			return true
		}
		if b.passed() == 0 {
			return false
		}
	}
	return false
}

// same has its top bit set when the slot has the tag, and is 0 otherwise.
func same(slot, tag uint64) uint64 { return ((slot^tag)>>33 - 1) & (1 << 63) }

// publish puts a slot into the index and reports whether there was room.
func (t *Table) publish(hash, slot uint64) bool {
	for i := uint64(0); i < maxProbes; i++ {
		b := t.probe(hash, i)
		for s := 1; s < len(b); s++ {
			if b.slot(s) == 0 && atomic.CompareAndSwapUint64(&b[s], 0, slot) {
				return true
			}
		}
		atomic.AddUint64(&b[0], 1)
	}
	t.unpass(hash, maxProbes)
	return false
}

// unpass takes back the counts of the first n buckets of a probe sequence.
func (t *Table) unpass(hash, n uint64) {
	for i := range n {
		atomic.AddUint64(&t.probe(hash, i)[0], ^uint64(0))
	}
}

// find locates a slot by its exact value: the bucket's place in the probe
// sequence and the slot's in the bucket.
func (t *Table) find(hash, slot uint64) (probe uint64, place int, ok bool) {
	for i := uint64(0); i < maxProbes; i++ {
		b := t.probe(hash, i)
		for s := 1; s < len(b); s++ {
			if b.slot(s) == slot {
				return i, s, true
			}
		}
		if b.passed() == 0 {
			break
		}
	}
	return 0, 0, false
}

// unpublish removes a slot, if it is there. Only the owner of the slot's
// record may call it.
func (t *Table) unpublish(hash, slot uint64) {
	if i, s, ok := t.find(hash, slot); ok {
		atomic.StoreUint64(&t.probe(hash, i)[s], 0)
		t.unpass(hash, i)
	}
}
