package steer

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"

	"github.com/cilium/ebpf"
)

// MemoConfig is the size of the memory for flow memos, by which the program
// forwards packets of known flows without the socket. Package dataplane/memo
// says what lies in it.
type MemoConfig struct {
	Entries int       // a power of two, 2 to 2^24
	Routes  int       // 1 to 65,536; each takes 64 bytes for every possible CPU, and 128 more
	Seed    [2]uint64 // of the hash that places entries
}

// Limits of MemoConfig.
const (
	maxMemoEntries = 1 << 24
	maxMemoRoutes  = 1 << 16
)

// ErrMemoUnsupported is the error of Open when flow memos are asked for on a
// processor whose loads and stores may be seen in another order than they were
// made.
var ErrMemoUnsupported = errors.New("flow memos need an x86-64 processor")

// check says what is wrong with c.
func (c *MemoConfig) check() error {
	switch {
	case runtime.GOARCH != "amd64":
		return ErrMemoUnsupported
	case c.Entries < 2 || c.Entries > maxMemoEntries || bits.OnesCount(uint(c.Entries)) != 1:
		return fmt.Errorf("%d flow memo entries: a power of two from 2 to %d is needed", c.Entries, maxMemoEntries)
	case c.Routes < 1 || c.Routes > maxMemoRoutes:
		return fmt.Errorf("%d flow memo routes: 1 to %d are possible", c.Routes, maxMemoRoutes)
	}
	return nil
}

// MemoMaps are the maps of flow memos. Whoever has a descriptor can map one
// with mmap, to read and to write, without any privilege.
//
// The last of the entries is none: its first word is how many sets are in use,
// less one. User space writes it; the programs look for memos in these sets
// alone.
type MemoMaps struct {
	Entries, Routes, Counts SharedMap
	CPUs                    int // Counts has Routes.Len elements for each: those of CPU c begin at c * Routes.Len
}

// SharedMap is a map that the data process shares.
type SharedMap struct {
	FD   int // Steer's own: valid until Close
	Len  int // elements
	Size int // of an element, in bytes
}

// Bytes is the length to map.
func (m SharedMap) Bytes() int { return m.Len * m.Size }

// Memo returns the maps of flow memos; false when there are none. They are not
// pinned: the programs of a Steer that is closed go on with the maps they have.
func (s *Steer) Memo() (MemoMaps, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.memo.cfg == nil {
		return MemoMaps{}, false
	}
	return MemoMaps{
		Entries: shareable(s.memo.entries), Routes: shareable(s.memo.routes), Counts: shareable(s.memo.counts),
		CPUs: s.memo.cpus,
	}, true
}

func shareable(m *ebpf.Map) SharedMap {
	return SharedMap{FD: m.FD(), Len: int(m.MaxEntries()), Size: int(m.ValueSize())}
}

// memo is the memory of flow memos, which all programs share; of the least size
// there is when no memos are wanted.
type memo struct {
	cfg                          *MemoConfig
	cpus                         int
	entries, routes, counts, out *ebpf.Map
	options                      map[int]MemoOptions // by interface
}

// MemoOptions are how flow memos treat one interface.
type MemoOptions struct {
	LeaveOut bool // all of its packets go to the sockets
	SendBack SendBack
}

// SendBack is how a packet leaves by the interface that it came in by.
type SendBack uint8

// The ways back. XDP_TX is the faster one.
const (
	SendBackAuto     SendBack = iota // XDP_TX, but for veth, which wakes its other end only if that has an XDP program
	SendBackTX                       // XDP_TX
	SendBackRedirect                 // a redirect to the interface itself
)

// SetMemoOptions says how flow memos treat an interface that is attached next.
func (s *Steer) SetMemoOptions(ifindex int, o MemoOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memo.options == nil {
		s.memo.options = make(map[int]MemoOptions)
	}
	s.memo.options[ifindex] = o
}

// sendsBack reports whether XDP_TX is used on an interface.
func (m *memo) sendsBack(ifindex int, driver string) bool {
	how := m.options[ifindex].SendBack
	return how == SendBackTX || how == SendBackAuto && driver != "veth"
}

// newMemo makes the maps, or goes on with those that are adopted.
func newMemo(cfg *MemoConfig, spec *ebpf.CollectionSpec, adopted *AdoptedMaps) (memo, error) {
	m := memo{}
	if cfg != nil {
		if err := cfg.check(); err != nil {
			return memo{}, err
		}
		copied := *cfg
		m.cfg = &copied
		var err error
		if m.cpus, err = ebpf.PossibleCPU(); err != nil {
			return memo{}, fmt.Errorf("flow memos: %w", err)
		}
	}
	m.size(spec)
	for _, one := range []struct {
		to   **ebpf.Map
		name string
	}{
		{&m.entries, objectMapMemoEntries}, {&m.routes, objectMapMemoRoutes},
		{&m.counts, objectMapMemoCounts}, {&m.out, objectMapMemoOut},
	} {
		made, err := adopted.open(one.name, spec.Maps[one.name])
		if err != nil {
			m.close()
			return memo{}, fmt.Errorf("make map %s: %w", one.name, err)
		}
		*one.to = made
	}
	return m, nil
}

// size puts the sizes into a specification.
func (m *memo) size(spec *ebpf.CollectionSpec) {
	if m.cfg == nil {
		return
	}
	spec.Maps[objectMapMemoEntries].MaxEntries = uint32(m.cfg.Entries + 1)
	spec.Maps[objectMapMemoRoutes].MaxEntries = uint32(m.cfg.Routes)
	spec.Maps[objectMapMemoCounts].MaxEntries = uint32(m.cfg.Routes * m.cpus)
}

// configure sets a program's constants.
func (m *memo) configure(spec *ebpf.CollectionSpec, on *Attached) error {
	if m.cfg == nil || m.options[on.IfIndex].LeaveOut {
		return nil
	}
	sendsBack := uint32(0)
	if on.SendsBack {
		sendsBack = 1
	}
	return errors.Join(
		spec.Variables[objectVarMemoTxBack].Set(sendsBack),
		spec.Variables[objectVarMemoSets].Set(uint32(m.cfg.Entries/2)),
		spec.Variables[objectVarMemoRoutesLen].Set(uint32(m.cfg.Routes)),
		spec.Variables[objectVarMemoSeed].Set(m.cfg.Seed),
	)
}

// replace adds the maps to those that a program is to use.
func (m *memo) replace(maps map[string]*ebpf.Map) {
	maps[objectMapMemoEntries] = m.entries
	maps[objectMapMemoRoutes] = m.routes
	maps[objectMapMemoCounts] = m.counts
	maps[objectMapMemoOut] = m.out
}

func (m *memo) close() {
	for _, one := range []*ebpf.Map{m.entries, m.routes, m.counts, m.out} {
		if one != nil {
			one.Close()
		}
	}
}
