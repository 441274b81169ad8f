package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// A file is a sequence of records. Each has, in network byte order, the length
// of its body, a CRC-32C of the body, and the body: what it is, and fields as
// in a message.
const (
	recordHead = 8
	maxRecord  = MaxValue + 64<<10
)

// What records are.
const (
	recordMeta  = 'm' // whose file it is: the first one
	recordItem  = 'i' // an envelope, and when it came
	recordDrop  = 'd' // an item is forgotten, without a tombstone
	recordPeer  = 'p' // how far a node and this one have been equal
	recordClock = 'c' // the greatest version that was given or seen
	recordEnd   = 'e' // of a snapshot: how many items it has
)

// Fields of records.
const (
	metaStore = 1

	itemEnvelope = 1
	itemSeq      = 2

	dropKey  = 1
	dropHash = 2

	peerName  = 1
	peerStore = 2
	peerSeq   = 3

	clockWall    = 1
	clockCounter = 2

	endCount = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("it is damaged")

// appendRecord adds a record whose body is made by f.
func appendRecord(b []byte, what byte, f func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = f(append(b, what))
	body := b[start+recordHead:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// nextRecord takes a record apart. It fails with errDamaged when there is none
// that is whole.
func nextRecord(b []byte) (what byte, body, rest []byte, err error) {
	if len(b) < recordHead {
		return 0, nil, nil, errDamaged
	}
	n, sum := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	b = b[recordHead:]
	if n == 0 || n > maxRecord || uint64(n) > uint64(len(b)) || crc32.Checksum(b[:n], castagnoli) != sum {
		return 0, nil, nil, errDamaged
	}
	return b[0], b[1:n], b[n:], nil
}

// storeID tells one store of a node from what it has after it has lost something.
type storeID [16]byte

func newStoreID() (id storeID) {
	rand.Read(id[:])
	return id
}

func appendItemRecord(b []byte, it *item) []byte {
	return appendRecord(b, recordItem, func(b []byte) []byte {
		b = appendUint(b, itemSeq, it.seq)
		b = protowire.AppendTag(b, itemEnvelope, protowire.BytesType)
		return protowire.AppendBytes(b, it.appendEnvelope(nil, true))
	})
}

func readItemRecord(body []byte) (*item, error) {
	var it *item
	var seq uint64
	err := fields(body, func(f field) (err error) {
		switch f.number {
		case itemEnvelope:
			it, err = readEnvelope(f.bytes)
		case itemSeq:
			seq = f.value
		}
		return err
	})
	if err != nil || it == nil || !it.whole {
		return nil, errDamaged
	}
	it.seq = seq
	return it, nil
}

func appendDropRecord(b []byte, it *item) []byte {
	return appendRecord(b, recordDrop, func(b []byte) []byte {
		return appendBytes(appendString(b, dropKey, it.Key), dropHash, it.hash[:])
	})
}
