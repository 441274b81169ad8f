package store

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"fairlead/cluster"
)

// Every message begins with two bytes: the version of its format, and what it
// is. What follows are fields in the encoding of protocol buffers, so that a
// field that a node does not know is left out by it.
const wireVersion = 1

// kind is what a message is.
type kind byte

const (
	kindEntry    kind = 'e' // gossip: an envelope; without a value, somebody has it
	kindCompare  kind = 'c'
	kindExchange kind = 'x'
	kindPush     kind = 'p'
	kindFetch    kind = 'f'
	kindDone     kind = 'd'
	kindRelay    kind = 'r' // an envelope as in kindEntry, and who is to have it next
)

// Limits of what is shared.
const (
	MaxValue = 16 << 20 // bytes of one value
	MaxKey   = 512      // bytes of a key
	maxName  = 255      // bytes of a node's name
	maxProof = 512      // bytes of a proof
)

// Fields of an envelope. Its header is what is signed, and is carried on as it
// was received: fields that this node does not know are part of it.
const (
	envelopeHeader    = 1
	envelopeSignature = 2
	envelopeProof     = 3
	envelopeValue     = 4
)

// Fields of a header.
const (
	headerKey     = 1
	headerWall    = 2
	headerCounter = 3
	headerWriter  = 4
	headerDeleted = 5
	headerSize    = 6 // of the value
	headerDigest  = 7 // SHA-256 of the value
)

// signedContext keeps a signature of a header from being one of anything else.
const signedContext = "shared entry 1"

// item is an entry as it travels and is kept. Items do not change.
type item struct {
	cluster.Entry
	header    []byte
	hash      [sha256.Size]byte // of the header
	digest    [sha256.Size]byte // of the value
	size      int
	signature []byte
	proof     []byte
	whole     bool   // the value is here
	seq       uint64 // when it came to this node: see history.go
}

// errMalformed says that something is not in the format it claims.
var errMalformed = errors.New("malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", errMalformed, what) }

// newHeader encodes what is signed.
func newHeader(e cluster.Entry, digest [sha256.Size]byte) []byte {
	b := make([]byte, 0, 64+len(e.Key)+len(e.Writer))
	b = appendString(b, headerKey, e.Key)
	b = appendUint(b, headerWall, protowire.EncodeZigZag(e.Version.Wall))
	b = appendUint(b, headerCounter, uint64(e.Version.Counter))
	b = appendString(b, headerWriter, e.Writer)
	if e.Deleted {
		return appendUint(b, headerDeleted, 1)
	}
	b = appendUint(b, headerSize, uint64(len(e.Value)))
	return appendBytes(b, headerDigest, digest[:])
}

// newItem makes and signs an entry of this node.
func newItem(e cluster.Entry, by Identity) *item {
	it := &item{Entry: e, size: len(e.Value), whole: true}
	if !e.Deleted {
		it.digest = sha256.Sum256(e.Value)
	}
	it.header = newHeader(e, it.digest)
	it.hash = sha256.Sum256(it.header)
	it.proof = by.Proof()
	it.signature = by.Sign(signedContext, it.header)
	return it
}

// bytes is what an item takes, about.
func (it *item) bytes() int {
	return len(it.header) + len(it.signature) + len(it.Value) + 64
}

// appendEnvelope encodes an item, with its value or without.
func (it *item) appendEnvelope(b []byte, value bool) []byte {
	b = appendBytes(b, envelopeHeader, it.header)
	b = appendBytes(b, envelopeSignature, it.signature)
	b = appendBytes(b, envelopeProof, it.proof)
	if value && !it.Deleted {
		b = appendBytes(b, envelopeValue, it.Value)
	}
	return b
}

// readEnvelope decodes an item. It keeps no part of b. That the item is what its
// signature says is for check to find out.
func readEnvelope(b []byte) (*item, error) {
	it := &item{}
	var value, header []byte
	valued := false
	if err := fields(b, func(f field) error {
		switch f.number {
		case envelopeHeader:
			header = f.bytes
		case envelopeSignature:
			it.signature = f.bytes
		case envelopeProof:
			it.proof = f.bytes
		case envelopeValue:
			value, valued = f.bytes, true
		}
		return nil
	}); err != nil {
		return nil, err
	}
	switch {
	case len(header) == 0 || len(header) > MaxKey+2*maxName+1024:
		return nil, malformed("an entry's header")
	case len(it.signature) == 0 || len(it.signature) > maxProof || len(it.proof) > maxProof:
		return nil, malformed("an entry's signature or proof")
	}
	// One allocation for what is kept for long.
	kept := make([]byte, 0, len(header)+len(it.signature)+len(it.proof))
	kept = append(append(append(kept, header...), it.signature...), it.proof...)
	h, s := len(header), len(header)+len(it.signature)
	it.header, it.signature, it.proof = kept[:h:h], kept[h:s:s], kept[s:]
	if err := it.readHeader(); err != nil {
		return nil, err
	}
	switch {
	case it.Deleted && valued:
		return nil, malformed("a tombstone has a value")
	case it.Deleted:
		it.whole = true
	case valued:
		if len(value) != it.size || sha256.Sum256(value) != it.digest {
			return nil, malformed("a value is not the one that was signed")
		}
		it.Value, it.whole = append([]byte(nil), value...), true
	}
	return it, nil
}

func (it *item) readHeader() error {
	it.hash = sha256.Sum256(it.header)
	digested := false
	err := fields(it.header, func(f field) error {
		switch f.number {
		case headerKey:
			it.Key = string(f.bytes)
		case headerWall:
			it.Version.Wall = protowire.DecodeZigZag(f.value)
		case headerCounter:
			if f.value > 1<<32-1 {
				return malformed("an entry's counter")
			}
			it.Version.Counter = uint32(f.value)
		case headerWriter:
			it.Writer = string(f.bytes)
		case headerDeleted:
			it.Deleted = f.value != 0
		case headerSize:
			if f.value > MaxValue {
				return errOversize
			}
			it.size = int(f.value)
		case headerDigest:
			if len(f.bytes) != sha256.Size {
				return malformed("an entry's digest")
			}
			it.digest, digested = [sha256.Size]byte(f.bytes), true
		}
		return nil
	})
	it.Version.Writer = it.Writer
	switch {
	case err != nil:
		return err
	case len(it.Key) > MaxKey:
		return errOversize
	case it.Key == "" || it.Writer == "" || len(it.Writer) > maxName:
		return malformed("an entry's key or writer")
	case it.Deleted == digested || it.Deleted && it.size != 0:
		return malformed("an entry's digest")
	}
	return nil
}

var errOversize = fmt.Errorf("a key has at most %d bytes and a value at most %d", MaxKey, MaxValue)

// frame begins a message.
func frame(k kind) []byte { return []byte{wireVersion, byte(k)} }

// unknownError says that a message is of a kind or version that this software
// does not know: that of the other node is newer.
type unknownError struct{ version, kind byte }

func (e *unknownError) Error() string {
	return fmt.Sprintf("version %d, kind %q of a message is not known to this software", e.version, e.kind)
}

// open gives the kind and the fields of a message.
func open(m []byte) (kind, []byte, error) {
	if len(m) < 2 {
		return 0, nil, malformed("a message of less than two bytes")
	}
	if m[0] != wireVersion {
		return 0, nil, &unknownError{m[0], m[1]}
	}
	switch k := kind(m[1]); k {
	case kindEntry, kindCompare, kindExchange, kindPush, kindFetch, kindDone, kindRelay:
		return k, m[2:], nil
	}
	return 0, nil, &unknownError{m[0], m[1]}
}

// field is one field of a message: a number, or bytes.
type field struct {
	number int
	value  uint64
	bytes  []byte
}

// fields calls f with the fields of a message in order. Those of types that this
// format does not use are left out.
func fields(b []byte, f func(field) error) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed("a field's tag")
		}
		b = b[n:]
		this := field{number: int(number)}
		switch typ {
		case protowire.VarintType:
			this.value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			this.bytes, n = protowire.ConsumeBytes(b)
		default:
			if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
				return malformed("a field")
			}
			b = b[n:]
			continue
		}
		if n < 0 {
			return malformed("a field")
		}
		b = b[n:]
		if err := f(this); err != nil {
			return err
		}
	}
	return nil
}

func appendUint(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}

func appendString(b []byte, number protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), v)
}
