package selftest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"fairlead/dataplane/nic"
)

// source is a queue without a NIC: it makes up packets of flows as fast as they
// are asked for, and takes back at once what is sent.
type source struct {
	pool  *nic.Pool
	frame []byte // what all have in common; checksums are those of flow 0
	v6    bool

	first, flows uint32 // the flows it has: first, first+1, ...
	opening      bool   // each flow once, in order; else at random, for ever
	next         uint32 // to be opened
	order        uint32 // state of the random walk
	made, sent   uint64
	done         []uint64 // chunks of frames that were sent
}

var _ nic.Queue = (*source)(nil)

// Offsets in the source's frames: Ethernet, IP without options, UDP.
const (
	offEtherType = 12
	offIP        = 14
	offIPv4Sum   = offIP + 10
	offClient4   = offIP + 14 // the last two bytes of an IPv4 source
	offClient6   = offIP + 20 // the last four bytes of an IPv6 source
	ipv4Len      = 20
	ipv6Len      = 40
	udpLen       = 8
	minFrame     = 60
	protoUDP     = 17
	etherIPv4    = 0x0800
	etherIPv6    = 0x86dd
)

// udpFrame is the shortest UDP frame between two addresses, with right
// checksums. MAC addresses are those of nobody in particular.
func udpFrame(src, dst netip.AddrPort, ttl byte) []byte {
	l4 := offIP + ipv4Len
	if src.Addr().Is6() {
		l4 = offIP + ipv6Len
	}
	f := make([]byte, max(minFrame, l4+udpLen))
	f[0], f[6], f[11] = 2, 2, 1 // locally administered
	ip, udp := f[offIP:], f[l4:]
	var pseudo uint32
	if src.Addr().Is6() {
		binary.BigEndian.PutUint16(f[offEtherType:], etherIPv6)
		ip[0], ip[6], ip[7] = 0x60, protoUDP, ttl
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		copy(ip[8:], src.Addr().AsSlice())
		copy(ip[24:], dst.Addr().AsSlice())
		pseudo = sum(ip[8:40])
	} else {
		binary.BigEndian.PutUint16(f[offEtherType:], etherIPv4)
		ip[0], ip[8], ip[9] = 0x45, ttl, protoUDP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		copy(ip[12:], src.Addr().AsSlice())
		copy(ip[16:], dst.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip[:ipv4Len])))
		pseudo = sum(ip[12:20])
	}
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], ^fold(pseudo+protoUDP+uint32(len(udp))+sum(udp)))
	return f
}

// sum adds up 16-bit words (RFC 1071); b has an even length.
func sum(b []byte) uint32 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	return s
}

func fold(s uint32) uint16 {
	s = s&0xffff + s>>16
	return uint16(s + s>>16)
}

// update is a checksum after zero words have become others whose sum is given
// (RFC 1624).
func update(check []byte, added uint32) {
	old := uint32(^binary.BigEndian.Uint16(check))
	binary.BigEndian.PutUint16(check, ^fold(old+added))
}

// portsShift divides a flow's number into address and port.
const portsShift = 16

// write puts the packet of a flow into a chunk: the client's address and port
// differ from flow to flow.
func (s *source) write(b []byte, number uint32) {
	copy(b, s.frame)
	high, low := number>>portsShift, number&(1<<portsShift-1)
	if s.v6 {
		binary.BigEndian.PutUint32(b[offClient6:], number)
		update(b[offIP+ipv6Len+6:], high+low)
		return
	}
	binary.BigEndian.PutUint16(b[offClient4:], uint16(low))
	update(b[offIPv4Sum:], low)
	port := b[offIP+ipv4Len:]
	binary.BigEndian.PutUint16(port, binary.BigEndian.Uint16(port)+uint16(high))
	update(port[6:], high+low)
}

// pick is the number of the flow that the next packet belongs to.
func (s *source) pick() uint32 {
	if s.opening {
		s.next++
		return s.first + s.next - 1
	}
	s.order = s.order*1664525 + 1013904223
	return s.first + uint32(uint64(s.order)*uint64(s.flows)>>32)
}

// Receive implements nic.Queue.
func (s *source) Receive(frames []nic.Frame) int {
	n := len(frames)
	if s.opening {
		n = min(n, int(s.flows-s.next))
	}
	for i := range n {
		addr, ok := s.pool.Get()
		if !ok {
			n = i
			break
		}
		addr += uint64(s.pool.Headroom())
		s.write(s.pool.Mem[addr:], s.pick())
		frames[i] = nic.Frame{Addr: addr, Len: uint32(len(s.frame))}
	}
	s.made += uint64(n)
	return n
}

// Transmit implements nic.Queue.
func (s *source) Transmit(frames []nic.Frame) int {
	for i := range frames {
		s.done = append(s.done, frames[i].Addr)
	}
	s.sent += uint64(len(frames))
	return len(frames)
}

// Kick implements nic.Queue.
func (s *source) Kick() error { return nil }

// Complete implements nic.Queue.
func (s *source) Complete(addrs []uint64) int {
	n := copy(addrs, s.done)
	s.done = s.done[:copy(s.done, s.done[n:])]
	return n
}

// Refill implements nic.Queue.
func (s *source) Refill([]uint64) int { return 0 }

// Sizes of a source's packet memory.
const (
	chunks    = 1024
	chunkSize = 2048
	headroom  = 256
)

func newSource(frame []byte, first, flows int) (*source, error) {
	pool, err := nic.NewPool(make([]byte, chunks*chunkSize), chunkSize, headroom)
	if err != nil {
		return nil, fmt.Errorf("packet memory: %w", err)
	}
	return &source{
		pool: pool, frame: frame, v6: binary.BigEndian.Uint16(frame[offEtherType:]) == etherIPv6,
		first: uint32(first), flows: uint32(flows), done: make([]uint64, 0, chunks),
	}, nil
}
