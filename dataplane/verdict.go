// Package dataplane is the worker: it receives a batch, parses it, decides,
// rewrites and sends, one function a stage, and accounts for every frame.
package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/reason"
)

// Op says which bytes of a frame change. Package rewrite has one function for
// each.
type Op uint8

// The rewrites.
const (
	OpNone           Op = iota
	OpNATForward        // client to backend: destination, source, ports
	OpNATReply          // backend to client: source, destination, ports
	OpIPIP              // outer IP header in front
	OpGUE               // outer IP, UDP and GUE headers in front
	OpL2                // MAC addresses only
	OpICMPToBackend     // ICMP error whose quote is a NAT flow's reply: rewritten to the backend's view
	OpICMPToClient      // ICMP error whose quote is a NAT flow's forward packet: rewritten to the client's view
	OpEchoReply         // answer a ping
	OpARPReply          // answer an ARP request
	OpNeighborAdvert    // answer a neighbour solicitation
	OpTooBig            // answer frag-needed or packet-too-big
	OpTTLExpired        // answer time-exceeded
	OpReset             // answer a TCP RST
	OpUnreachable       // answer port-unreachable
)

// FlowOp says what happens to the flow table.
type FlowOp uint8

// The flow table operations.
const (
	FlowNone    FlowOp = iota
	FlowInsert         // record a new flow
	FlowTouch          // advance the flow's state and idle time
	FlowForget         // remove the flow
	FlowReset          // the answer resets the flow, as if its backend had: it is closed, and remembered as long as one is
	FlowReplace        // forget the flow and record a new one on its tuple
)

// Verdict is what Decide says of one packet. It is a plain value.
type Verdict struct {
	Action  reason.Action
	Reason  reason.Reason
	Op      Op
	FlowOp  FlowOp
	Service uint32 // slot in the snapshot, fib.NoIndex when no service matched
	Backend uint32 // slot in the snapshot, fib.NoIndex when none was chosen
	NextHop uint32 // index in the snapshot, fib.NoIndex: back where the frame came from
	MTU     uint32 // OpTooBig: the MTU to tell
}

// none is a verdict that concerns no service, backend or next hop.
var none = Verdict{Service: fib.NoIndex, Backend: fib.NoIndex, NextHop: fib.NoIndex}

// drop is a verdict of a stage other than Decide: the frame ends here.
func drop(r reason.Reason) Verdict {
	v := none
	v.drop(r)
	return v
}

func (v *Verdict) pass(r reason.Reason) { v.Action, v.Reason = reason.Pass, r }

// drop ends the packet's journey; the verdict keeps saying which service and
// backend it was about.
func (v *Verdict) drop(r reason.Reason) {
	v.Action, v.Reason, v.Op, v.FlowOp = reason.Drop, r, OpNone, FlowNone
}

// answer turns the packet itself into a reply to its sender.
func (v *Verdict) answer(r reason.Reason, op Op) {
	v.Action, v.Reason, v.Op, v.FlowOp, v.NextHop = reason.Transmit, r, op, FlowNone, fib.NoIndex
}

// forget adds that the packet's flow, if it has one, ends.
func (v *Verdict) forget(in *Input) {
	if in.Flow != nil {
		v.FlowOp = FlowForget
	}
}
