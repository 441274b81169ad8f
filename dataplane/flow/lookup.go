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
// word. When the flow in it is live, it is copied to f, unless f is nil.
func (t *Table) match(v uint64, k *Key, f *Flow, now Time) (life, bool) {
	rec := uint32(v)
	if uint64(rec) >= uint64(len(t.records)) {
		return 0, false
	}
	r := &t.records[rec]
	for {
		ident := r.load(wordIdent)
		ports := r.load(wordPorts)
		service := r.load(wordService)
		clientHi, clientLo := r.load(wordClientHi), r.load(wordClientLo)
		backendHi, backendLo := r.load(wordBackendHi), r.load(wordBackendLo)
		l := r.life()
		if ident&seqOdd != 0 {
			return 0, false
		}
		var differ uint64
		if slotDirection(v) == Forward {
			differ = (clientHi ^ k.Peer.Hi) | (clientLo ^ k.Peer.Lo) |
				uint64(uint32(ports>>32)^(uint32(k.PeerPort)<<16|uint32(k.LocalPort))) | uint64(uint16(service>>48)^k.Local)
		} else {
			differ = (backendHi ^ k.Peer.Hi) | (backendLo ^ k.Peer.Lo) |
				uint64(uint32(ports)^(uint32(k.PeerPort)<<16|uint32(k.LocalPort))) | uint64(uint16(service>>32)^k.Local)
		}
		if differ|uint64(uint8(ident>>protoBit)^k.Proto) != 0 {
			return 0, false
		}
		if r.load(wordIdent) != ident {
			continue
		}
		if f != nil && l.live(now) {
			f.Client.Hi, f.Client.Lo = clientHi, clientLo
			f.Backend.Hi, f.Backend.Lo = backendHi, backendLo
			f.fill(ports, service, ident, l)
		}
		return l, true
	}
}
