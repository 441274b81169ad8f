// Package fib is the forwarding information base: everything the data path
// knows about services, pools, backends and next hops, as one immutable,
// flat, pointer-free image with a generation number. The control process
// builds an image (Builder) into a memfd; the data process maps it read-only
// and looks things up in it (Snapshot). No lookup allocates.
//
// Every record has a fixed size and natural alignment, so that a slice of
// records can be laid over the image as it is. Both processes are the same
// binary on the same machine, so the byte order is the machine's own.
package fib

import "fairlead/dataplane/packet"

// ID is the stable identity of a service or a backend across generations: a
// slot in the image's table (low 24 bits) and an epoch that tells successive
// owners of one slot apart. A flow keeps the ID; when the slot's record has
// another one, what the flow knew is gone. The zero ID is never given out.
type ID uint32

// SlotBits is how many of an ID's bits are the slot.
const SlotBits = 24

// Slot is the index of the record in its table.
func (id ID) Slot() uint32 { return uint32(id) & (1<<SlotBits - 1) }

// Epoch tells the successive owners of a slot apart; it is 1 or more.
func (id ID) Epoch() uint8 { return uint8(id >> SlotBits) }

// MakeID puts an ID together.
func MakeID(slot uint32, epoch uint8) ID { return ID(slot | uint32(epoch)<<SlotBits) }

// NoIndex marks an index that refers to nothing.
const NoIndex = ^uint32(0)

// LocalKind says what an address of ours is for.
type LocalKind uint8

// The kinds of local address.
const (
	LocalVIP    LocalKind = 1 + iota // clients send to it
	LocalSNAT                        // backends answer to it
	LocalTunnel                      // source of our tunnel packets; answered for, nothing is expected to arrive
)

// Local flags.
const (
	LocalAnswerARP = 1 << iota // this node owns the address on the wire: answer ARP and neighbour solicitations
	LocalNoPing                // do not answer pings to it
	LocalFailPass              // with no data process, the host gets the traffic (default: it is dropped)
)

// Local is one address that belongs to Fairlead. Locals are found by address.
type Local struct {
	Addr  packet.Addr
	ID    uint16 // stable across generations; flows are keyed by it; 0 is never given out
	Kind  LocalKind
	Flags uint8
	SNAT  uint32 // LocalSNAT: index into SNATs; otherwise NoIndex
}

// Method is how packets reach a backend.
type Method uint8

// The forwarding methods.
const (
	MethodNAT  Method = 1 + iota // destination and source rewritten, replies through us
	MethodIPIP                   // IP in IP (RFC 2003, 2473, 4213), replies direct
	MethodGUE                    // generic UDP encapsulation (draft-ietf-intarea-gue), replies direct
	MethodL2                     // destination MAC only, replies direct
)

// String gives the method's name in the configuration.
func (m Method) String() string {
	switch m {
	case MethodNAT:
		return "nat"
	case MethodIPIP:
		return "ipip"
	case MethodGUE:
		return "gue"
	case MethodL2:
		return "l2"
	}
	return "unknown"
}

// GonePolicy says what becomes of a TCP flow whose backend is dead or removed.
type GonePolicy uint8

// The policies for flows of a gone backend.
const (
	GoneReset  GonePolicy = iota // answer a RST, forget the flow
	GoneRehash                   // choose again by Maglev
	GoneDrop                     // drop silently, forget the flow
)

// Service is one service: what clients may send to at a VIP, and how it is
// carried. Its record lies at its ID's slot; unused slots have ID 0.
type Service struct {
	ID         ID
	Pool       uint32 // index into Pools
	Local      uint16 // Local.ID of its VIP
	PortFirst  uint16 // 0 with PortLast 65535: every port
	PortLast   uint16 // inclusive
	Proto      uint8
	Method     Method
	Gone       GonePolicy
	Affinity   uint8  // 1: one client address keeps its backend for AffinityMS
	ClampMSS   uint8  // 1: clamp the MSS option of SYNs to what the path carries (NAT only)
	_          uint8  // reserved
	AffinityMS uint32 // milliseconds since the client's last new flow
	Timeouts   uint32 // index into Timeouts
	Ranges     uint32 // first of the allowed source ranges in SourceRanges
	RangeCount uint32 // 0: any source
	Name       NameRef
}

// AllPorts reports whether the service matches every port of its VIP.
func (s *Service) AllPorts() bool { return s.PortFirst == 0 && s.PortLast == 65535 }

// NameRef points into the image's string bytes.
type NameRef struct {
	Offset, Length uint32
}

// SourceRange is one prefix that clients may come from.
type SourceRange struct {
	Addr packet.Addr // host bits zero; IPv4 in mapped form
	Bits uint32      // prefix length counted over 128 bits: an IPv4 /24 is 120
	_    uint32
}

// Contains reports whether a is in the range.
func (r *SourceRange) Contains(a packet.Addr) bool {
	switch {
	case r.Bits == 0:
		return true
	case r.Bits <= 64:
		return (a.Hi^r.Addr.Hi)>>(64-r.Bits) == 0
	default:
		return a.Hi == r.Addr.Hi && (a.Lo^r.Addr.Lo)>>(128-r.Bits) == 0
	}
}

// Timeouts are one set of idle times in milliseconds, named as Linux
// conntrack names them.
type Timeouts struct {
	TCPSynSent     uint32
	TCPEstablished uint32
	TCPFinWait     uint32
	TCPClose       uint32
	UDP            uint32 // no reply seen yet, or one direction only
	UDPStream      uint32 // traffic in both directions
	SCTP           uint32
	ICMP           uint32
}

// Pool is a set of backends and the Maglev table that chooses among them.
type Pool struct {
	Members     uint32 // first of its backends' slots in Members
	MemberCount uint32
	Table       uint32 // first entry of its Maglev table in Tables
	TableSize   uint32 // a prime; 0 when no backend may be chosen
	Checksum    uint64 // of the table and the members it stands for; equal on every node with an equal pool
	Name        NameRef
	Base        uint32 // first entry in Tables of its base, the table of packets whose flow nobody knows
	BaseSize    uint32 // a prime; 0 when there is none
	Also        uint32 // first entry of another base, by which other nodes may go, or will
	AlsoSize    uint32 // a prime; 0 when there is none
}

// NoMember is the entry of a table for flows that are refused, and that of a base
// for a backend that the pool no longer has.
const NoMember = 65535

// Backend flags.
const (
	BackendDown     = 1 << iota // health says dead: its flows are handled by the service's GonePolicy
	BackendDraining             // no new flows; the ones it has go on
)

// Backend is one backend of one pool. Its record lies at its ID's slot; unused
// slots have ID 0.
type Backend struct {
	Addr    packet.Addr
	ID      ID
	NextHop uint32 // index into NextHops, NoIndex when there is no route
	Pool    uint32 // index into Pools
	Weight  uint32
	Port    uint16 // 0: the packet's own destination port is kept
	Flags   uint8
	_       uint8
	MTU     uint32  // largest IP packet the path to it carries, outer headers included; 0: the next hop's
	Name    NameRef // empty when it has none of its own: Snapshot.BackendName
}

// NextHop is where frames to a backend go at the link layer.
type NextHop struct {
	DstMAC   [6]byte
	SrcMAC   [6]byte
	Port     uint16 // index into Interfaces
	Resolved uint8  // 0: no MAC address known yet
	_        uint8
	MTU      uint32 // largest IP packet its interface carries
}

// Interface is one of the node's interfaces; its index is the Port of a
// nic.Frame.
type Interface struct {
	MAC     [6]byte
	_       uint16
	MTU     uint32 // largest IP packet
	IfIndex uint32 // the kernel's number, 0 when there is no kernel (replay)
	Gateway uint32 // index into NextHops for replies to clients whose MAC is not known, or NoIndex
	Name    NameRef
}

// SNAT is one source address that NAT flows leave from. Its index is stable
// across generations; an unused entry has Local 0.
type SNAT struct {
	Addr      packet.Addr
	Local     uint16 // Local.ID of the address
	PortFirst uint16
	PortLast  uint16 // inclusive
	_         uint16
}

// PortMatch is one service's claim on ports of a VIP and protocol. The section
// is sorted by (Local, Proto, PortFirst), claims never overlap, and the most
// specific match needs no search: an all-ports service is kept apart (Default).
type PortMatch struct {
	Local     uint16
	Proto     uint8
	Default   uint8 // 1: matches when no other claim of this Local and Proto does
	PortFirst uint16
	PortLast  uint16
	Service   uint32 // slot
}

// Settings are what holds for the node as a whole.
type Settings struct {
	HashSeed    [2]uint64 // key of the flow hash that picks Maglev slots; equal on every node of a cluster
	Tunnel4     packet.Addr
	Tunnel6     packet.Addr // sources of tunnel packets, zero when there is none
	GUEPort     uint16      // UDP destination port of GUE
	OuterTTL    uint8       // TTL of tunnel packets
	_           uint8
	FragHold    uint32 // frames a worker may hold that wait for their first fragment
	FragHoldMS  uint32 // how long
	ReplyRate   uint32 // ICMP errors and RSTs a worker may send per second
	ReplyBurst  uint32
	FragTrackMS uint32 // how long a first fragment's verdict is remembered
}
