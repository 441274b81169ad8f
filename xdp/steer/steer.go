package steer

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Config says how to set up a Steer.
type Config struct {
	// PinPath is the directory that holds the pinned links and maps; one for
	// each instance and network namespace. It is made when missing, and a BPF
	// file system is mounted where there is none. When it is empty nothing is
	// pinned: programs go when the process does, and the host gets the VIPs'
	// traffic.
	PinPath string
	// Memo says how much memory there is for flow memos; nil is none.
	Memo *MemoConfig
	// Adopted are maps of a process before; nil: there are none.
	Adopted *AdoptedMaps
}

// Steer is the set of XDP programs and their maps. It may be used from any
// goroutine.
type Steer struct {
	pins pins
	memo memo

	admissions admissions

	mu      sync.Mutex
	shared  shared
	locals  map[key]entry // mirror of the locals map
	denials int           // number of entries in the denied map
	ifaces  map[int]*iface
	closed  bool
}

// ErrClosed is the error of every call after Close or Remove.
var ErrClosed = errors.New("steer is closed")

// shared are the maps that the programs of all interfaces use.
type shared struct {
	locals *ebpf.Map
	denied *ebpf.Map
	config *ebpf.Map
}

func (s *shared) close() {
	for _, m := range []*ebpf.Map{s.locals, s.denied, s.config} {
		m.Close()
	}
}

// Open makes the shared maps, or adopts the pinned ones with all they hold.
// Links that an earlier process pinned go on as they are until Attach replaces
// their programs or DetachStale removes them.
func Open(cfg Config) (*Steer, error) {
	defer cfg.Adopted.close()
	p, err := openPins(cfg.PinPath)
	if err != nil {
		return nil, err
	}
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("read the steering program: %w", err)
	}
	s := &Steer{pins: p, ifaces: make(map[int]*iface)}
	if s.memo, err = newMemo(cfg.Memo, spec, cfg.Adopted); err != nil {
		return nil, err
	}
	if s.admissions, err = newAdmissions(spec, cfg.Adopted); err != nil {
		s.memo.close()
		return nil, err
	}
	if s.shared, err = openShared(p, spec); err != nil {
		s.memo.close()
		s.admissions.close()
		return nil, err
	}
	if err := s.readBack(); err != nil {
		s.memo.close()
		s.admissions.close()
		s.shared.close()
		return nil, err
	}
	return s, nil
}

func openShared(p pins, spec *ebpf.CollectionSpec) (shared, error) {
	var s shared
	for _, m := range []struct {
		to   **ebpf.Map
		name string
	}{{&s.locals, objectMapLocals}, {&s.denied, objectMapDenied}, {&s.config, objectMapConfig}} {
		opened, err := p.openMap(m.name, spec.Maps[m.name])
		if err != nil {
			s.close()
			return shared{}, err
		}
		*m.to = opened
	}
	return s, nil
}

// readBack takes over what adopted maps hold.
func (s *Steer) readBack() error {
	var err error
	if s.locals, err = readLocals(s.shared.locals); err != nil {
		return err
	}
	denied, err := readDenied(s.shared.denied)
	if err != nil {
		return err
	}
	s.denials = len(denied)
	return s.writeSettings()
}

// Close lets go of everything. What is pinned stays in force and is adopted by
// the next Open; what is not pinned is detached.
func (s *Steer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, i := range s.ifaces {
		errs = append(errs, i.close())
	}
	s.memo.close()
	s.admissions.close()
	s.shared.close()
	return errors.Join(errs...)
}

// Remove detaches every program, unpins everything under the pin path,
// including what earlier processes left there, and closes.
func (s *Steer) Remove() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	var errs []error
	for ifindex := range s.ifaces {
		errs = append(errs, s.detach(ifindex))
	}
	s.mu.Unlock()
	errs = append(errs, s.Close(), s.pins.removeAll())
	return errors.Join(errs...)
}

// newMap makes a map. Kernels before 5.11 charge it to RLIMIT_MEMLOCK and say
// EPERM when that is used up: then the limit is lifted, where that is allowed,
// for one more try.
func newMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if !errors.Is(err, os.ErrPermission) {
		return m, err
	}
	infinite := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &infinite) != nil {
		return nil, fmt.Errorf("%w (CAP_BPF and CAP_NET_ADMIN are needed)", err)
	}
	return ebpf.NewMap(spec)
}

// updateTime bounds how long update waits for memory.
const updateTime = time.Second

// update writes an entry of a map. The kernel takes entries from a small pool
// that it refills in the background, and says ENOMEM when calls come faster:
// then it is tried again for a while.
func update(m *ebpf.Map, key, value any, flags ebpf.MapUpdateFlags) error {
	for deadline := time.Now().Add(updateTime); ; time.Sleep(time.Millisecond) {
		err := m.Update(key, value, flags)
		if !errors.Is(err, unix.ENOMEM) || time.Now().After(deadline) {
			return err
		}
	}
}
