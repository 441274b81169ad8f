package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// A message between two nodes, version 1:
//
//	version  1 byte
//	kind     1 byte
//	epoch    8 bytes, big endian: another one after each start of the sender
//	sequence varint: of the last change that the message tells of, or presupposes
//	whole, change: count as a varint, and so many views:
//	    ID       8 bytes, big endian
//	    state    1 byte
//	    age      varint, in units of 100 ms: how long it has been so
//	    from state 2 on: length of the reason, 1 byte, and the reason in UTF-8
//
// Ages and not times, so that clocks may differ. What follows is of a later version
// and is ignored, as are kinds and states that are not known.
const wireVersion = 1

// kind is what a message is.
type kind byte

const (
	first  kind = 1 // part of all views of the sender: the first,
	middle kind = 2 // one after it,
	last   kind = 3 // the last,
	only   kind = 4 // or the only one
	change kind = 5 // the views that the change of this sequence number has changed
	beat   kind = 6 // nothing has changed since
	want   kind = 7 // please tell all your views
)

// States on the wire.
const (
	wireNone = 0 // no view any more
	wireUp   = 1
	wireDown = 2
	// wireUnable says that the sender cannot check it.
	wireUnable = 3
)

// Limits of messages.
const (
	mostInMessage = 4096
	mostReason    = 80 // bytes
)

const ageUnit = 100 * time.Millisecond

// told is a view in a message.
type told struct {
	id     ID
	state  State // Unknown: there is none any more
	age    time.Duration
	reason string
}

// message is a message.
type message struct {
	kind     kind
	epoch    uint64
	sequence uint64
	views    []told
}

// Errors of messages.
var (
	errShort   = errors.New("the message is cut off")
	errVersion = errors.New("the message is of another version")
	errKind    = errors.New("the message is of an unknown kind")
	errMany    = errors.New("the message has too many views")
)

func (m *message) hasViews() bool { return m.kind >= first && m.kind <= change }

// append encodes the message.
func (m *message) append(b []byte) []byte {
	b = append(b, wireVersion, byte(m.kind))
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = binary.AppendUvarint(b, m.sequence)
	if !m.hasViews() {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(m.views)))
	for i := range m.views {
		v := &m.views[i]
		b = binary.BigEndian.AppendUint64(b, uint64(v.id))
		b = append(b, wireState[v.state])
		b = binary.AppendUvarint(b, uint64(max(v.age, 0)/ageUnit))
		if wireState[v.state] >= wireDown {
			reason := shorten(v.reason)
			b = append(b, byte(len(reason)))
			b = append(b, reason...)
		}
	}
	return b
}

var wireState = [...]byte{Unknown: wireNone, Up: wireUp, Down: wireDown, Unable: wireUnable}

// shorten cuts a reason to what a message carries, between two characters.
func shorten(reason string) string {
	if len(reason) <= mostReason {
		return reason
	}
	end := mostReason
	for end > 0 && !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}

// parse decodes a message, which it does not keep.
func parse(b []byte) (*message, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	if b[0] != wireVersion {
		return nil, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	if len(b) < 10 {
		return nil, errShort
	}
	m := &message{kind: kind(b[1]), epoch: binary.BigEndian.Uint64(b[2:])}
	if m.kind < first || m.kind > want {
		return nil, fmt.Errorf("%w: %d", errKind, m.kind)
	}
	b = b[10:]
	var ok bool
	if m.sequence, b, ok = uvarint(b); !ok {
		return nil, errShort
	}
	if !m.hasViews() {
		return m, nil
	}
	count, b, ok := uvarint(b)
	if !ok {
		return nil, errShort
	}
	if count > mostInMessage {
		return nil, fmt.Errorf("%w: %d", errMany, count)
	}
	const least = 8 + 1 + 1
	if uint64(len(b)) < count*least {
		return nil, errShort
	}
	m.views = make([]told, count)
	for i := range m.views {
		if b, ok = m.views[i].parse(b); !ok {
			return nil, errShort
		}
	}
	return m, nil
}

func (v *told) parse(b []byte) ([]byte, bool) {
	if len(b) < 10 {
		return nil, false
	}
	v.id = ID(binary.BigEndian.Uint64(b))
	state := b[8]
	units, b, ok := uvarint(b[9:])
	if !ok {
		return nil, false
	}
	v.age = time.Duration(min(units, uint64(10*365*24*time.Hour/ageUnit))) * ageUnit
	switch state {
	case wireUp:
		v.state = Up
	case wireDown:
		v.state = Down
	case wireUnable:
		v.state = Unable
	}
	if state >= wireDown {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return nil, false
		}
		v.reason = cleanText(b[1 : 1+int(b[0])])
		b = b[1+int(b[0]):]
	}
	return b, true
}

// cleanText is text of another node without what has no place in a log line.
func cleanText(b []byte) string {
	out := make([]rune, 0, len(b))
	for _, r := range string(b) {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}

func uvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}
