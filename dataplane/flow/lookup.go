package flow

import "sync/atomic"

// Touch reads the index line that a lookup of hash begins with. Called for
// every packet of a batch before the first Lookup, it lets the cache misses of
// the batch overlap. The value means nothing; use it so that the load is not
// thrown away.
func (t *Table) Touch(hash uint64) uint64 {
	return atomic.LoadUint64(&t.index[hash&t.mask][0])
}

// TouchRecord reads the line of the record that a lookup of hash will probably
// end at. It is the pass between Touch and Lookup; the value means nothing.
func (t *Table) TouchRecord(hash uint64) uint64 {
	tag := slotTag(hash)
	b := &t.index[hash&t.mask]
	for s := 1; s < len(b); s++ {
		if v := b.slot(s); v&tagMask == tag {
			if rec := uint32(v); uint64(rec) < uint64(len(t.records)) {
				return t.records[rec].load(wordIdent)
			}
		}
	}
	return 0
}

// Lookup finds the live flow that has the key and copies it to f, which is
// left alone when there is none. hash is Hash(k).
func (t *Table) Lookup(k *Key, hash uint64, now Time, f *Flow) (Ref, Direction, bool) {
	tag := slotTag(hash)
	for i := uint64(0); i < maxProbes; i++ {
		b := t.probe(hash, i)
		for s := 1; s < len(b); s++ {
			v := b.slot(s)
			if v&tagMask != tag {
				continue
			}
			if l, ok := t.match(v, k, f, now); ok && l.live(now) {
				return Ref(uint32(v)), slotDirection(v), true
			}
		}
		if b.passed() == 0 {
			break
		}
	}
	return NoRef, Forward, false
}

// match reports whether the record that slot v names has the key, and its life
// word. When the flow in it is live, it is copied to f.
func (t *Table) match(v uint64, k *Key, f *Flow, now Time) (life, bool) {
	rec := uint32(v)
	if uint64(rec) >= uint64(len(t.records)) {
		return 0, false
	}
	r := &t.records[rec]
	for {
		ident := r.load(wordIdent)
		if ident&seqOdd != 0 || uint8(ident>>protoBit) != k.Proto {
			return 0, false
		}
		ports := r.load(wordPorts)
		service := r.load(wordService)
		var c, b [2]uint64
		c[0], c[1] = r.load(wordClientHi), r.load(wordClientLo)
		b[0], b[1] = r.load(wordBackendHi), r.load(wordBackendLo)
		ends := uint32(k.PeerPort)<<16 | uint32(k.LocalPort)
		if slotDirection(v) == Forward {
			if c[0] != k.Peer.Hi || c[1] != k.Peer.Lo || uint32(ports>>32) != ends || uint16(service>>48) != k.Local {
				return 0, false
			}
		} else if b[0] != k.Peer.Hi || b[1] != k.Peer.Lo || uint32(ports) != ends || uint16(service>>32) != k.Local {
			return 0, false
		}
		l := r.life()
		if r.load(wordIdent) != ident {
			continue
		}
		if f != nil && l.live(now) {
			f.Client.Hi, f.Client.Lo = c[0], c[1]
			f.Backend.Hi, f.Backend.Lo = b[0], b[1]
			f.fill(ports, service, ident, l)
		}
		return l, true
	}
}
