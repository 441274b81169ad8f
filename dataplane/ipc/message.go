// Package ipc is the seam between the control process and the data process:
// the messages and descriptors that cross the Unix socket between them, and
// the memory in which the data process counts and the control process reads.
//
// The control process keeps every descriptor it sends, so that it can hand the
// same sockets and memory to the next data process when this one dies.
package ipc

import "fmt"

// Kind says what a message is.
type Kind string

// Messages to the data process. Setup comes first, then one Worker message for
// each worker, then the first FIB; forwarding starts with it.
const (
	KindSetup  Kind = "setup"  // Setup; descriptors: flow table, counters, and those of Memo
	KindWorker Kind = "worker" // WorkerSetup; descriptors: UMEM, then one socket a queue
	KindFIB    Kind = "fib"    // FIB; descriptor: the sealed image
	KindStop   Kind = "stop"   // no body: finish the batch and exit

	KindProfile Kind = "profile" // Profile; descriptor: the file to write it to. At any time after the first FIB
)

// Messages from the data process.
const (
	KindReady   Kind = "ready"   // Ready: forwarding by the first FIB
	KindAck     Kind = "ack"     // Ack: every worker decides by this generation
	KindRefused Kind = "refused" // Refused: the image was not taken, the last one stays in force

	KindProfiled Kind = "profiled" // Profiled: the answer to Profile
)

// Setup is what all workers share.
type Setup struct {
	Workers  int   `json:"workers"`
	Flows    int   `json:"flows"`          // capacity of the flow table
	Services int   `json:"services"`       // service slots in the counters
	Backends int   `json:"backends"`       // backend slots in the counters
	HoldMost int   `json:"holdMost"`       // fragments a worker may hold
	SpinUS   int   `json:"spinUs"`         // how long an idle worker polls before it sleeps, in microseconds
	Resume   bool  `json:"resume"`         // a data process used these rings before: recover who owns each frame
	Memos    int   `json:"memos"`          // directions of flows to remember verdicts for
	Memo     *Memo `json:"memo,omitempty"` // the XDP program's memory for them, nil when it forwards nothing itself
}

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
}

// FIB announces an image.
type FIB struct {
	Generation uint64 `json:"generation"`
	Size       int    `json:"size"` // bytes
}

// Ready is the data process's first word.
type Ready struct {
	PID          int    `json:"pid"`
	UID          int    `json:"uid"`
	Capabilities uint64 `json:"capabilities"` // union of its permitted, effective, inheritable and ambient sets; 0 is what it must be
	NoNewPrivs   bool   `json:"noNewPrivs"`
	Generation   uint64 `json:"generation"`
	Recovered    int    `json:"recovered"` // frames of the process before that were found in the rings
	Lost         int    `json:"lost"`      // frames that it had taken and not accounted for
}

// Ack says that every worker decides by this generation, so that older images
// may go.
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
