package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"fairlead/cluster"
)

// description is what a node says of itself: its Node, and which of two
// descriptions of one key is the newer.
type description struct {
	cluster.Node
	Epoch    uint64 // of the process: the later one has the greater
	Sequence uint64 // within the process
}

// newer says that d is a later one of the same node than o.
func (d *description) newer(o *description) bool {
	return d.Epoch > o.Epoch || d.Epoch == o.Epoch && d.Sequence > o.Sequence
}

// A description is written as one byte for the format and then fields: tag and
// length of one byte each, and what is in it. Fields that a node does not know it
// skips; the last one is the signature over all before.
const (
	metaFormat = 1

	fieldProof     = 1
	fieldGossip    = 2
	fieldStream    = 3
	fieldSoftware  = 4
	fieldWire      = 5 // two uvarints
	fieldStarted   = 6 // milliseconds since 1970
	fieldEpoch     = 7 // two uvarints: epoch and sequence
	fieldLeaving   = 8 // there: it is about to leave
	fieldSignature = 255

	maxSoftware   = 64
	signatureSize = 64
)

// signedMeta is what the signature is for.
const signedMeta = "member meta"

var errMeta = errors.New("what it says of itself cannot be read")

// encode writes and signs a description.
func (d *description) encode(id Identity) ([]byte, error) {
	out := []byte{metaFormat}
	add := func(tag byte, value []byte) {
		out = append(append(out, tag, byte(len(value))), value...)
	}
	gossip, err := d.Gossip.MarshalBinary()
	if err != nil {
		return nil, err
	}
	stream, err := d.Stream.MarshalBinary()
	if err != nil {
		return nil, err
	}
	software := d.Software
	if len(software) > maxSoftware {
		software = software[:maxSoftware]
	}
	add(fieldProof, id.Proof())
	add(fieldGossip, gossip)
	add(fieldStream, stream)
	add(fieldSoftware, []byte(software))
	add(fieldWire, uvarints(uint64(d.WireMin), uint64(d.WireMax)))
	add(fieldStarted, uvarints(uint64(max(d.Started.UnixMilli(), 0))))
	add(fieldEpoch, uvarints(d.Epoch, d.Sequence))
	if d.Leaving {
		add(fieldLeaving, nil)
	}
	add(fieldSignature, id.Sign(signedMeta, out))
	if len(out) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("what this node says of itself has %d bytes, and may have %d", len(out), memberlist.MetaMaxSize)
	}
	return out, nil
}

func uvarints(values ...uint64) []byte {
	var out []byte
	for _, v := range values {
		out = binary.AppendUvarint(out, v)
	}
	return out
}

// readUvarints reads as many numbers as there are places for.
func readUvarints(b []byte, into ...*uint64) error {
	for _, p := range into {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return errMeta
		}
		*p, b = v, b[n:]
	}
	return nil
}

// decode reads what a node says of itself, and verifies that it is the node of
// that name that says so. All fields but leaving are required.
func decode(id Identity, name string, meta []byte) (*description, error) {
	if len(meta) < 2+2+signatureSize || len(meta) > memberlist.MetaMaxSize {
		return nil, errMeta
	}
	body, tail := meta[:len(meta)-2-signatureSize], meta[len(meta)-2-signatureSize:]
	if body[0] != metaFormat || tail[0] != fieldSignature || tail[1] != signatureSize {
		return nil, errMeta
	}
	d := &description{}
	d.Name, d.State = name, cluster.Alive
	var proof []byte
	have := map[byte]bool{}
	for rest := body[1:]; len(rest) > 0; {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return nil, errMeta
		}
		tag, value := rest[0], rest[2:2+int(rest[1])]
		rest = rest[2+int(rest[1]):]
		if have[tag] {
			return nil, errMeta
		}
		have[tag] = true
		if tag == fieldProof {
			proof = value
		} else if err := d.field(tag, value); err != nil {
			return nil, err
		}
	}
	for tag := byte(fieldProof); tag <= fieldEpoch; tag++ {
		if !have[tag] {
			return nil, errMeta
		}
	}
	key, err := id.VerifyProof(name, proof)
	if err != nil {
		return nil, err
	}
	d.Key = key
	if err := id.Verify(name, proof, signedMeta, body, tail[2:]); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *description) field(tag byte, value []byte) error {
	switch tag {
	case fieldGossip:
		return address(&d.Gossip, value)
	case fieldStream:
		return address(&d.Stream, value)
	case fieldSoftware:
		if len(value) > maxSoftware {
			return errMeta
		}
		d.Software = string(value)
	case fieldWire:
		var least, most uint64
		if err := readUvarints(value, &least, &most); err != nil || least > most || most > 1<<16 {
			return errMeta
		}
		d.WireMin, d.WireMax = int(least), int(most)
	case fieldStarted:
		var ms uint64
		if err := readUvarints(value, &ms); err != nil || ms > 1<<48 {
			return errMeta
		}
		d.Started = time.UnixMilli(int64(ms))
	case fieldEpoch:
		return readUvarints(value, &d.Epoch, &d.Sequence)
	case fieldLeaving:
		d.Leaving = true
	}
	return nil
}

// address reads where a node is reached: nowhere else than at one address.
func address(into *netip.AddrPort, value []byte) error {
	if err := into.UnmarshalBinary(value); err != nil {
		return errMeta
	}
	a := into.Addr()
	if a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || into.Port() == 0 {
		return errMeta
	}
	return nil
}
