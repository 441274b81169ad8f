// Package bfd is bidirectional forwarding detection with routers beside this
// node (RFC 5880, RFC 5881): single-hop, asynchronous, without authentication,
// over IPv4 and IPv6, link-local addresses among them.
//
// It is there for the router's sake, which learns within a second that the node
// is dead. That a router is dead the node need not know so fast: it learns no
// routes from it.
package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// State is the state of a session, with the numbers of RFC 5880, section 4.1.
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

var stateNames = [...]string{"admin_down", "down", "init", "up"}

// String names the state as API, metrics and logs do.
func (s State) String() string { return stateNames[s&3] }

// Diagnostic says why a session went down.
type diagnostic uint8

const (
	diagNone         diagnostic = 0
	diagExpired      diagnostic = 1
	diagNeighborDown diagnostic = 3
	diagAdminDown    diagnostic = 7
)

// A control packet (RFC 5880, section 4.1):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//	|                       My Discriminator                        |
//	|                      Your Discriminator                       |
//	|                    Desired Min TX Interval                    |
//	|                   Required Min RX Interval                    |
//	|                 Required Min Echo RX Interval                 |
const (
	offDiag      = 0
	offFlags     = 1
	offMult      = 2
	offLength    = 3
	offMine      = 4
	offYours     = 8
	offDesiredTX = 12
	offRequireRX = 16
	packetSize   = 24

	version = 1

	flagPoll       = 0x20
	flagFinal      = 0x10
	flagAuth       = 0x04
	flagMultipoint = 0x01
)

// packet is a control packet.
type packet struct {
	state       State
	diag        diagnostic
	poll, final bool
	mult        uint8
	mine, yours uint32
	desiredTX   time.Duration // whole microseconds
	requireRX   time.Duration
}

func (p *packet) append(b []byte) []byte {
	flags := byte(p.state) << 6
	if p.poll {
		flags |= flagPoll
	}
	if p.final {
		flags |= flagFinal
	}
	b = append(b, version<<5|byte(p.diag), flags, p.mult, packetSize)
	b = binary.BigEndian.AppendUint32(b, p.mine)
	b = binary.BigEndian.AppendUint32(b, p.yours)
	b = binary.BigEndian.AppendUint32(b, uint32(p.desiredTX.Microseconds()))
	b = binary.BigEndian.AppendUint32(b, uint32(p.requireRX.Microseconds()))
	return binary.BigEndian.AppendUint32(b, 0) // no echo
}

var errPacket = errors.New("no BFD control packet")

// parse reads a control packet, and refuses what RFC 5880, section 6.8.6 has
// discarded whatever the session.
func parse(b []byte) (p packet, err error) {
	if len(b) < packetSize {
		return p, fmt.Errorf("%w: %d bytes", errPacket, len(b))
	}
	flags := b[offFlags]
	p = packet{
		state: State(flags >> 6), diag: diagnostic(b[offDiag] & 0x1f), poll: flags&flagPoll != 0, final: flags&flagFinal != 0,
		mult: b[offMult], mine: binary.BigEndian.Uint32(b[offMine:]), yours: binary.BigEndian.Uint32(b[offYours:]),
		desiredTX: time.Duration(binary.BigEndian.Uint32(b[offDesiredTX:])) * time.Microsecond,
		requireRX: time.Duration(binary.BigEndian.Uint32(b[offRequireRX:])) * time.Microsecond,
	}
	switch length := int(b[offLength]); {
	case b[offDiag]>>5 != version:
		return p, fmt.Errorf("%w: version %d", errPacket, b[offDiag]>>5)
	case length < packetSize || length > len(b):
		return p, fmt.Errorf("%w: its length is %d, and %d bytes have come", errPacket, length, len(b))
	case flags&flagAuth != 0:
		return p, fmt.Errorf("%w: it is authenticated, and no key is agreed upon", errPacket)
	case flags&flagMultipoint != 0:
		return p, fmt.Errorf("%w: the multipoint bit is set", errPacket)
	case p.mult == 0:
		return p, fmt.Errorf("%w: its detection multiplier is 0", errPacket)
	case p.mine == 0:
		return p, fmt.Errorf("%w: its discriminator is 0", errPacket)
	case p.yours == 0 && p.state != Down && p.state != AdminDown:
		return p, fmt.Errorf("%w: it is %s and names no session", errPacket, p.state)
	}
	return p, nil
}
