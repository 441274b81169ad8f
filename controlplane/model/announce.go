package model

import (
	"net/netip"
	"slices"
	"time"
)

// Announce is how a VIP is announced to routers.
type Announce struct {
	BGP             bool        // to BGP peers, when there are any
	Communities     Communities // in addition to those of BGP
	LocalPreference uint32      // 0: that of BGP
	Withdraw        Withdraw
}

// DefaultAnnounce is how a VIP is announced that says nothing of it.
func DefaultAnnounce() Announce { return Announce{BGP: true, Withdraw: WithdrawAll} }

// Withdraw says when a VIP is withdrawn for want of backends, so that another
// node, which may have some, gets its clients.
type Withdraw string

// When a VIP is withdrawn.
const (
	WithdrawAll   Withdraw = "all"   // when none of its services has a backend that serves
	WithdrawAny   Withdraw = "any"   // when one of its services has none
	WithdrawNever Withdraw = "never" // never for want of backends
)

// BGP is how a node speaks BGP (RFC 4271) to the routers beside it.
type BGP struct {
	Enabled  bool // there is a [bgp]
	ASN      uint32
	RouterID netip.Addr // IPv4

	// Listen are the addresses that passive peers are heard at; empty: all.
	// Nothing is listened on while no peer is passive.
	Listen     []netip.Addr
	ListenPort int

	HoldTime     time.Duration // proposed; the lower of both ends' holds. 0: sessions are held for ever
	ConnectRetry time.Duration

	GracefulRestart bool          // RFC 4724: routes outlive the control process
	RestartTime     time.Duration // for so long

	Communities     Communities
	LocalPreference uint32 // 0: none is named; iBGP peers are told 100
	MED             uint32 // 0: none is sent
	MaxPrefixes     int    // that a peer may send before its session is ended; all are thrown away. 0: no bound

	WithdrawAfter time.Duration // for which a node must have been unable to forward
	DrainDelay    time.Duration // between asking routers for other ways and withdrawing
	DrainWait     time.Duration // at most, for traffic that comes still after the withdrawal

	Peers []BGPPeer
}

// DefaultBGP is BGP as it is when nothing is said of it: off.
func DefaultBGP() BGP {
	return BGP{
		ListenPort: 179, HoldTime: 9 * time.Second, ConnectRetry: 5 * time.Second,
		GracefulRestart: true, RestartTime: 30 * time.Second, MaxPrefixes: 10_000,
		WithdrawAfter: time.Second, DrainDelay: 5 * time.Second, DrainWait: 30 * time.Second,
	}
}

// Equal reports whether two configurations are the same.
func (b *BGP) Equal(o *BGP) bool {
	return b.EqualButPeers(o) && slices.EqualFunc(b.Peers, o.Peers, func(a, b BGPPeer) bool { return a.Equal(&b) })
}

// EqualButPeers reports whether two configurations are the same but for their
// peers.
func (b *BGP) EqualButPeers(o *BGP) bool {
	return b.Enabled == o.Enabled && b.ASN == o.ASN && b.RouterID == o.RouterID && slices.Equal(b.Listen, o.Listen) &&
		b.ListenPort == o.ListenPort && b.HoldTime == o.HoldTime && b.ConnectRetry == o.ConnectRetry &&
		b.GracefulRestart == o.GracefulRestart && b.RestartTime == o.RestartTime && b.Communities == o.Communities &&
		b.LocalPreference == o.LocalPreference && b.MED == o.MED && b.MaxPrefixes == o.MaxPrefixes &&
		b.WithdrawAfter == o.WithdrawAfter && b.DrainDelay == o.DrainDelay && b.DrainWait == o.DrainWait
}

// BGPFamily is a kind of routes.
type BGPFamily string

// The families.
const (
	IPv4Unicast BGPFamily = "ipv4"
	IPv6Unicast BGPFamily = "ipv6"
)

// BGPPeer is one router.
type BGPPeer struct {
	// Address is the router's, with a zone when it is link-local. The zero Addr:
	// the router is found on Interface (unnumbered).
	Address   netip.Addr
	Interface string // that the session goes over; "": by the routing table

	ASN      uint32     // 0: as External says
	External bool       // ASN 0: any but ours; otherwise ours
	Port     int        // that the router listens on
	Source   netip.Addr // our own address; the zero Addr: by the routing table

	Multihop    int // hops an external session may take, 1: beside us
	TTLSecurity int // hops that packets may have come (RFC 5082), 0: not looked at

	PasswordFile string // TCP MD5 signature (RFC 2385); "": none
	Passive      bool   // the router connects to us
	Families     []BGPFamily
	BFD          BFD
}

// Name is how the peer is called: its address, or the interface it is found on.
func (p *BGPPeer) Name() string {
	if p.Unnumbered() {
		return p.Interface
	}
	return p.Address.String()
}

// Unnumbered reports whether the router is found by router advertisements.
func (p *BGPPeer) Unnumbered() bool { return !p.Address.IsValid() }

// Equal reports whether two peers are the same.
func (p *BGPPeer) Equal(o *BGPPeer) bool {
	return p.Address == o.Address && p.Interface == o.Interface && p.ASN == o.ASN && p.External == o.External &&
		p.Port == o.Port && p.Source == o.Source && p.Multihop == o.Multihop && p.TTLSecurity == o.TTLSecurity &&
		p.PasswordFile == o.PasswordFile && p.Passive == o.Passive && p.BFD == o.BFD && slices.Equal(p.Families, o.Families)
}

// BFD is bidirectional forwarding detection with a peer (RFC 5880, RFC 5881).
type BFD struct {
	Enabled    bool
	Interval   time.Duration // between packets, in both directions
	Multiplier int           // packets missed before the peer is taken for dead
}

// DefaultBFD is off, and finds a dead peer in 900 ms when it is on.
func DefaultBFD() BFD { return BFD{Interval: 300 * time.Millisecond, Multiplier: 3} }
