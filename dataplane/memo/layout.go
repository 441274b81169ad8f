package memo

import "fairlead/dataplane/packet"

// The table's memory is three arrays: entries, routes and counts. In an XDP
// program they are three maps that user space has mapped (BPF_F_MMAPABLE), so
// the layouts below are also those of xdp/steer/bpf/memo.h.

// entry is one memo, one cache line of 64-bit words.
//
//	0, 1  key: peer address
//	2     key: rest
//	3     control: lease | route | route's generation | sequence
//	4     NAT: source port | destination port | header checksum delta | transport checksum delta
//	5     NAT forward: MAC address of the client's last hop (bits 0-47, first byte highest); reply: client address, high half
//	6     NAT forward: the interface its packets come in by (Ingress); reply: client address, low half
//	7     entropy | seen | hits | flags
//
// An entry whose control word has generation 0 holds nothing. Whoever changes
// an entry makes its control word such a one first (busy) and publishes the new
// one last, with the next sequence number; a reader takes the control word
// before and after everything else, and has read nothing when the two differ.
type entry [8]uint64

const (
	wordHi = iota
	wordLo
	wordRest
	wordControl
	wordNAT
	wordViaHi
	wordViaLo
	wordUse
)

// Parts of the control word. The lease is the last millisecond of the
// machine's monotonic clock, modulo 2^32, at which the memo holds. The sequence
// counts the contents the entry has had.
const (
	leaseAt = 32
	routeAt = 16
	genAt   = 8
	genMask = 0xff
	seqMask = 0xff
	busy    = 0xffff << routeAt // with generation 0: being written since the lease's time
)

// Parts of the NAT word: the checksum deltas are 16-bit ones' complement sums
// to be added to the complement of the old checksum (RFC 1624, equation 3); the
// change of the TTL is not in them.
const (
	srcPortAt = 48
	dstPortAt = 32
	deltaL3At = 16
	deltaL4At = 0
)

// Parts of the use word. Seen is when the kernel last used the memo, in units
// of 256 ms of the monotonic clock, modulo 2^16: the kernel writes these two
// bytes and nothing else of an entry. Hits counts the uses in user space of a
// memo that the kernel may not use yet.
const (
	entropyAt = 32
	seenAt    = 16
	seenUnit  = 8 // bits of a millisecond count that make one unit of seen
	hitsAt    = 8
	hitsMask  = 0xff
	// forKernel says that the XDP program may use the memo.
	forKernel = 1
)

// Op says what a route does with a packet.
type Op uint8

// The operations, one for each forwarding method and direction.
const (
	NATForward Op = 1 + iota // source becomes Route.Src, destination Route.Dst, ports the entry's
	NATReply                 // source becomes Route.Src (the VIP), destination the entry's client
	IPIP                     // outer IP header in front
	GUE                      // outer IP, UDP and GUE headers in front
	L2                       // MAC addresses only
	ops
)

// Route is how the packets of all entries that share it leave. It is written
// once, while it is not valid, and never changes while it is.
type Route struct {
	State   uint32 // 0: not valid; otherwise its generation, 1 to 255, which an entry must name
	IfIndex uint32 // the kernel's number of the interface it leaves by
	MTU     uint32 // longest IP packet, as received, that may take it
	Service uint32 // slots in the snapshot, for the counters
	Backend uint32
	Port    uint16 // the interface it leaves by, as nic.Frame counts
	Op      Op
	Flags   uint8
	DstMAC  [6]byte
	SrcMAC  [6]byte
	GUEPort uint16      // GUE: UDP destination port
	TTL     uint8       // IPIP, GUE: of the outer header
	Last    uint8       // the generation this place was valid under last; 0: never
	Src     packet.Addr // NAT: new source; IPIP, GUE: outer source
	Dst     packet.Addr // NAT forward: new destination; IPIP, GUE: outer destination
	Sum     uint32      // IPIP, GUE over IPv4: sum of those words of the outer header that are the same for every packet
	NextHop uint32      // index in the snapshot it was built from, fib.NoIndex for replies; for traces
	_       [6]uint64   // to two cache lines
}

// Route flags.
const (
	// Outer6 says that the outer header is IPv6.
	Outer6 = 1 << iota
	// InKernel says that the XDP program can do what the route says.
	InKernel
)

// Count is what went by one route on one CPU of the kernel's. It has a cache
// line of its own. The XDP program writes the first three words; the others are
// how much of those the ledger has already, written by user space, so that a
// new process goes on where the last one stopped.
type Count struct {
	Packets   uint64
	Bytes     uint64 // of frames as received
	BytesSent uint64 // of frames as sent

	packets, bytes, bytesSent uint64
	_                         [2]uint64
}
