package store

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"fairlead/cluster"
)

// state is what a node says of all that it has: a request to compare, and the
// answer to one.
type state struct {
	wall    time.Time // of the node's clock
	store   storeID
	root    [sha256.Size]byte
	seq     uint64
	durable bool   // all up to seq is on disk
	sums    []byte // 8 bytes of each bucket; in an answer, when the roots differ
}

// Fields of a state.
const (
	stateWall    = 1
	stateStore   = 2
	stateRoot    = 3
	stateSeq     = 4
	stateDurable = 5
	stateSums    = 6
)

func (m *state) encode(b []byte) []byte {
	b = appendUint(b, stateWall, protowire.EncodeZigZag(m.wall.UnixNano()))
	b = appendBytes(b, stateStore, m.store[:])
	b = appendBytes(b, stateRoot, m.root[:])
	b = appendUint(b, stateSeq, m.seq)
	if m.durable {
		b = appendUint(b, stateDurable, 1)
	}
	if m.sums != nil {
		b = appendBytes(b, stateSums, m.sums)
	}
	return b
}

func readState(b []byte) (m *state, err error) {
	m = &state{}
	found := 0
	err = fields(b, func(f field) error {
		switch f.number {
		case stateWall:
			m.wall = time.Unix(0, protowire.DecodeZigZag(f.value))
		case stateStore:
			if len(f.bytes) != len(m.store) {
				return malformed("a store's identity")
			}
			m.store = storeID(f.bytes)
			found |= 1
		case stateRoot:
			if len(f.bytes) != len(m.root) {
				return malformed("a digest")
			}
			m.root = [sha256.Size]byte(f.bytes)
			found |= 2
		case stateSeq:
			m.seq = f.value
		case stateDurable:
			m.durable = f.value != 0
		case stateSums:
			if len(f.bytes) != 8*buckets {
				return malformed("digests of buckets")
			}
			m.sums = f.bytes
		}
		return nil
	})
	if err == nil && found != 3 {
		err = malformed("a comparison without its digest")
	}
	return m, err
}

// having is an item as one node tells another of it.
type having struct {
	key     string
	version cluster.Version
	sum     uint64
}

// older reports whether an item replaces the one that another node has.
func (h having) older(it *item) bool {
	if c := it.Version.Compare(h.version); c != 0 {
		return c > 0
	}
	return it.sum() > h.sum
}

// Fields of a having, and of a want.
const (
	haveKey     = 1
	haveWall    = 2
	haveCounter = 3
	haveWriter  = 4
	haveSum     = 5

	wantKey  = 1
	wantNone = 2
)

func appendHaving(b []byte, number protowire.Number, it *item) []byte {
	var m []byte
	m = appendString(m, haveKey, it.Key)
	m = appendUint(m, haveWall, protowire.EncodeZigZag(it.Version.Wall))
	m = appendUint(m, haveCounter, uint64(it.Version.Counter))
	m = appendString(m, haveWriter, it.Version.Writer)
	m = appendBytes(m, haveSum, it.hash[:8])
	return appendBytes(b, number, m)
}

func readHaving(b []byte) (h having, err error) {
	err = fields(b, func(f field) error {
		switch f.number {
		case haveKey:
			h.key = string(f.bytes)
		case haveWall:
			h.version.Wall = protowire.DecodeZigZag(f.value)
		case haveCounter:
			h.version.Counter = uint32(f.value)
		case haveWriter:
			h.version.Writer = string(f.bytes)
		case haveSum:
			if len(f.bytes) != 8 {
				return malformed("a digest of an entry")
			}
			h.sum = binary.BigEndian.Uint64(f.bytes)
		}
		return nil
	})
	return h, err
}

// exchange asks a node for what it has in some buckets that this node has not.
type exchange struct {
	store   storeID
	buckets []int
	have    map[string]having
}

// Fields of an exchange, and of its answer.
const (
	exchangeStore  = 1
	exchangeBucket = 2
	exchangeHave   = 3

	offerItem = 1
	offerWant = 2
	offerMore = 3
)

func readExchange(b []byte) (m *exchange, err error) {
	m = &exchange{have: map[string]having{}}
	var asked [buckets]bool
	err = fields(b, func(f field) error {
		switch f.number {
		case exchangeStore:
			if len(f.bytes) != len(m.store) {
				return malformed("a store's identity")
			}
			m.store = storeID(f.bytes)
		case exchangeBucket:
			if f.value >= buckets {
				return malformed("a bucket's number")
			}
			if !asked[f.value] {
				asked[f.value] = true
				m.buckets = append(m.buckets, int(f.value))
			}
		case exchangeHave:
			h, err := readHaving(f.bytes)
			if err != nil {
				return err
			}
			m.have[h.key] = h
		}
		return nil
	})
	return m, err
}

// want is something that a node has not, or an older one.
type want struct {
	key  string
	none bool
}

// offer is the answer to an exchange.
type offer struct {
	items []*item // without their values when these are large
	wants []want
	more  bool // ask again: there is more
}

// appendOffered adds an item, without its value if that is large.
func appendOffered(b []byte, it *item) []byte {
	return appendBytes(b, offerItem, it.appendEnvelope(nil, len(it.Value) <= largeValue))
}

func appendWant(b []byte, w want) []byte {
	m := appendString(nil, wantKey, w.key)
	if w.none {
		m = appendUint(m, wantNone, 1)
	}
	return appendBytes(b, offerWant, m)
}

func readOffer(b []byte) (m *offer, err error) {
	m = &offer{}
	err = fields(b, func(f field) error {
		switch f.number {
		case offerItem:
			it, err := readEnvelope(f.bytes)
			if err != nil {
				return err
			}
			m.items = append(m.items, it)
		case offerWant:
			var w want
			if err := fields(f.bytes, func(f field) error {
				switch f.number {
				case wantKey:
					w.key = string(f.bytes)
				case wantNone:
					w.none = f.value != 0
				}
				return nil
			}); err != nil {
				return err
			}
			m.wants = append(m.wants, w)
		case offerMore:
			m.more = f.value != 0
		}
		return nil
	})
	return m, err
}

// readItems decodes what is pushed.
func readItems(b []byte) (items []*item, err error) {
	err = fields(b, func(f field) error {
		if f.number != offerItem {
			return nil
		}
		it, err := readEnvelope(f.bytes)
		if err == nil && !it.whole {
			err = malformed("a value is missing")
		}
		items = append(items, it)
		return err
	})
	return items, err
}

// readUint is the number in a field of a message that has little else.
func readUint(b []byte, number int) (v uint64, err error) {
	err = fields(b, func(f field) error {
		if f.number == number {
			v = f.value
		}
		return nil
	})
	return v, err
}
