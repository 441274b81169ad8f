// Package ledger accounts for every frame: what each worker counts, in memory
// that the control process shares, and the proof that the numbers balance.
package ledger

import (
	"fmt"
	"unsafe"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
)

// Ledger is one worker's account of every frame, written by that worker alone
// and read by anyone. It lies in memory that the control process shares, so it
// has a fixed layout without pointers. Between two batches it balances
// exactly:
//
//	Received + Created = sum of Ended + InFlight
type Ledger struct {
	Received   uint64                // frames taken from RX rings
	Created    uint64                // frames made by cutting one that was too long into fragments
	Ended      [reason.Count]uint64  // frames whose journey has ended, by reason; transmitted ones end when the TX ring accepts them
	InFlight   uint64                // frames the worker still holds: fragments that wait for their first one
	Bytes      uint64                // bytes received
	BytesSent  uint64                // bytes transmitted
	Generation uint64                // FIB generation that the worker's last batch was decided by
	Beat       uint64                // counts the worker's rounds: it stands still when the worker is stuck
	RX         [nic.MaxQueues]uint64 // frames received since its socket was bound, by the worker's queues in order
	TX         [nic.MaxPorts]uint64  // frames transmitted, by port
	Stateless  uint64                // direct-reply flows carried without an entry, the flow table having no room
	Restarts   uint64                // data processes that took this ledger over
	ByMemo     uint64                // frames that went by a flow memo, without being decided upon anew
}

// Size is the size of a Ledger in bytes.
const Size = int(unsafe.Sizeof(Ledger{}))

// Tally counts the packets of one service or one backend. It lies in shared
// memory, indexed by slot.
type Tally struct {
	Packets uint64 // carried, both directions
	Bytes   uint64 // of those, frame lengths before the rewrite
	Flows   uint64 // new flows
	Drops   uint64 // packets dropped
}

// Add adds another tally to t.
func (t *Tally) Add(o Tally) {
	t.Packets += o.Packets
	t.Bytes += o.Bytes
	t.Flows += o.Flows
	t.Drops += o.Drops
}

// Counters are all that one worker counts.
type Counters struct {
	Ledger   *Ledger
	Services []Tally // by service slot
	Backends []Tally // by backend slot
}

// New makes counters in ordinary memory, for a worker whose counters
// nobody shares.
func New(services, backends int) Counters {
	return Counters{Ledger: new(Ledger), Services: make([]Tally, services), Backends: make([]Tally, backends)}
}

// Sum adds up the frames that ended in action a.
func (l *Ledger) Sum(a reason.Action) uint64 {
	var n uint64
	for r, c := range l.Ended {
		if reason.Reason(r).Action() == a {
			n += c
		}
	}
	return n
}

// Check returns an error that shows the difference when the ledger does not
// balance. It means something only between two batches.
func (l *Ledger) Check() error {
	in := l.Received + l.Created
	out := l.Sum(reason.Transmit) + l.Sum(reason.Pass) + l.Sum(reason.Drop) + l.InFlight
	if in != out {
		return fmt.Errorf("ledger: received %d + created %d = %d, but transmitted %d + passed %d + dropped %d + in flight %d = %d",
			l.Received, l.Created, in, l.Sum(reason.Transmit), l.Sum(reason.Pass), l.Sum(reason.Drop), l.InFlight, out)
	}
	if l.Ended[reason.None] != 0 {
		return fmt.Errorf("ledger: %d frames ended without a reason", l.Ended[reason.None])
	}
	return nil
}

// Add adds another worker's ledger to l; generation and beat are left alone.
func (l *Ledger) Add(o *Ledger) {
	l.Received += o.Received
	l.Created += o.Created
	for r := range l.Ended {
		l.Ended[r] += o.Ended[r]
	}
	l.InFlight += o.InFlight
	l.Bytes += o.Bytes
	l.BytesSent += o.BytesSent
	for q := range l.RX {
		l.RX[q] += o.RX[q]
	}
	for p := range l.TX {
		l.TX[p] += o.TX[p]
	}
	l.Stateless += o.Stateless
	l.Restarts += o.Restarts
	l.ByMemo += o.ByMemo
}

// Recover closes the account of a worker that died: frames that it had taken
// and not accounted for ended with RestartLost. consumed is how many frames
// were ever taken from each queue's RX ring, modulo 2^32. It returns how many
// frames were lost.
func (l *Ledger) Recover(consumed []uint32) uint64 {
	l.Restarts++
	before := l.Ended[reason.RestartLost]
	for q, n := range consumed {
		lost := uint64(n - uint32(l.RX[q]))
		l.RX[q] += lost
		l.Received += lost
		l.Ended[reason.RestartLost] += lost
	}
	l.Close()
	return l.Ended[reason.RestartLost] - before
}

// Close closes the account of a worker that is no more, whose rings are gone:
// frames that it had taken and not accounted for ended with RestartLost. After
// a worker that stopped in good order it changes nothing.
func (l *Ledger) Close() {
	l.Ended[reason.RestartLost] += l.InFlight
	l.InFlight = 0
	// The worker may have died between two counts of one batch.
	in := l.Received + l.Created
	out := l.Sum(reason.Transmit) + l.Sum(reason.Pass) + l.Sum(reason.Drop)
	switch {
	case in > out:
		l.Ended[reason.RestartLost] += in - out
	case in < out:
		l.Received += out - in
	}
}

// Rebound closes the account of the worker before, and begins to count what is
// taken from RX rings anew: the next one has fresh sockets, whose rings begin
// at 0.
func (l *Ledger) Rebound() {
	l.Close()
	l.RX = [nic.MaxQueues]uint64{}
}

// Sent counts frames that a port's TX ring took.
func (l *Ledger) Sent(port uint16, frames []nic.Frame) {
	l.TX[port] += uint64(len(frames))
	for i := range frames {
		l.BytesSent += uint64(frames[i].Len)
	}
}
