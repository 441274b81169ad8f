package steer

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// AdoptedMaps are maps that are not pinned and that another process has handed
// over, by descriptor. They stay the caller's only until Open, which owns them
// from then on, whatever it returns. The programs go on with them.
type AdoptedMaps struct {
	Admissions                          int
	MemoEntries, MemoRoutes, MemoCounts int       // 0: there are no flow memos
	MemoSeed                            [2]uint64 // of the memos

	// Places are the numbers of interfaces among the accounts of new
	// connections, by interface number: Steer.Admission divided by MaxQueues.
	Places map[int]int
}

// open makes a map, or goes on with the one behind a descriptor, which is
// closed.
func (a *AdoptedMaps) open(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	fd := a.take(name)
	if fd <= 0 {
		return newMap(spec)
	}
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err) // which has closed it
	}
	if err := spec.Compatible(m); err != nil {
		m.Close()
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return m, nil
}

// take gives the descriptor of a map away, 0 when there is none.
func (a *AdoptedMaps) take(name string) (fd int) {
	if a == nil {
		return 0
	}
	for _, m := range []struct {
		name string
		fd   *int
	}{
		{objectMapAdmissions, &a.Admissions}, {objectMapMemoEntries, &a.MemoEntries},
		{objectMapMemoRoutes, &a.MemoRoutes}, {objectMapMemoCounts, &a.MemoCounts},
	} {
		if m.name == name {
			fd, *m.fd = *m.fd, 0
		}
	}
	return fd
}

// close closes what was not taken.
func (a *AdoptedMaps) close() {
	if a == nil {
		return
	}
	for _, fd := range []*int{&a.Admissions, &a.MemoEntries, &a.MemoRoutes, &a.MemoCounts} {
		if *fd > 0 {
			unix.Close(*fd)
			*fd = 0
		}
	}
}
