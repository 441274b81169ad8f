package metrics

import "time"

// Source is the running node. Its methods may be called from any goroutine and
// at any time.
type Source interface {
	// DataProcess is the data process's number, 0 when there is none.
	DataProcess() int
	// Metrics is what the node says of itself.
	Metrics() *Node
	// MetricServices calls f for every service, a few at a time, so that no
	// change waits for all of them.
	MetricServices(f func(*Service))
	// MetricPools calls f for every pool, one at a time. With backends it says
	// what each of them has counted, too.
	MetricPools(backends bool, f func(*Pool))
}

// Node is what a node says of itself at one moment.
type Node struct {
	Name, Version string

	Published, Acknowledged uint64 // generations
	ImageBytes              int    // of the forwarding image in force
	Builds                  []Builds
	LastBuild               time.Duration
	Draining                int // removed backends whose flows live on
	NextHops, Unresolved    int // ways to backends and routers, and those without an Ethernet address

	DataRunning  bool
	DataRestarts int

	FlowCapacity int               // flows that the flow table holds
	Flows        map[string]uint64 // those that it has, by state; nil: not known

	Ledger     Ledger
	Workers    []Worker
	Queues     []Queue
	Interfaces []Interface
}

// Builds are the generations that were published in one way.
type Builds struct {
	Kind  string // full or patch
	Count uint64
	Time  time.Duration // that working them out and putting them in force took, all together
}

// Ledger accounts for every frame that reached a worker.
type Ledger struct {
	Received, Created, InFlight uint64
	Ended                       []Ended
	BytesReceived, BytesSent    uint64
	Stateless                   uint64 // direct-reply flows carried without an entry in the flow table
	MemoUser, MemoKernel        uint64 // frames that went by a flow memo, in the data process and in the XDP program
	// Difference is what is missing when no worker is in the middle of a batch.
	Difference int64
}

// Ended are the frames whose journey ended with one reason.
type Ended struct {
	Action, Reason string
	Frames         uint64
}

// Worker is one worker of the data process.
type Worker struct {
	Received, Transmitted, Passed, Dropped uint64
	Rounds                                 uint64        // it has finished
	BeatAge                                time.Duration // since it was last seen to finish one; negative: not known

	// Frames of its packet memory by who has them: the worker itself (free ones
	// among them), the receiving and the sending side of its sockets.
	Own, Receive, Send int
}

// Queue is one socket.
type Queue struct {
	Interface string
	Queue     int
	Worker    int
	ZeroCopy  bool

	Rings [4]Ring // rx, tx, fill, completion
	Known bool    // whether the following could be read

	RXDropped, RXRingFull, RXInvalid, TXInvalid, FillRingEmpty uint64 // the kernel's counters
}

// Ring is how full a ring is, in entries.
type Ring struct {
	Used, Size int
}

// RingNames are the names of a queue's rings, in the order of Queue.Rings.
var RingNames = [4]string{"rx", "tx", "fill", "completion"}

// Interface is one interface with what its XDP program has counted.
type Interface struct {
	Name     string
	Up       bool
	Outcomes []Outcome
}

// Outcome is what became of frames in the XDP program.
type Outcome struct {
	Name   string
	Frames uint64
}

// Tally is what a service or a backend has counted.
type Tally struct {
	Packets, Bytes, NewFlows, Drops uint64
}

// Service is one service.
type Service struct {
	Name, VIP, Protocol, Ports, Pool, Method string
	Tally
	ActiveFlows *uint64 // nil: not known
}

// Pool is one pool.
type Pool struct {
	Name     string
	States   [StateCount]int // backends by state
	Backends []Backend       // valid until the callback returns
}

// Backend is one backend of a pool.
type Backend struct {
	Name   string
	State  State
	Weight uint32
	Tally
	ActiveFlows *uint64 // nil: not known
	Check       *Check  // nil: it is not checked
}

// Check is what the health checks of a backend say.
type Check struct {
	Known, Healthy    bool
	Latency           time.Duration // of the last one that succeeded, on the slowest way
	Succeeded, Failed uint64
}

// State is how a backend takes part.
type State uint8

// The states of a backend.
const (
	StateUp         State = iota // it gets new flows
	StateDown                    // dead or disabled
	StateDraining                // it keeps the flows it has
	StateUnresolved              // the Ethernet address on the way to it is not known

	StateCount = iota
)

// String gives the state's stable name.
func (s State) String() string { return stateNames[s] }

var stateNames = [StateCount]string{"up", "down", "draining", "unresolved"}
