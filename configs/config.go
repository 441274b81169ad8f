// Package configs reads the configuration file: its schema, its defaults, the
// checks of every value, and the line and column of everything that is wrong.
// The commented reference file that documents all of it is fairlead.toml,
// embedded here (Reference).
//
// What a value means on its own (type, range, spelling) is checked here; how
// the services, pools and addresses fit together is checked by
// controlplane/model, and its findings are given their place in the file.
package configs

import (
	"log/slog"
	"net/netip"
	"time"

	"fairlead/controlplane/model"
)

// Config is a complete configuration: defaults are filled in and every check
// that needs nothing but the file has passed.
type Config struct {
	Node       Node
	Dataplane  Dataplane
	XDP        XDP
	Store      Store
	API        API
	ARP        ARP
	Metrics    Metrics
	Lifecycle  Lifecycle
	Cluster    Cluster
	Kubernetes Kubernetes
	Interfaces []Interface
	Neighbors  []Neighbor
	BGP        model.BGP
	State      model.State
}

// Node is what holds for this node as a whole. The hash seed is in
// Config.State.
type Node struct {
	Name      string // Load fills in the host name; empty after Parse when the file gives none
	LogLevel  slog.Level
	LogFormat LogFormat
	LogRate   int // lines of one message that are written in a second in the long run; 0: all
	LogBurst  int // and at once
}

// LogFormat is how log lines are written.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Dataplane is what the data process is given.
type Dataplane struct {
	RingSize       int // entries of each AF_XDP ring, a power of two
	Frames         int // frames per queue of each interface
	FrameSize      int // bytes, 2048 or 4096
	Headroom       int // bytes before each received frame, for outer headers
	FlowTableSize  int // flows
	FlowMemo       FlowMemo
	FlowMemoSize   int           // directions of flows that may have a memo at a time; 0: as many as FlowTableSize
	Queues         int           // queues to use of an interface that does not say; 0: as many as it has
	CPUs           []int         // worker i runs on CPUs[i % len(CPUs)]; empty: wherever the scheduler likes
	BusyPoll       time.Duration // 0: off; otherwise whole microseconds
	BusyPollBudget int           // frames per busy poll
	HugePages      bool
	Spin           time.Duration // how long an idle worker polls before it sleeps
	User           string        // user name or decimal user id of the data process, never root
}

// FlowMemo says whether the XDP program forwards the plain packets of
// established flows by the verdicts it was given.
type FlowMemo string

// The flow memo settings.
const (
	FlowMemoAuto FlowMemo = "auto" // on interfaces without zero copy, where the processor allows it
	FlowMemoOn   FlowMemo = "on"   // on all interfaces, or fail
	FlowMemoOff  FlowMemo = "off"
)

// Memos is how many directions of flows may have a memo at a time.
func (d *Dataplane) Memos() int {
	if d.FlowMemoSize == 0 {
		return d.FlowTableSize
	}
	return d.FlowMemoSize
}

// XDP is where the XDP program and its maps live.
type XDP struct {
	PinPath string // directory on a BPF file system; empty: nothing is pinned
}

// XDPMode is how the XDP program is attached to an interface.
type XDPMode string

// The XDP modes.
const (
	XDPAuto    XDPMode = "auto"    // native, or generic where the driver has no XDP
	XDPNative  XDPMode = "native"  // in the driver, or fail
	XDPGeneric XDPMode = "generic" // in the network stack
)

// ZeroCopy is how the AF_XDP sockets of an interface are bound.
type ZeroCopy string

// The zero-copy settings.
const (
	ZeroCopyAuto ZeroCopy = "auto" // zero-copy, or copy mode where the driver cannot
	ZeroCopyOn   ZeroCopy = "on"   // zero-copy, or fail
	ZeroCopyOff  ZeroCopy = "off"  // copy mode
)

// XDPTX is how flow memos send a packet back by the interface it came in by.
type XDPTX string

// The ways back.
const (
	XDPTXAuto XDPTX = "auto" // with XDP_TX, but for veth
	XDPTXOn   XDPTX = "on"   // with XDP_TX
	XDPTXOff  XDPTX = "off"  // by a redirect to the interface itself
)

// Interface is one network interface that Fairlead drives, in the order of
// the file, which is the order that frames count ports in.
type Interface struct {
	Name       string
	Queues     int // 0: as many as the interface has
	XDPMode    XDPMode
	ZeroCopy   ZeroCopy
	XDPTX      XDPTX
	NeedWakeup bool

	// Static facts, which stand in for what the kernel would say.
	MAC     [6]byte    // zero: the interface's own
	MTU     int        // 0: the interface's own
	Gateway netip.Addr // the zero Addr: by the routing table
}

// Neighbor is a static next hop: the link-layer address of a backend or a
// gateway.
type Neighbor struct {
	Address   netip.Addr
	MAC       [6]byte
	Interface string // name of an Interface
}
