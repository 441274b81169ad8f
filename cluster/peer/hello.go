package peer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A hello is
//
//	magic (4 bytes) | length (2 bytes, big-endian) | JSON
//
// and comes first on a connection, from either side; the acceptor's is the
// answer to the dialer's. Fields that are not known are ignored.
const (
	helloMagic = "FLP1"
	maxHello   = 2048 // bytes of JSON
)

// What a connection is for.
const (
	useMember = "member" // messages and calls, both ways
	useVisit  = "visit"  // calls of the dialer: see Peers.Dial
)

// hello is what a node says of itself, and the acceptor of the connection.
type hello struct {
	Node     string `json:"node"`
	Boot     string `json:"boot"` // another one each time that the process starts
	Use      string `json:"use,omitempty"`
	WireMin  int    `json:"wire_min"`
	WireMax  int    `json:"wire_max"`
	Software string `json:"software,omitempty"`
	Refused  string `json:"refused,omitempty"` // why the connection is not taken: a code
	Why      string `json:"why,omitempty"`     // the same in words
}

// Codes of refusals. Others are taken for refusals, too.
const (
	refusedVersion = "version" // no version that both speak
	refusedTaken   = "taken"   // another node has the name
	refusedSelf    = "self"    // the node has dialed itself
	refusedKnown   = "known"   // there is a better connection
	refusedBusy    = "busy"    // there are too many
	refusedBad     = "bad"     // the hello makes no sense
)

// Errors of connections that the other node has refused: see RefusedError.
var (
	ErrVersion   = errors.New("no version of the protocol that both nodes speak")
	ErrNameTaken = errors.New("another node has this node's name")
	ErrSelf      = errors.New("this is the node itself")
	errKnown     = errors.New("there is a better connection")
	errBusy      = errors.New("the node has too many connections")
)

// RefusedError says that a node has refused a connection, and why. It is one of
// ErrVersion, ErrNameTaken, ErrSelf (errors.Is), or another one.
type RefusedError struct {
	Node   string // that refuses
	Code   string
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("node %q refuses: %s", e.Node, e.Reason) }

func (e *RefusedError) Unwrap() error {
	switch e.Code {
	case refusedVersion:
		return ErrVersion
	case refusedTaken:
		return ErrNameTaken
	case refusedSelf:
		return ErrSelf
	case refusedKnown:
		return errKnown
	case refusedBusy:
		return errBusy
	}
	return nil
}

func writeHello(w io.Writer, h *hello) error {
	if len(h.Why) > 1024 {
		h.Why = h.Why[:1024]
	}
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(body) > maxHello {
		return fmt.Errorf("a hello of %d bytes: want at most %d", len(body), maxHello)
	}
	out := binary.BigEndian.AppendUint16([]byte(helloMagic), uint16(len(body)))
	_, err = w.Write(append(out, body...))
	return err
}

func readHello(r io.Reader) (*hello, error) {
	var head [len(helloMagic) + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return nil, fmt.Errorf("hello: it begins with %q, want %q: this is no node's stream", head[:len(helloMagic)], helloMagic)
	}
	length := binary.BigEndian.Uint16(head[len(helloMagic):])
	if length > maxHello {
		return nil, fmt.Errorf("hello: %d bytes, want at most %d", length, maxHello)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	h := &hello{}
	if err := json.Unmarshal(body, h); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	return h, nil
}

// common is the newest version that both sides speak.
func common(a, b *hello) (int, error) {
	v := min(a.WireMax, b.WireMax)
	if v < 1 || v < max(a.WireMin, b.WireMin) {
		return 0, fmt.Errorf("%w: node %q speaks %d to %d, node %q %d to %d", ErrVersion, a.Node, a.WireMin, a.WireMax, b.Node, b.WireMin, b.WireMax)
	}
	return v, nil
}
