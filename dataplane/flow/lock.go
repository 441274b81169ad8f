package flow

import (
	"runtime"
	"sync/atomic"
)

// stripes is the number of key locks; a power of two.
const stripes = 4096

// spinLock makes "is this key taken? no: take it" one step. Two equal keys
// have one lock; a worker holds one lock at a time and does a bounded number
// of loads and stores under it. The locks are in the process's own memory, so
// a killed process leaves none behind.
type spinLock struct{ held atomic.Uint32 }

// spins before the holder, which may have been descheduled, is given the
// processor.
const spins = 128

func (l *spinLock) lock() {
	for !l.held.CompareAndSwap(0, 1) {
		for i := 0; l.held.Load() != 0; i++ {
			if i >= spins {
				runtime.Gosched()
				i = 0
			}
		}
	}
}

func (l *spinLock) unlock() { l.held.Store(0) }

func (t *Table) lockOf(hash uint64) *spinLock { return &t.locks[hash&(stripes-1)] }
