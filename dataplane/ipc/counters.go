package ipc

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/ledger"
)

// Counters are the counters of all workers, and of the XDP program, over shared
// memory. A worker's part
// begins on a page of its own, so that no two workers write to one cache line.
// The memory is sparse: slots that are never counted cost nothing.
type Counters struct {
	Workers []ledger.Counters
	Kernel  ledger.Counters // what the XDP program forwarded by itself
	// before is what the slots of services and backends had counted for earlier
	// owners. The control process writes it.
	before ledger.Counters
}

const page = 4096

// CountersSize is how many bytes the counters of so many workers, with so many
// service and backend slots each, take.
func CountersSize(workers, services, backends int) int {
	return (workers + 2) * workerSize(services, backends)
}

// MapCounters lays the counters over memory of CountersSize bytes. All zero is
// a good start; what is there already goes on.
func MapCounters(mem []byte, workers, services, backends int) (*Counters, error) {
	if want := CountersSize(workers, services, backends); len(mem) < want {
		return nil, fmt.Errorf("ipc: counters take %d bytes, the memory has %d", want, len(mem))
	}
	parts := make([]ledger.Counters, workers+2)
	for i := range parts {
		at := mem[i*workerSize(services, backends):]
		tallies := unsafe.Slice((*ledger.Tally)(unsafe.Pointer(&at[pages(ledger.Size)])), services+backends)
		parts[i] = ledger.Counters{
			Ledger:   (*ledger.Ledger)(unsafe.Pointer(&at[0])),
			Services: tallies[:services:services],
			Backends: tallies[services:],
		}
	}
	return &Counters{Workers: parts[:workers:workers], Kernel: parts[workers], before: parts[workers+1]}, nil
}

// Successions is how often a process that forwards has been taken over by
// another control process. It is counted where the counters of earlier owners
// have their ledger, which has no frames.
func (c *Counters) Successions() uint64 { return atomic.LoadUint64(&c.before.Ledger.Beat) }

// NoteSuccession counts one more.
func (c *Counters) NoteSuccession() { atomic.AddUint64(&c.before.Ledger.Beat, 1) }

// parts are the counters of all workers and the kernel's. Workers is cut to its
// length, so this is another list each time.
func (c *Counters) parts() []ledger.Counters { return append(c.Workers, c.Kernel) }

// Total adds up all ledgers.
func (c *Counters) Total() ledger.Ledger {
	var sum ledger.Ledger
	for _, p := range c.parts() {
		sum.Add(p.Ledger)
	}
	return sum
}

// Service adds up all tallies of a service slot's present owner.
func (c *Counters) Service(slot uint32) ledger.Tally {
	return since(c.service(slot), c.before.Services[slot])
}

// Backend adds up all tallies of a backend slot's present owner.
func (c *Counters) Backend(slot uint32) ledger.Tally {
	return since(c.backend(slot), c.before.Backends[slot])
}

// NewService begins a service slot at zero for another owner. It is called
// while the slot has none.
func (c *Counters) NewService(slot uint32) { begin(&c.before.Services[slot], c.service(slot)) }

// NewBackend is NewService for a backend slot.
func (c *Counters) NewBackend(slot uint32) { begin(&c.before.Backends[slot], c.backend(slot)) }

func (c *Counters) service(slot uint32) (sum ledger.Tally) {
	for _, p := range c.parts() {
		sum.Add(p.Services[slot])
	}
	return sum
}

func (c *Counters) backend(slot uint32) (sum ledger.Tally) {
	for _, p := range c.parts() {
		sum.Add(p.Backends[slot])
	}
	return sum
}

// begin leaves memory alone that nothing was ever counted in: it is sparse.
func begin(before *ledger.Tally, counted ledger.Tally) {
	if *before != counted {
		*before = counted
	}
}

func since(counted, before ledger.Tally) ledger.Tally {
	return ledger.Tally{
		Packets: counted.Packets - before.Packets, Bytes: counted.Bytes - before.Bytes,
		Flows: counted.Flows - before.Flows, Drops: counted.Drops - before.Drops,
	}
}

func workerSize(services, backends int) int {
	return pages(ledger.Size) + pages((services+backends)*int(unsafe.Sizeof(ledger.Tally{})))
}

func pages(n int) int { return (n + page - 1) &^ (page - 1) }
