package flow

import "sync/atomic"

// The peer table is open-addressed: a peer's number is its place. Entries are
// only ever added, so a number stays good for as long as the memory lives, and
// finding one takes no lock. Place 0 is unused.
//
// An entry is the port in bits 48-63 and the MAC address in the others.
const (
	peerProbes = 256 // places that are tried for a peer; enough to fill the table to about 97 %
	macMask    = 1<<48 - 1
)

// PeerOf gives the number of a link-layer return path, an interface (index in
// the FIB's table) and a MAC address on it, and records it if it is new. It is
// 0 when the table has no room for it, or when the address is zero.
func (t *Table) PeerOf(port uint16, mac [6]byte) uint16 {
	entry := peerEntry(port, mac)
	if entry&macMask == 0 {
		return 0
	}
	h := mix(entry^t.key.a, t.key.b)
	for i := range uint64(peerProbes) {
		via := (h + i*(h>>32|1)) % peerSlots
		if via == 0 {
			continue
		}
		p := &t.peers[via]
		have := atomic.LoadUint64(p)
		if have == 0 {
			if atomic.CompareAndSwapUint64(p, 0, entry) {
				return uint16(via)
			}
			have = atomic.LoadUint64(p)
		}
		if have == entry {
			return uint16(via)
		}
	}
	return 0
}

func peerEntry(port uint16, mac [6]byte) uint64 {
	return uint64(port)<<48 | uint64(mac[0])<<40 | uint64(mac[1])<<32 | uint64(mac[2])<<24 |
		uint64(mac[3])<<16 | uint64(mac[4])<<8 | uint64(mac[5])
}

// IsPeer reports whether a number stands for this return path.
func (t *Table) IsPeer(via, port uint16, mac [6]byte) bool {
	return via != 0 && atomic.LoadUint64(&t.peers[via]) == peerEntry(port, mac)
}

// Peer is the return path with the given number.
func (t *Table) Peer(via uint16) (port uint16, mac [6]byte, ok bool) { return peerAt(t.peers, via) }

func peerAt(peers []uint64, via uint16) (port uint16, mac [6]byte, ok bool) {
	if via == 0 {
		return 0, mac, false
	}
	e := atomic.LoadUint64(&peers[via])
	if e == 0 {
		return 0, mac, false
	}
	return uint16(e >> 48), [6]byte{byte(e >> 40), byte(e >> 32), byte(e >> 24), byte(e >> 16), byte(e >> 8), byte(e)}, true
}
