// Package flow is the flow table: which backend an established flow belongs
// to, the NAT binding it has, and when it is forgotten. It lives in memory
// that outlives the process (a memfd), is shared by all workers, and any
// worker finds any flow.
package flow

import "fairlead/dataplane/packet"

// Time is milliseconds on the machine's monotonic clock, truncated to 32 bits.
// It wraps after 49 days; times are compared by the sign of their difference,
// so no timeout may exceed MaxTimeout.
type Time uint32

// MaxTimeout is the longest idle time of a flow: half the clock's range.
const MaxTimeout = uint32(1<<31 - 1)

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return int32(t-u) < 0 }

// Key identifies one direction of a flow by its two ends: the peer (the client
// on the way in, the backend on the way back) and the local address the packet
// was sent to (a VIP on the way in, a SNAT address on the way back), by its
// fib.Local ID. It is exact: no two flows share a key.
type Key struct {
	Peer      packet.Addr
	Local     uint16
	PeerPort  uint16
	LocalPort uint16
	Proto     uint8
}

// Protocol numbers that stand for session affinity records of a client at a
// service: no packet carries them (RFC 3692 reserves 253 and 254, 252 is
// unassigned). PeerPort is 0 and LocalPort the service's first port.
const (
	ProtoAffinityTCP  = 253
	ProtoAffinityUDP  = 254
	ProtoAffinitySCTP = 252
)

// Direction says which of a flow's two keys a packet matched.
type Direction uint8

// The directions.
const (
	Forward Direction = iota // client to backend
	Reply                    // backend to client (NAT only)
)

// State is where a flow is in its life.
type State uint8

// The states. HalfOpen flows are evicted first when the table is full.
const (
	StateFree        State = iota // no flow
	StateHalfOpen                 // TCP: SYN seen, nothing after it
	StateEstablished              // TCP: the client has answered the backend
	StateFinWait                  // TCP: one side has sent FIN
	StateClosed                   // TCP: both sides have sent FIN, or one a RST
	StateUnreplied                // UDP, SCTP: one direction seen
	StateStream                   // UDP, SCTP: both directions seen
	StateAffinity                 // a session affinity record
)

// Plain reports whether a packet that opens, ends or resets nothing leaves a
// flow in this state as it is but for its deadline.
func (s State) Plain() bool {
	return s == StateEstablished || s == StateStream || s == StateUnreplied
}

// Flow is a copy of what the table knows of one flow.
type Flow struct {
	Client      packet.Addr
	Backend     packet.Addr // NAT only: where the flow's packets go; otherwise zero
	ClientPort  uint16
	VIPPort     uint16
	BackendPort uint16 // NAT only
	SNATPort    uint16 // NAT only
	VIP         uint16 // fib.Local ID
	SNAT        uint16 // fib.Local ID of the source address, NAT only; 0: the flow has no reply key
	Via         uint16 // index in the peer table: the link-layer way back to the client, 0 when unknown; of a flow without a reply key ViaTold or 0
	Proto       uint8
	State       State
	ServiceID   uint32 // fib.ID
	BackendID   uint32 // fib.ID
	Deadline    Time   // when it is forgotten unless a packet comes first

	seq uint32 // incarnation of the record this was copied from; a Ref is good only together with it
}

// ViaTold is Via of a flow without a reply key that a peer has told of, until a
// packet of it comes here.
const ViaTold = 1

// Told reports whether all that is known of the flow is what a peer has told: no
// packet of it has come here yet.
func (f *Flow) Told() bool { return f.SNAT == 0 && f.Via == ViaTold }

// ForwardKey is the key of packets from the client.
func (f *Flow) ForwardKey() Key {
	return Key{Peer: f.Client, Local: f.VIP, PeerPort: f.ClientPort, LocalPort: f.VIPPort, Proto: f.Proto}
}

// ReplyKey is the key of packets from the backend; it means nothing when SNAT
// is 0.
func (f *Flow) ReplyKey() Key {
	return Key{Peer: f.Backend, Local: f.SNAT, PeerPort: f.BackendPort, LocalPort: f.SNATPort, Proto: f.Proto}
}

// Ref points to a flow's record in the table. It stays valid only until the
// flow is forgotten, so it is used within the batch that looked it up.
type Ref uint32

// NoRef refers to no flow.
const NoRef = ^Ref(0)

// Timeouts are the idle times in milliseconds that a flow's state is given.
type Timeouts struct {
	HalfOpen, Established, FinWait, Closed, Unreplied, Stream uint32
}

// At is the idle time of a flow in a plain state.
func (t *Timeouts) At(s State) uint32 {
	switch s {
	case StateEstablished:
		return t.Established
	case StateStream:
		return t.Stream
	}
	return t.Unreplied
}
