package ipc

import (
	"fmt"
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
}

const page = 4096

// CountersSize is how many bytes the counters of so many workers, with so many
// service and backend slots each, take.
func CountersSize(workers, services, backends int) int {
	return (workers + 1) * workerSize(services, backends)
}

// MapCounters lays the counters over memory of CountersSize bytes. All zero is
// a good start; what is there already goes on.
func MapCounters(mem []byte, workers, services, backends int) (*Counters, error) {
	if want := CountersSize(workers, services, backends); len(mem) < want {
		return nil, fmt.Errorf("ipc: counters take %d bytes, the memory has %d", want, len(mem))
	}
	parts := make([]ledger.Counters, workers+1)
	for i := range parts {
		at := mem[i*workerSize(services, backends):]
		tallies := unsafe.Slice((*ledger.Tally)(unsafe.Pointer(&at[pages(ledger.Size)])), services+backends)
		parts[i] = ledger.Counters{
			Ledger:   (*ledger.Ledger)(unsafe.Pointer(&at[0])),
			Services: tallies[:services:services],
			Backends: tallies[services:],
		}
	}
	return &Counters{Workers: parts[:workers:workers], Kernel: parts[workers]}, nil
}

// parts are the counters of all workers and the kernel's.
func (c *Counters) parts() []ledger.Counters { return append(c.Workers, c.Kernel) }

// Total adds up all ledgers.
func (c *Counters) Total() ledger.Ledger {
	var sum ledger.Ledger
	for _, p := range c.parts() {
		sum.Add(p.Ledger)
	}
	return sum
}

// Service adds up all tallies of a service slot.
func (c *Counters) Service(slot uint32) ledger.Tally {
	var sum ledger.Tally
	for _, p := range c.parts() {
		sum.Add(p.Services[slot])
	}
	return sum
}

// Backend adds up all tallies of a backend slot.
func (c *Counters) Backend(slot uint32) ledger.Tally {
	var sum ledger.Tally
	for _, p := range c.parts() {
		sum.Add(p.Backends[slot])
	}
	return sum
}

func workerSize(services, backends int) int {
	return pages(ledger.Size) + pages((services+backends)*int(unsafe.Sizeof(ledger.Tally{})))
}

func pages(n int) int { return (n + page - 1) &^ (page - 1) }
