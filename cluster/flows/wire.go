package flows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Messages between nodes, of the topic Topic:
//
//	byte     what it is (msgBatch ...)
//	byte     version: 1
//
// A batch of flows has a dictionary of ends, VIPs and backends, by which flows
// name them; clients, of which each is another, stand in the flows themselves:
//
//	uvarint  number of ends; for each:
//	  byte     4 or 6
//	  4 or 16  address
//	  2        port
//	uvarint  number of flows; for each:
//	  byte     kind in bits 0-2, client is IPv6 in bit 3, protocol in bits 4-5
//	  [byte    the protocol, where bits 4-5 are 0]
//	  4 or 16  client's address
//	  2        client's port
//	  uvarint  VIP, its place in the dictionary
//	  uvarint  backend, likewise    } not when
//	  uvarint  life in seconds      } the flow
//	  uvarint  slack in seconds     } has ended
//
// A flow of IPv4 takes 13 bytes so. What follows the flows is not looked at: a
// later version may put something there. A flow of an unknown kind is passed
// over; it has all fields of Established.
//
// A fence and its answer are a number of 8 bytes each; see teller. All numbers
// have the network's byte order.
const (
	msgBatch  = 1 // flows
	msgFence  = 2 // say when what came before has reached your data path
	msgFenced = 3 // it has
	msgAgain  = 4 // something was lost here: tell me all you know

	wireVersion = 1
	headerLen   = 2
)

// Limits of a batch.
const (
	batchFlows = 1024    // that are sent in one
	batchBytes = 1 << 20 // of one that is read
)

// Bits of a flow's first byte.
const (
	flowKind   = 7
	flowClient = 1 << 3
	flowProto  = 4 // shift
)

var protos = [4]uint8{0, 6, 17, 132}

// Errors of messages.
var (
	errTruncated = errors.New("it ends too early")
	errNewer     = errors.New("it has a newer version")
)

// batch is flows on their way into a message.
type batch struct {
	ends  map[netip.AddrPort]uint64
	dict  []byte
	body  []byte
	flows int
}

func (b *batch) reset() {
	clear(b.ends)
	b.dict, b.body, b.flows = b.dict[:0], b.body[:0], 0
}

func (b *batch) full() bool { return b.flows >= batchFlows }

// end is the place of an end in the dictionary.
func (b *batch) end(e netip.AddrPort) uint64 {
	if at, ok := b.ends[e]; ok {
		return at
	}
	if b.ends == nil {
		b.ends = make(map[netip.AddrPort]uint64)
	}
	at := uint64(len(b.ends))
	b.ends[e] = at
	if e.Addr().Unmap().Is4() {
		b.dict = append(b.dict, 4)
	} else {
		b.dict = append(b.dict, 6)
	}
	b.dict = appendEnd(b.dict, e)
	return at
}

func appendEnd(to []byte, e netip.AddrPort) []byte {
	if a := e.Addr().Unmap(); a.Is4() {
		raw := a.As4()
		to = append(to, raw[:]...)
	} else {
		raw := a.As16()
		to = append(to, raw[:]...)
	}
	return binary.BigEndian.AppendUint16(to, e.Port())
}

// add puts a flow into the batch.
func (b *batch) add(f *Flow) {
	head := byte(f.Kind)
	if !f.Client.Addr().Unmap().Is4() {
		head |= flowClient
	}
	for i, p := range protos {
		if i > 0 && p == f.Proto {
			head |= byte(i) << flowProto
		}
	}
	b.body = append(b.body, head)
	if head>>flowProto == 0 {
		b.body = append(b.body, f.Proto)
	}
	b.body = appendEnd(b.body, f.Client)
	b.body = binary.AppendUvarint(b.body, b.end(f.VIP))
	if f.Kind != Ended {
		b.body = binary.AppendUvarint(b.body, b.end(f.Backend))
		b.body = binary.AppendUvarint(b.body, seconds(f.Life))
		b.body = binary.AppendUvarint(b.body, seconds(f.Slack))
	}
	b.flows++
}

// seconds rounds up.
func seconds(d time.Duration) uint64 { return uint64(max(0, (d+time.Second-1)/time.Second)) }

// message is the batch as it is sent.
func (b *batch) message() []byte {
	m := make([]byte, 0, headerLen+2*binary.MaxVarintLen16+len(b.dict)+len(b.body))
	m = append(m, msgBatch, wireVersion)
	m = binary.AppendUvarint(m, uint64(len(b.ends)))
	m = append(m, b.dict...)
	m = binary.AppendUvarint(m, uint64(b.flows))
	return append(m, b.body...)
}

// fenceMessage is a fence, or the answer to one.
func fenceMessage(what byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{what, wireVersion}, number)
}

func againMessage() []byte { return []byte{msgAgain, wireVersion} }

// message is what a peer has said.
type message struct {
	what    byte
	flows   []Flow
	unknown int // flows of kinds that are not known here
	number  uint64
}

// parse reads a message of a peer. Nothing of one that is not well-formed is
// used.
func parse(raw []byte) (message, error) {
	if len(raw) < headerLen {
		return message{}, fmt.Errorf("a message about flows of %d bytes: %w", len(raw), errTruncated)
	}
	m := message{what: raw[0]}
	if raw[1] != wireVersion {
		return m, fmt.Errorf("a message about flows of version %d: %w", raw[1], errNewer)
	}
	var err error
	switch rest := raw[headerLen:]; m.what {
	case msgBatch:
		err = m.batch(rest)
	case msgFence, msgFenced:
		if len(rest) < 8 {
			return m, fmt.Errorf("a fence: %w", errTruncated)
		}
		m.number = binary.BigEndian.Uint64(rest)
	case msgAgain:
	default:
		err = fmt.Errorf("a message about flows of an unknown kind, %d: %w", m.what, errNewer)
	}
	if err != nil {
		return message{what: m.what}, err
	}
	return m, nil
}

// scanner reads fields one after the other. After one that is not there, all
// are zero.
type scanner struct {
	rest []byte
	bad  bool
}

func (s *scanner) take(n int) []byte {
	if s.bad || n > len(s.rest) {
		s.bad = true
		return nil
	}
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) byte() byte {
	if b := s.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (s *scanner) uvarint() uint64 {
	if s.bad {
		return 0
	}
	v, n := binary.Uvarint(s.rest)
	if n <= 0 {
		s.bad = true
		return 0
	}
	s.rest = s.rest[n:]
	return v
}

func (s *scanner) addrPort(is6 bool) netip.AddrPort {
	n := 4
	if is6 {
		n = 16
	}
	b := s.take(n + 2)
	if b == nil {
		return netip.AddrPort{}
	}
	addr, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(b[n:]))
}

// Least bytes that an end and a flow take: no number of them that a message
// claims to have is believed beyond what it has room for.
const (
	leastEnd  = 1 + 4 + 2
	leastFlow = 1 + 4 + 2 + 1
)

func (m *message) batch(raw []byte) error {
	if len(raw) > batchBytes {
		return fmt.Errorf("a batch of flows of %d bytes: want at most %d", len(raw), batchBytes)
	}
	s := scanner{rest: raw}
	n := s.uvarint()
	if s.bad || n > uint64(len(s.rest)/leastEnd) {
		return fmt.Errorf("a batch of flows with %d ends: %w", n, errTruncated)
	}
	ends := make([]netip.AddrPort, n)
	for i := range ends {
		family := s.byte()
		if family != 4 && family != 6 {
			return fmt.Errorf("end %d of a batch of flows: address family %d", i, family)
		}
		ends[i] = s.addrPort(family == 6)
	}
	if n = s.uvarint(); s.bad || n > uint64(len(s.rest)/leastFlow) {
		return fmt.Errorf("a batch of %d flows: %w", n, errTruncated)
	}
	m.flows = make([]Flow, 0, n)
	for i := range n {
		var f Flow
		head := s.byte()
		f.Kind = Kind(head & flowKind)
		if f.Proto = protos[head>>flowProto&3]; f.Proto == 0 {
			f.Proto = s.byte()
		}
		f.Client = s.addrPort(head&flowClient != 0)
		vip, backend := s.uvarint(), uint64(0)
		if f.Kind != Ended {
			backend = s.uvarint()
			f.Life = time.Duration(min(s.uvarint(), maxLife)) * time.Second
			f.Slack = time.Duration(min(s.uvarint(), maxLife)) * time.Second
		}
		switch {
		case s.bad:
			return fmt.Errorf("flow %d of a batch: %w", i, errTruncated)
		case vip >= uint64(len(ends)) || f.Kind != Ended && backend >= uint64(len(ends)):
			return fmt.Errorf("flow %d of a batch: no such end", i)
		case f.Kind == 0 || f.Kind >= kinds:
			m.unknown++
			continue
		}
		f.VIP = ends[vip]
		if f.Kind != Ended {
			f.Backend = ends[backend]
		}
		m.flows = append(m.flows, f)
	}
	return nil
}

// maxLife is the longest life that is believed, in seconds: beyond any idle
// time that can be configured.
const maxLife = 30 * 24 * 3600
