package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// Lengths of headers, offsets as bpf/bench.c has them, and TCP flags.
const (
	ethernetLen  = 14
	ipv4Len      = 20
	udpLen       = 8
	tcpLen       = 20
	headerLen    = 56 // what the generator writes anew in every frame
	minFrameLen  = 60
	maxFrameLen  = 1514
	stampLen     = 8
	protocolTCP  = 6
	protocolUDP  = 17
	protocolIPIP = 4
	tcpSYN       = 0x02
	tcpACK       = 0x10
)

// Flow f comes from client f / portsPerClient, port firstPort + f % portsPerClient.
const (
	portsPerClient = 1 << 15
	firstPort      = 0x4000
)

// openingRate is how many flows a second are begun before measuring: slow
// enough for every contestant to note each of them.
const openingRate = 250_000

// stream is what the generator sends.
type stream struct {
	Case
	srcMAC, dstMAC [6]byte
	vip            netip.AddrPort

	// opening is how often all flows are gone through in order, at
	// openingRate, before the stream runs at its own rate.
	opening int
	// openWithSYN makes the opening segments of TCP SYNs. Without, flows begin
	// in the middle: a connection tracker that saw only a SYN would hold the
	// segments that follow, of a handshake nobody answers, for invalid.
	openWithSYN bool
	// stamped puts the time of sending into the last bytes of the frame.
	stamped bool
	// discard drops each frame when it is made.
	discard bool
}

// flags are those of segments behind the opening ones.
func (s *stream) flags() byte {
	if s.Flows == endless {
		return tcpSYN
	}
	return tcpACK
}

func (s *stream) check() error {
	if s.Size < minFrameLen || s.Size > maxFrameLen {
		return fmt.Errorf("frames of %d bytes: there can be %d to %d", s.Size, minFrameLen, maxFrameLen)
	}
	if s.stamped && (s.Protocol != udp || s.Size%2 != 0) {
		return fmt.Errorf("only UDP frames of even length can carry a time")
	}
	return nil
}

// openingFrames is how many frames the stream begins with before it can be measured.
func (s *stream) openingFrames() uint64 {
	return uint64(s.opening) * uint64(s.Flows)
}

// frame is the stream's frame without what differs between flows: source port,
// lower half of the source address, TCP flags and checksums are zero.
func (s *stream) frame() []byte {
	f := make([]byte, s.Size)
	copy(f, s.dstMAC[:])
	copy(f[6:], s.srcMAC[:])
	binary.BigEndian.PutUint16(f[12:], 0x0800)

	ip := f[ethernetLen:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6] = 0x40 // don't fragment
	ip[8] = 64   // TTL
	ip[9] = protocolUDP
	copy(ip[12:], clients.Addr().AsSlice())
	copy(ip[16:], s.vip.Addr().AsSlice())

	l4 := ip[ipv4Len:]
	binary.BigEndian.PutUint16(l4[2:], s.vip.Port())
	payload := l4[udpLen:]
	if s.Protocol == tcp {
		ip[9] = protocolTCP
		binary.BigEndian.PutUint32(l4[4:], 1) // sequence number
		l4[12] = tcpLen / 4 << 4
		binary.BigEndian.PutUint16(l4[14:], 65535) // window
		payload = l4[tcpLen:]
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	for i := range payload {
		payload[i] = byte(i)
	}
	if s.stamped {
		clear(f[len(f)-stampLen:])
	}
	return f
}

// pseudoHeaderSum is the part of TCP's and UDP's checksum that is not in the
// segment (RFC 9293 section 3.1, RFC 768).
func pseudoHeaderSum(ip []byte) uint64 {
	var length [4]byte
	binary.BigEndian.PutUint16(length[2:], uint16(len(ip)-ipv4Len))
	return sum(ip[12:20]) + sum([]byte{0, ip[9]}) + sum(length[:])
}

// sum adds up 16-bit words in the machine's byte order; an odd last byte has a
// zero behind it (RFC 1071).
func sum(b []byte) uint64 {
	var s uint64
	for ; len(b) >= 2; b = b[2:] {
		s += uint64(binary.NativeEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint64(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	return s
}

// variables are the generator's constants for the stream.
func (s *stream) variables() map[string]any {
	f := s.frame()
	ip := f[ethernetLen:]
	var header [headerLen / 8]uint64
	for i := range header {
		header[i] = binary.NativeEndian.Uint64(f[8*i:])
	}
	return map[string]any{
		objectVarHeader:     header,
		objectVarIpSum:      uint32(sum(ip[:ipv4Len])),
		objectVarL4Sum:      uint32(pseudoHeaderSum(ip) + sum(ip[ipv4Len:])),
		objectVarTcp:        bit(s.Protocol == tcp),
		objectVarFlags:      s.flags(),
		objectVarOpeningSyn: bit(s.openWithSYN),
		objectVarFlows:      uint32(s.Flows),
		objectVarOpening:    s.openingFrames(),
		objectVarOpeningGap: uint64(time.Second / openingRate),
		objectVarGap:        s.gap(),
		objectVarStamped:    bit(s.stamped),
		objectVarDiscard:    bit(s.discard),
	}
}

func (s *stream) gap() uint64 {
	if s.Rate == 0 {
		return 0
	}
	return uint64(time.Second) / uint64(s.Rate)
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// setVariables sets constants of the programs before they are loaded.
func setVariables(spec *ebpf.CollectionSpec, values map[string]any) error {
	for name, value := range values {
		v := spec.Variables[name]
		if v == nil {
			return fmt.Errorf("bench.c has no variable %s", name)
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("variable %s: %w", name, err)
		}
	}
	return nil
}
