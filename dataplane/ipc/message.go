// Package ipc is the seam between the control process and the data process:
// the messages and descriptors that cross the Unix socket between them, and
// the memory in which the data process counts and the control process reads.
//
// The control process keeps every descriptor it sends, so that it can hand the
// same sockets and memory to the next data process when this one dies. The data
// process keeps them too: when the control process dies, the next one is handed
// all of it by the data process that went on forwarding (Listener, Dial).
package ipc

import (
	"encoding/json"
	"fmt"

	"fairlead/dataplane/fib"
)

// Kind says what a message is.
type Kind string

// Messages to the data process. Setup comes first, then one Worker message for
// each worker, then the first FIB. The process says that it is warm; from then
// on it follows images without touching a ring, until it is told to take over.
// That may be at once, or when the process that forwards has ended.
const (
	KindSetup  Kind = "setup"  // Setup; descriptors: see Setup.Descriptors
	KindWorker Kind = "worker" // WorkerSetup; descriptors: UMEM, then one socket a queue
	KindFIB    Kind = "fib"    // FIB; descriptor: the sealed image
	KindPatch  Kind = "patch"  // Patch: the image that rests was patched and is to be in force
	KindTake   Kind = "take"   // no body: nobody else uses the rings any more; forward
	KindYield  Kind = "yield"  // no body: finish the batch, leave the rings as they are, say so, and exit
	KindStop   Kind = "stop"   // no body: finish the batch and exit

	KindProfile Kind = "profile" // Profile; descriptor: the file to write it to. At any time after the first FIB
)

// Messages from the data process.
const (
	KindWarm    Kind = "warm"    // Warm: everything is mapped and verified; KindTake makes it forward
	KindReady   Kind = "ready"   // Ready: it forwards
	KindYielded Kind = "yielded" // no body: it uses no ring any more
	KindAck     Kind = "ack"     // Ack: every worker decides by this generation
	KindRefused Kind = "refused" // Refused: the image was not taken, the last one stays in force

	KindProfiled Kind = "profiled" // Profiled: the answer to Profile
)

// Messages from a data process to a control process that has connected to its
// Listener. The one it serves is told nothing of it, and only when that one is
// gone is another one served: it is sent the same Setup, Worker and FIB messages
// that the data process was given, with the same descriptors, and then Ready.
const (
	KindBusy Kind = "busy" // Busy: another control process is served; the connection is closed
)

// Busy says who is served.
type Busy struct {
	PID int `json:"pid"`
}

// Setup is what all workers share.
type Setup struct {
	Layout   int   `json:"layout"` // of the control process
	Workers  int   `json:"workers"`
	Flows    int   `json:"flows"`          // capacity of the flow table
	Services int   `json:"services"`       // service slots in the counters
	Backends int   `json:"backends"`       // backend slots in the counters
	HoldMost int   `json:"holdMost"`       // fragments a worker may hold
	SpinUS   int   `json:"spinUs"`         // how long an idle worker polls before it sleeps, in microseconds
	Resume   bool  `json:"resume"`         // a data process used these rings before: recover who owns each frame
	Memos    int   `json:"memos"`          // directions of flows to remember verdicts for
	Accounts int   `json:"accounts"`       // bytes of the queues' accounts of new connections
	Taps     int   `json:"taps"`           // bytes of the memory by which packets are looked at
	Tells    int   `json:"tells"`          // bytes of the memory by which peers are told of flows
	Memo     *Memo `json:"memo,omitempty"` // the XDP program's memory for them, nil when it forwards nothing itself

	// Listens says that the process is given a Listener, by which a control
	// process finds it when the one that started it is gone. Without, it ends
	// with its control process.
	Listens bool `json:"listens,omitempty"`
	// Owner is the user that may connect to it, besides root.
	Owner uint32 `json:"owner,omitempty"`
	// Orphan is for how many milliseconds it goes on without a control process;
	// 0: for ever.
	Orphan int64 `json:"orphan,omitempty"`
	// Held names descriptors that the process does nothing with: it keeps them
	// for the next control process.
	Held []string `json:"held,omitempty"`
	// Estate is what a control process notes for the next one.
	Estate json.RawMessage `json:"estate,omitempty"`
}

// Descriptors is how many descriptors a Setup comes with, in this order: flow
// table, counters, admission, taps, tells; those of Memo; the Listener; those that are Held.
func (s *Setup) Descriptors() int {
	n := 5 + len(s.Held)
	if s.Memo != nil {
		n += 3
	}
	if s.Listens {
		n++
	}
	return n
}

// Layout is the version of all that two processes of different binaries share:
// messages, counters, rings' custody, flow table, FIB. A process takes nothing
// over from one with another layout.
const Layout = 2

// Memo is the memory that the data process shares with the XDP program; its
// descriptors follow those of Setup: entries, routes, counts. The sizes are in
// bytes.
type Memo struct {
	Entries int       `json:"entries"`
	Routes  int       `json:"routes"`
	Counts  int       `json:"counts"`
	Seed    [2]uint64 `json:"seed"`
}

// WorkerSetup is one worker's memory and queues.
type WorkerSetup struct {
	Index     int     `json:"index"`
	CPU       int     `json:"cpu"` // -1: not pinned
	Chunks    int     `json:"chunks"`
	ChunkSize int     `json:"chunkSize"`
	Headroom  int     `json:"headroom"`
	HugePages bool    `json:"hugePages"`
	Queues    []Queue `json:"queues"`
}

// Queue is one AF_XDP socket of a worker.
type Queue struct {
	Port     uint16 `json:"port"` // index of its interface in the FIB
	Name     string `json:"name"` // interface and queue, for messages
	IfIndex  int    `json:"ifIndex"`
	Queue    int    `json:"queue"` // of the interface
	FillSize int    `json:"fillSize"`
	CompSize int    `json:"compSize"`
	RXSize   int    `json:"rxSize"`
	TXSize   int    `json:"txSize"`
	Account  int    `json:"account"` // number of its account of new connections; negative: it has none
}

// FIB announces an image. One that rests is kept for the patch to come: it is
// the other of the two that take turns (fib.Images) and holds what has been in
// force. Any other is to be in force, and what was there before is given up.
type FIB struct {
	Generation uint64 `json:"generation"`        // of the image in force once this is acknowledged
	Size       int    `json:"size"`              // bytes
	Resting    bool   `json:"resting,omitempty"` // it is not to be in force
}

// Patch announces that the resting image was patched: it is to be in force, and
// the one that was rests.
type Patch struct {
	Generation uint64 `json:"generation"`
	// Written are the runs of records in which the image may differ from what
	// it was when it last rested: section, first, count. Everything has to be
	// looked at when All is set.
	Written [][3]uint32 `json:"written,omitempty"`
	All     bool        `json:"all,omitempty"`
}

// maxWritten is how many runs one message can name.
const maxWritten = 1500

// NewPatch describes what was written in as much detail as a message has room
// for.
func NewPatch(generation uint64, written []fib.Range) Patch {
	p := Patch{Generation: generation, All: len(written) > maxWritten}
	if !p.All {
		for _, r := range written {
			p.Written = append(p.Written, [3]uint32{r.Section, r.First, r.Count})
		}
	}
	return p
}

// Ranges is Written as the FIB knows it.
func (p *Patch) Ranges() []fib.Range {
	ranges := make([]fib.Range, len(p.Written))
	for i, w := range p.Written {
		ranges[i] = fib.Range{Section: w[0], First: w[1], Count: w[2]}
	}
	return ranges
}

// Warm is the data process's first word.
type Warm struct {
	PID    int `json:"pid"`
	Layout int `json:"layout"`
}

// Ready says that the data process forwards. When it is sent to a control
// process that did not start it, a descriptor of the process (pidfd) comes with
// it.
type Ready struct {
	PID          int    `json:"pid"`
	UID          int    `json:"uid"`
	Capabilities uint64 `json:"capabilities"` // union of its permitted, effective, inheritable and ambient sets; 0 is what it must be
	NoNewPrivs   bool   `json:"noNewPrivs"`
	Generation   uint64 `json:"generation"`
	Recovered    int    `json:"recovered"` // frames of the process before that were found in the rings
	Lost         int    `json:"lost"`      // frames that it had taken and not accounted for
	TookUS       int64  `json:"tookUs"`    // from being told to take over to forwarding, in microseconds
	Version      string `json:"version"`   // of its binary
}

// Ack says that every worker decides by this generation, so that older images
// may go, or be patched.
type Ack struct {
	Generation uint64 `json:"generation"`
}

// Refused says why an image was not taken.
type Refused struct {
	Generation uint64 `json:"generation"`
	Error      string `json:"error"`
}

// Profile asks for a recording of where the data process spends its CPU time.
type Profile struct {
	Milliseconds int64 `json:"milliseconds"`
}

// Profiled says that the recording is complete, or why there is none.
type Profiled struct {
	Error string `json:"error,omitempty"`
}

// KindError says that a message of another kind came than was due.
type KindError struct {
	Want, Got Kind
}

// Error names both kinds.
func (e *KindError) Error() string {
	return fmt.Sprintf("ipc: a %q message was due, a %q message came", e.Want, e.Got)
}
