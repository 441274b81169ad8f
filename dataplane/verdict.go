// Package dataplane is the worker: it receives a batch, parses it, decides,
// rewrites and sends, one function a stage, and accounts for every frame.
package dataplane

import "fairlead/dataplane/reason"

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
)

// FlowOp says what happens to the flow table.
type FlowOp uint8

// The flow table operations.
const (
	FlowNone   FlowOp = iota
	FlowInsert        // record a new flow
	FlowTouch         // advance the flow's state and idle time
	FlowForget        // remove the flow
	FlowMove          // replace the flow's backend
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
