package memo

import (
	"sync/atomic"

	"fairlead/dataplane/flow"
)

// Recent looks at the n entries from the i-th on and calls renew with the key of
// each that the kernel has used lately and whose lease is half over or more,
// and with how long ago that was, in milliseconds. The kernel renews nothing
// itself: without this, one packet of the flow goes up to be decided upon
// whenever a lease is over.
func (t *Table) Recent(i, n int, now flow.Time, renew func(k *Key, unused uint32)) {
	for at := i; at < min(i+n, t.Len()); at++ {
		e := &t.entries[at]
		use := atomic.LoadUint64(&e[wordUse])
		if use&forKernel == 0 {
			continue
		}
		control := atomic.LoadUint64(&e[wordControl])
		left := leaseOf(control) - now
		unused := uint16(now>>seenUnit) - uint16(use>>seenAt)
		if left > MaxLease/2 || unused > MaxLease/2>>seenUnit || t.route(control) == nil {
			continue
		}
		k := Key{atomic.LoadUint64(&e[wordHi]), atomic.LoadUint64(&e[wordLo]), atomic.LoadUint64(&e[wordRest])}
		if atomic.LoadUint64(&e[wordControl]) == control {
			renew(&k, uint32(unused)<<seenUnit)
		}
	}
}

// Len is the number of entries in use.
func (t *Table) Len() int { return int(t.sets()+1) * 2 }

// Renew prolongs the memo of a key to a new end of its lease. What is said of
// Put holds here too.
func (t *Table) Renew(k *Key, lease flow.Time) {
	at, ok := t.Locate(k, t.Hash(k))
	if !ok {
		return
	}
	e := &t.entries[at]
	old := atomic.LoadUint64(&e[wordControl])
	if t.route(old) == nil || !e.has(k) {
		return
	}
	next := uint64(lease)<<leaseAt | uint64(uint32(old)&^seqMask) | (old+1)&seqMask
	if atomic.CompareAndSwapUint64(&e[wordControl], old, next) {
		t.Used(Way{route: uint16(old >> routeAt)}, lease)
	}
}
