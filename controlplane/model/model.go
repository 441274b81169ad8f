// Package model has the plain domain types that every source of desired state
// (file, API, Kubernetes, a peer) produces and that compile turns into a
// forwarding image. It imports nothing of the project.
package model

import (
	"net/netip"
	"time"
)

// Method is how packets reach a backend.
type Method string

// The forwarding methods.
const (
	NAT  Method = "nat"
	IPIP Method = "ipip"
	GUE  Method = "gue"
	L2   Method = "l2"
)

// Protocol is a transport protocol that a service matches.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// FailAction says what the XDP program does with a VIP's packets while no data
// process lives.
type FailAction string

// The fail actions.
const (
	FailDrop FailAction = "drop" // the default: the host's stack would answer RST
	FailPass FailAction = "pass"
)

// GonePolicy says what becomes of a TCP flow whose backend is dead or removed.
type GonePolicy string

// The policies for flows of a gone backend.
const (
	GoneReset  GonePolicy = "reset"
	GoneRehash GonePolicy = "rehash"
	GoneDrop   GonePolicy = "drop"
)

// VIP is one virtual IP and how this node treats it. VIPs that services name
// and that are not listed have the defaults.
type VIP struct {
	Address    netip.Addr
	FailAction FailAction
	AnswerARP  bool // this node owns it on the wire
	AnswerPing bool
	Announce   Announce
}

// PortRange is an inclusive range of ports; 0 to 65535 means every port.
type PortRange struct {
	First, Last uint16
}

// AllPorts is the range of a service with `port = 0`.
var AllPorts = PortRange{0, 65535}

// Affinity is session affinity by client address.
type Affinity struct {
	Enabled bool
	Timeout time.Duration // since the client's last new flow
}

// Timeouts are idle times of flows by state, named as Linux conntrack names
// them. Zero means the default.
type Timeouts struct {
	TCPSynSent     time.Duration
	TCPEstablished time.Duration
	TCPFinWait     time.Duration
	TCPClose       time.Duration
	UDP            time.Duration
	UDPStream      time.Duration
	SCTP           time.Duration
	ICMP           time.Duration
}

// Service is what clients reach at a VIP.
type Service struct {
	Name         string
	VIP          netip.Addr
	Protocol     Protocol
	Ports        PortRange
	Pool         string // name of its Pool
	Method       Method
	Affinity     Affinity
	Gone         GonePolicy
	SourceRanges []netip.Prefix // empty: any source
	Timeouts     Timeouts
	DisableMSS   bool          // leave the MSS option of SYNs alone
	DrainTimeout time.Duration // how long flows of a removed backend live on; NoDrain: not at all
}

// Backend is one server of a pool.
type Backend struct {
	Name    string // defaults to its address and port
	Address netip.Addr
	Port    uint16 // 0: the client's destination port is kept
	Weight  int    // 0 drains; 1 to MaxWeight
	MTU     int    // largest IP packet the path to it carries; 0: the interface's

	// Serving is how it serves at the moment. It is worked out from health and
	// operators' settings; sources declare none.
	Serving Serving
}

// Serving is how a backend serves at the moment. The zero value is that of one
// that is healthy and takes its full share.
type Serving struct {
	Withheld int  // per mille of the backend's share of new flows that others get, 0 to 1,000; only its own slots of the table move
	Down     bool // dead or disabled: it gets no new flows, and loses those it has as their service says
}

// Endpoint is the backend's address and port, by which it is known in its pool.
func (b *Backend) Endpoint() netip.AddrPort { return netip.AddrPortFrom(b.Address, b.Port) }

// MaxWeight is the largest weight of a backend.
const MaxWeight = 65535

// Pool is a named set of backends.
type Pool struct {
	Name     string
	Backends []Backend

	// Refused is the weight of nobody: of new flows, what is due to it among the
	// backends' weights is refused, as all are when there is no backend. 0 to
	// MaxWeight.
	Refused int `json:",omitempty"`

	// Base is what the pool's base table is made of: the shares by which packets
	// are sent whose flow no record tells of, the same on every node of a
	// cluster. Sources declare none. Empty: there is no such table.
	Base []Share `json:"-"`
	// Also is what another base is made of, by which nothing is sent here but by
	// other nodes, while one base takes the other's place. Peers are told of flows
	// that it would send elsewhere, too.
	Also []Share `json:"-"`

	Check *Check // nil: backends are taken to be alive
	// PanicThreshold is the per cent of the backends that must be alive: with
	// fewer, all are used, for it is more likely that the checks are wrong or
	// that the rest would be overrun. 0: never.
	PanicThreshold int
	SlowStart      time.Duration // in which a backend that comes alive reaches its full share; 0: at once
}

// Share is a backend's part in a base table.
type Share struct {
	Endpoint netip.AddrPort
	Weight   int // 0 to MaxWeight
	Withheld int // per mille of what that is due, 0 to 1,000
}

// SNAT is one address that NAT flows leave from.
type SNAT struct {
	Address netip.Addr
	Ports   PortRange
}

// State is the complete desired state of the data path.
type State struct {
	VIPs     []VIP
	Services []Service
	Pools    []Pool
	SNATs    []SNAT
	Tunnel   Tunnel
	HashSeed [2]uint64
	Limits   Limits
}

// Tunnel is how encapsulated packets leave.
type Tunnel struct {
	Source4, Source6 netip.Addr // the zero Addr when there is none
	GUEPort          uint16
	TTL              uint8
}

// Limits bound what the data path spends on the edges.
type Limits struct {
	FragmentHold        int           // frames a worker may hold that wait for their first fragment
	FragmentHoldTimeout time.Duration // how long one may wait
	FragmentTimeout     time.Duration // how long a first fragment's verdict is remembered
	ReplyRate           int           // ICMP errors and RSTs a worker may send per second
	ReplyBurst          int
}

// Interface is one interface of the node as observed or as configured.
type Interface struct {
	Name    string
	Index   int // the kernel's number, 0 when there is none
	MAC     [6]byte
	MTU     int
	Gateway netip.Addr // default next hop, the zero Addr when there is none
}

// NextHop is the link-layer way to an address.
type NextHop struct {
	Interface string // name of an Interface
	MAC       [6]byte
	Resolved  bool // false: the MAC address is not known yet
}

// Observations are what the node sees, as opposed to what its operator wants.
type Observations struct {
	Interfaces []Interface            // in the order that nic.Frame.Port counts
	NextHops   map[netip.Addr]NextHop // by backend or gateway address
}

// ObservationChange is what the node sees otherwise than before.
type ObservationChange struct {
	NextHops map[netip.Addr]NextHop // ways that are new or other ones
	Lost     []netip.Addr           // addresses that have no way any more
}

// Empty reports whether nothing has changed.
func (c *ObservationChange) Empty() bool { return len(c.NextHops)+len(c.Lost) == 0 }
