package ipc

import (
	"fmt"
	"unsafe"

	"fairlead/dataplane/ledger"
)

// Counters are the counters of all workers over shared memory. A worker's part
// begins on a page of its own, so that no two workers write to one cache line.
// The memory is sparse: slots that are never counted cost nothing.
type Counters struct {
	Workers []ledger.Counters
}

const page = 4096

// CountersSize is how many bytes the counters of so many workers, with so many
// service and backend slots each, take.
func CountersSize(workers, services, backends int) int {
	return workers * workerSize(services, backends)
}

// MapCounters lays the counters over memory of CountersSize bytes. All zero is
// a good start; what is there already goes on.
func MapCounters(mem []byte, workers, services, backends int) (*Counters, error) {
	if want := CountersSize(workers, services, backends); len(mem) < want {
		return nil, fmt.Errorf("ipc: counters take %d bytes, the memory has %d", want, len(mem))
	}
	c := &Counters{Workers: make([]ledger.Counters, workers)}
	for i := range c.Workers {
		at := mem[i*workerSize(services, backends):]
		tallies := unsafe.Slice((*ledger.Tally)(unsafe.Pointer(&at[pages(ledger.Size)])), services+backends)
		c.Workers[i] = ledger.Counters{
			Ledger:   (*ledger.Ledger)(unsafe.Pointer(&at[0])),
			Services: tallies[:services:services],
			Backends: tallies[services:],
		}
	}
	return c, nil
}

// Total adds up the ledgers of all workers.
func (c *Counters) Total() ledger.Ledger {
	var sum ledger.Ledger
	for i := range c.Workers {
		sum.Add(c.Workers[i].Ledger)
	}
	return sum
}

// Service adds up a service slot's tallies of all workers.
func (c *Counters) Service(slot uint32) ledger.Tally {
	var sum ledger.Tally
	for i := range c.Workers {
		sum.Add(c.Workers[i].Services[slot])
	}
	return sum
}

// Backend adds up a backend slot's tallies of all workers.
func (c *Counters) Backend(slot uint32) ledger.Tally {
	var sum ledger.Tally
	for i := range c.Workers {
		sum.Add(c.Workers[i].Backends[slot])
	}
	return sum
}

func workerSize(services, backends int) int {
	return pages(ledger.Size) + pages((services+backends)*int(unsafe.Sizeof(ledger.Tally{})))
}

func pages(n int) int { return (n + page - 1) &^ (page - 1) }
