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
	ipv6Len      = 40
	udpLen       = 8
	tcpLen       = 20
	headerLen    = 72 // what the generator writes anew in a frame at most
	minFrameLen  = 60
	maxFrameLen  = 1514
	stampLen     = 8
	protocolIPv4 = 4
	protocolTCP  = 6
	protocolUDP  = 17
	protocolIPv6 = 41
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
	tcpSYN       = 0x02
	tcpACK       = 0x10
)

// Flow f comes from client f / portsPerClient, port firstPort + f % portsPerClient.
const (
	portsPerClient = 1 << 15
	firstPort      = 0x4000
)

// openingRate is how many flows a second are begun before measuring: slow
// enough for every contestant to note each of them. settlingRate is how many
// frames a second go on with them.
const (
	openingRate  = 250_000
	settlingRate = 500_000
)

// stream is what the generator sends.
type stream struct {
	Case
	srcMAC, dstMAC [6]byte
	clients        netip.Addr // the first
	vip            netip.AddrPort

	// opening is how often all flows are gone through in order, at
	// openingRate, before the stream runs at its own rate.
	opening int
	// settling is how often all flows are gone through in order once more after
	// that, at settlingRate.
	settling int
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
	if least := s.least(); s.Size < least || s.Size > maxFrameLen {
		return fmt.Errorf("frames of %d bytes: there can be %d to %d", s.Size, least, maxFrameLen)
	}
	if s.stamped && (s.Protocol != udp || s.Size%2 != 0) {
		return fmt.Errorf("only UDP frames of even length can carry a time")
	}
	return nil
}

// openingFrames is how many frames the stream begins flows with.
func (s *stream) openingFrames() uint64 {
	return uint64(s.opening) * uint64(s.Flows)
}

// settledFrames is how many frames pass before the stream can be measured.
func (s *stream) settledFrames() uint64 {
	return uint64(s.opening+s.settling) * uint64(s.Flows)
}

// settleTime is how long they take.
func (s *stream) settleTime() time.Duration {
	return time.Duration(s.opening*s.Flows)*(time.Second/openingRate) + time.Duration(s.settling*s.Flows)*(time.Second/settlingRate)
}

// least is the length of the stream's shortest frame.
func (s *stream) least() int {
	return max(minFrameLen, s.l4()+s.l4Header())
}

// l4 is where the header of TCP or UDP begins.
func (s *stream) l4() int {
	if s.IPv6 {
		return ethernetLen + ipv6Len
	}
	return ethernetLen + ipv4Len
}

func (s *stream) l4Header() int {
	if s.Protocol == tcp {
		return tcpLen
	}
	return udpLen
}

func (s *stream) protocol() byte {
	if s.Protocol == tcp {
		return protocolTCP
	}
	return protocolUDP
}

// frame is the stream's frame without what differs between flows: source port,
// last two bytes of the source address, TCP flags and checksums are zero.
func (s *stream) frame() []byte {
	f := make([]byte, s.Size)
	copy(f, s.dstMAC[:])
	copy(f[6:], s.srcMAC[:])
	ip := f[ethernetLen:]
	if s.IPv6 {
		binary.BigEndian.PutUint16(f[12:], etherIPv6)
		writeIPv6(ip, s.protocol(), s.clients, s.vip.Addr())
	} else {
		binary.BigEndian.PutUint16(f[12:], etherIPv4)
		writeIPv4(ip, s.protocol(), s.clients, s.vip.Addr())
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[6] = 0x40 // don't fragment
	}
	l4 := f[s.l4():]
	binary.BigEndian.PutUint16(l4[2:], s.vip.Port())
	if s.Protocol == tcp {
		binary.BigEndian.PutUint32(l4[4:], 1) // sequence number
		l4[12] = tcpLen / 4 << 4
		binary.BigEndian.PutUint16(l4[14:], 65535) // window
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	payload := l4[s.l4Header():]
	for i := range payload {
		payload[i] = byte(i)
	}
	if s.stamped {
		clear(f[len(f)-stampLen:])
	}
	return f
}

// writeIPv4 writes an IPv4 header (RFC 791) with length and checksum as zero.
func writeIPv4(ip []byte, protocol byte, src, dst netip.Addr) {
	ip[0] = 0x45
	ip[8] = 64 // TTL
	ip[9] = protocol
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
}

// writeIPv6 writes an IPv6 header (RFC 8200) for all that ip has room for.
func writeIPv6(ip []byte, protocol byte, src, dst netip.Addr) {
	ip[0] = 0x60
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Len))
	ip[6] = protocol
	ip[7] = 64 // hop limit
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
}

// pseudoHeaderSum is the part of TCP's and UDP's checksum that is not in the
// segment (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1).
func (s *stream) pseudoHeaderSum() uint64 {
	var length [4]byte
	binary.BigEndian.PutUint16(length[2:], uint16(s.Size-s.l4()))
	return sum(s.clients.AsSlice()) + sum(s.vip.Addr().AsSlice()) + sum([]byte{0, s.protocol()}) + sum(length[:])
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
	begin := make([]byte, headerLen)
	copy(begin, f)
	var header [headerLen / 8]uint64
	for i := range header {
		header[i] = binary.NativeEndian.Uint64(begin[8*i:])
	}
	return map[string]any{
		objectVarHeader:     header,
		objectVarIpSum:      uint32(sum(f[ethernetLen:][:ipv4Len])),
		objectVarL4Sum:      uint32(s.pseudoHeaderSum() + sum(f[s.l4():])),
		objectVarTcp:        bit(s.Protocol == tcp),
		objectVarFlags:      s.flags(),
		objectVarOpeningSyn: bit(s.openWithSYN),
		objectVarFlows:      uint32(s.Flows),
		objectVarOpening:    s.openingFrames(),
		objectVarOpeningGap: uint64(time.Second / openingRate),
		objectVarSettled:    s.settledFrames(),
		objectVarSettleGap:  uint64(time.Second / settlingRate),
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
