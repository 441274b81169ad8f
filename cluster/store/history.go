package store

// What two nodes know of each other's past.
//
// A tombstone is kept for a time. Who was away for longer may still have what it
// was for, and nobody could tell that from something new. So each node counts
// what comes to it (item.seq), and remembers for each other node up to which
// count that one has had everything that is here. If, later, an item that is
// within that count and older than any tombstone that may be gone is missing
// there, then the other has deleted it and has forgotten the tombstone: the item
// is dropped here. The one who holds the item decides.
//
// What a node says of itself ends with its store: one that has lost something
// takes a new storeID, and all begin again with it.

// equal is how far a node has had what is here.
type equal struct {
	store storeID
	seq   uint64
}

// history is what this node remembers of others, by name.
type history map[string]equal

// within reports whether a node has had an item.
func (h history) within(node string, store storeID, it *item) bool {
	e, ok := h[node]
	return ok && e.store == store && it.seq <= e.seq
}

// note remembers that a node has all up to a count. It reports whether that was
// news.
func (h history) note(node string, store storeID, seq uint64) bool {
	if e, ok := h[node]; ok && e.store == store && e.seq >= seq {
		return false
	}
	h[node] = equal{store, seq}
	return true
}

func appendPeerRecord(b []byte, node string, e equal) []byte {
	return appendRecord(b, recordPeer, func(b []byte) []byte {
		return appendUint(appendBytes(appendString(b, peerName, node), peerStore, e.store[:]), peerSeq, e.seq)
	})
}

func readPeerRecord(body []byte) (node string, e equal, err error) {
	err = fields(body, func(f field) error {
		switch f.number {
		case peerName:
			node = string(f.bytes)
		case peerStore:
			if len(f.bytes) != len(e.store) {
				return errDamaged
			}
			e.store = storeID(f.bytes)
		case peerSeq:
			e.seq = f.value
		}
		return nil
	})
	return node, e, err
}
