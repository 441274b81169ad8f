package memo

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewPrivate makes a table in memory of the process's own, in huge pages where
// the machine gives any: at a million flows every lookup is somewhere else, and
// with small pages finding the page costs as much as reading it.
func NewPrivate(directions, routes int, seed Seed) (*Table, error) {
	t, fill, err := NewLater(directions, routes, seed)
	if err == nil {
		fill(nil)
	}
	return t, err
}

// fillAtOnce is how much memory is asked for at a time.
const fillAtOnce = 4 << 20

// NewLater is NewPrivate for those who cannot wait: the table holds no memo until
// fill has run, which takes the memory from the kernel, or stop is closed. A
// worker that came upon a page which is not there would wait for milliseconds
// while the kernel clears it.
func NewLater(directions, routes int, seed Seed) (t *Table, fill func(stop <-chan struct{}), err error) {
	entries, err := hugeMemory(Bytes(EntriesFor(directions)))
	if err != nil {
		return nil, nil, fmt.Errorf("memo: entries: %w", err)
	}
	ways, err := hugeMemory(routes * RouteSize)
	if err != nil {
		return nil, nil, fmt.Errorf("memo: routes: %w", err)
	}
	if t, err = New(Config{Entries: entries, Routes: ways, Seed: seed}); err != nil {
		return nil, nil, err
	}
	t.ready.Store(false)
	return t, func(stop <-chan struct{}) {
		for at := 0; at < len(entries); at += fillAtOnce {
			select {
			case <-stop:
				return
			default:
				populate(entries[at:min(at+fillAtOnce, len(entries))])
			}
		}
		t.ready.Store(true)
	}, nil
}

// populate has the kernel back memory that nobody uses yet.
func populate(mem []byte) {
	if unix.Madvise(mem, unix.MADV_POPULATE_WRITE) == nil {
		return
	}
	for at := 0; at < len(mem); at += os.Getpagesize() { // before Linux 5.14
		mem[at] = 0
	}
}

func hugeMemory(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // a kernel without them has small ones
	return mem, nil
}
