package dataplane_test

import (
	"fairlead/dataplane"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// What a situation is made of, beside the fields that are numbers anyway.
type (
	health  int // of the backend a flow or an affinity record names
	binding int // of a flow
	way     int // to the backends
	piece   int // of a packet
)

const (
	up health = iota
	draining
	down
	gone   // its slot has another backend now
	beyond // its slot is no more
)

const (
	unbound  binding = iota // no SNAT address: a flow of a direct-reply method
	bound                   // has a SNAT address
	released                // its SNAT address is no more
)

const (
	resolved way = iota
	unresolved
	noRoute
)

const (
	whole piece = iota
	firstPiece
	laterPiece
)

// situation is one point of Decide's domain for packets with ports, in the
// terms in which one talks about it.
type situation struct {
	// The node.
	method      fib.Method
	policy      fib.GonePolicy
	way         way
	otherFamily bool // the backends' family is not the client's
	empty       bool // no backend may be chosen
	closed      bool // the service's source ranges leave the client out
	sticky      bool // the service has session affinity
	v6          bool

	// The packet.
	to         fib.LocalKind // 0: no address of ours
	noService  bool          // on its port and protocol
	proto      uint8
	flags      uint8
	piece      piece
	ttl        uint8
	size       uint32
	mayCut     bool // IPv4 without DF
	toGroup    bool // at the link layer
	fromVIP    bool
	hasReturn  bool // the way back to the flow's client is known
	known      bool // it belongs to a flow
	state      flow.State
	serviceEnd bool // the flow's service is no more
	backend    health
	binding    binding
	client     int  // affinity record: -1 none, otherwise a health
	over       bool // the record's time is over
}

// outcome is what Decide is to say.
type outcome struct {
	reason  reason.Reason
	op      dataplane.Op
	flow    dataplane.FlowOp
	service bool   // it names the service
	backend health // it names this backend, -1 for none
	mtu     uint32
}

const nobody health = -1

func end(r reason.Reason) outcome { return outcome{reason: r, backend: nobody} }

func (o outcome) forService() outcome { o.service = true; return o }

func (o outcome) forgetting(known bool) outcome {
	if known {
		o.flow = dataplane.FlowForget
	}
	return o
}

// expect says what is right, rule by rule, as slowly as it likes.
func (s *situation) expect() outcome {
	switch s.to {
	case 0, fib.LocalTunnel:
		return end(reason.PassNotOurs)
	}
	if s.toGroup {
		return end(reason.LinkBroadcast)
	}
	if s.to == fib.LocalSNAT {
		return s.expectReply()
	}
	if s.proto != packet.ProtoTCP && s.proto != packet.ProtoUDP && s.proto != packet.ProtoSCTP {
		return end(reason.ProtocolUnsupported)
	}
	syn := s.proto == packet.ProtoTCP && s.flags&packet.TCPFlagSYN != 0 && s.flags&packet.TCPFlagACK == 0
	if s.known && !s.serviceEnd {
		// A packet of a flow of a living service.
		switch {
		case s.closed:
			return end(reason.SourceNotAllowed).forService().forgetting(true)
		case syn && (s.state == flow.StateFinWait || s.state == flow.StateClosed):
			return s.expectNew()
		case s.backend == gone || s.backend == beyond || s.backend == down:
			return s.expectLost(syn)
		case (s.method == fib.MethodNAT) == (s.binding == unbound):
			return s.expectLost(syn) // the method was changed under it
		case s.binding == released:
			return s.expectLost(syn)
		}
		o := outcome{reason: reason.ForwardFlow, flow: dataplane.FlowTouch}
		if s.piece == laterPiece {
			o.reason = reason.FragmentForward
		}
		return s.carried(o, s.backend)
	}
	switch {
	case s.noService:
		return end(reason.ServiceNotFound).forgetting(s.known)
	case s.known && s.method == fib.MethodNAT && !s.closed:
		return s.expectLost(syn)
	}
	return s.expectNew()
}

// expectLost: a flow has lost its backend or its binding.
func (s *situation) expectLost(syn bool) outcome {
	if s.proto != packet.ProtoTCP || s.policy == fib.GoneRehash || syn {
		return s.expectNew()
	}
	mayReset := s.piece == whole && s.flags&packet.TCPFlagRST == 0
	if s.policy == fib.GoneReset && mayReset {
		return outcome{reason: reason.ResetReply, op: dataplane.OpReset, flow: dataplane.FlowReset, service: true, backend: nobody}
	}
	return end(reason.BackendGone).forService().forgetting(true)
}

// expectNew: a backend is to be chosen.
func (s *situation) expectNew() outcome {
	nat := s.method == fib.MethodNAT
	syn := s.flags&(packet.TCPFlagSYN|packet.TCPFlagACK) == packet.TCPFlagSYN
	refuse := reason.None
	switch {
	case s.closed:
		refuse = reason.SourceNotAllowed
	case s.fromVIP:
		refuse = reason.SourceInvalid
	case nat && s.piece == laterPiece:
		refuse = reason.FlowNotFound
	case nat && s.proto == packet.ProtoTCP && !s.known && !syn:
		refuse = reason.TCPNotSYN
	case s.sticky && s.client == int(up) && !s.over:
	case s.empty:
		return s.expectRefusal(syn)
	}
	if refuse != reason.None {
		return end(refuse).forService().forgetting(s.known)
	}
	o := outcome{reason: reason.ForwardNew, flow: dataplane.FlowInsert}
	if s.known {
		o.flow = dataplane.FlowReplace
	}
	return s.carried(o, up)
}

// expectRefusal: no backend takes new flows.
func (s *situation) expectRefusal(syn bool) outcome {
	o := outcome{reason: reason.RefusedReply, backend: nobody}
	switch {
	case s.policy == fib.GoneDrop:
		o.reason = reason.ServiceEmpty
	case s.proto == packet.ProtoTCP && syn && s.piece == whole && s.flags&packet.TCPFlagRST == 0:
		o.op = dataplane.OpReset
	case s.proto == packet.ProtoUDP && s.piece != laterPiece:
		o.op = dataplane.OpUnreachable
	default:
		o.reason = reason.ServiceEmpty
	}
	return o.forService().forgetting(s.known)
}

// carried: the packet is to go to backend b, if it can get there.
func (s *situation) carried(o outcome, b health) outcome {
	o.service, o.backend = true, b
	drop := func(r reason.Reason) outcome { o.reason, o.op, o.flow = r, 0, 0; return o }
	if s.ttl <= 1 {
		if s.piece == laterPiece {
			return drop(reason.TTLExpired)
		}
		o.reason, o.op, o.flow = reason.TTLExpiredReply, dataplane.OpTTLExpired, 0
		return o
	}
	if s.way != resolved {
		return drop(reason.NextHopUnresolved)
	}
	backend6 := s.v6 != s.otherFamily
	header := uint32(20)
	if backend6 {
		header = 40
	}
	room := uint32(1500)
	switch s.method {
	case fib.MethodNAT:
		o.op = dataplane.OpNATForward
	case fib.MethodL2:
		o.op = dataplane.OpL2
	case fib.MethodIPIP:
		o.op, room = dataplane.OpIPIP, room-header
	case fib.MethodGUE:
		o.op, room = dataplane.OpGUE, room-header-8-4
	}
	if s.otherFamily && (s.method == fib.MethodNAT || s.method == fib.MethodL2) {
		return drop(reason.FamilyMismatch)
	}
	return s.sized(o, room)
}

// sized: the packet goes unless it is larger than room.
func (s *situation) sized(o outcome, room uint32) outcome {
	switch {
	case s.size <= room:
	case s.mayCut && !s.v6:
		o.mtu = room
	case s.piece == laterPiece:
		o.reason, o.op, o.flow = reason.TooBig, 0, 0
	default:
		o.reason, o.op, o.flow, o.mtu = reason.TooBigReply, dataplane.OpTooBig, 0, room
	}
	return o
}

// expectReply: a packet to a SNAT address.
func (s *situation) expectReply() outcome {
	switch {
	case !s.known:
		return end(reason.FlowNotFound)
	case s.serviceEnd:
		return end(reason.ServiceNotFound).forgetting(true)
	case s.closed:
		return end(reason.SourceNotAllowed).forService().forgetting(true)
	case s.backend == gone || s.backend == beyond:
		return end(reason.BackendGone).forService()
	}
	o := outcome{reason: reason.ReplyFlow, op: dataplane.OpNATReply, flow: dataplane.FlowTouch, service: true, backend: s.backend}
	if s.piece == laterPiece {
		o.reason = reason.FragmentForward
	}
	switch {
	case s.ttl <= 1 && s.piece == laterPiece:
		o.reason, o.op, o.flow = reason.TTLExpired, 0, 0
	case s.ttl <= 1:
		o.reason, o.op, o.flow = reason.TTLExpiredReply, dataplane.OpTTLExpired, 0
	case !s.hasReturn:
		o.reason, o.op, o.flow = reason.NextHopUnresolved, 0, 0
	default:
		return s.sized(o, 1500)
	}
	return o
}
