package memo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NewPrivate makes a table in memory of the process's own, in huge pages where
// the machine gives any: at a million flows every lookup is somewhere else, and
// with small pages finding the page costs as much as reading it. The memory is
// used as it is touched, and lives as long as the process.
func NewPrivate(directions, routes int, seed Seed) (*Table, error) {
	entries, err := hugeMemory(EntriesFor(directions) * EntrySize)
	if err != nil {
		return nil, fmt.Errorf("memo: entries: %w", err)
	}
	ways, err := hugeMemory(routes * RouteSize)
	if err != nil {
		return nil, fmt.Errorf("memo: routes: %w", err)
	}
	return New(Config{Entries: entries, Routes: ways, Seed: seed})
}

func hugeMemory(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // a kernel without them has small ones
	return mem, nil
}
