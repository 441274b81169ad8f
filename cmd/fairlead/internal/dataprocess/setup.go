package dataprocess

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/flow"
	"fairlead/dataplane/ipc"
	"fairlead/xdp"
)

// receiveSetup maps what all workers share. Every descriptor is kept.
func (p *process) receiveSetup(m *ipc.Message) error {
	if err := m.Decode(ipc.KindSetup, &p.setup, -1); err != nil {
		return err
	}
	s := &p.setup
	if s.Layout != ipc.Layout {
		return fmt.Errorf("the control process has layout %d, this binary has %d", s.Layout, ipc.Layout)
	}
	if want := s.Descriptors(); len(m.FDs) != want {
		return fmt.Errorf("the setup came with %d descriptors instead of %d", len(m.FDs), want)
	}
	p.kept = m.FDs
	flows, err := mapShared(m.FDs[0], flow.Size(s.Flows))
	if err != nil {
		return fmt.Errorf("map flow table: %w", err)
	}
	counters, err := mapShared(m.FDs[1], ipc.CountersSize(s.Workers, s.Services, s.Backends))
	if err != nil {
		return fmt.Errorf("map counters: %w", err)
	}
	if p.flows, err = newFlowTable(flows, s); err != nil {
		return fmt.Errorf("flow table: %w", err)
	}
	if p.counters, err = ipc.MapCounters(counters, s.Workers, s.Services, s.Backends); err != nil {
		return err
	}
	if p.accounts, err = mapAccounts(m.FDs[2], s.Accounts); err != nil {
		return err
	}
	if err := p.mapTaps(m.FDs[3]); err != nil {
		return err
	}
	if err := p.mapTells(m.FDs[4]); err != nil {
		return err
	}
	rest := m.FDs[5:]
	if s.Memo != nil {
		if err := p.mapMemos(rest[:3]); err != nil {
			return err
		}
		rest = rest[3:]
	}
	if s.Listens {
		own, err := unix.FcntlInt(uintptr(rest[0]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("listener: %w", err)
		}
		if p.listener, err = ipc.InheritListener(own); err != nil {
			return err
		}
	}
	return nil
}

// snatGuard is how long, in milliseconds, an outside tuple rests after its flow
// was cut off, so that late packets of it do not meet a new one.
const snatGuard = 5000

// newFlowTable takes over the flow table, or makes it when the memory is new.
// Nobody else knows what its hash is keyed with, so nobody can send flows that
// all fall into one bucket.
func newFlowTable(mem []byte, s *ipc.Setup) (*flow.Table, error) {
	var seed [16]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	return flow.New(mem, flow.Config{
		Flows: s.Flows, Workers: s.Workers, SNATGuard: snatGuard,
		Seed: [2]uint64{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])},
	})
}

// mapAccounts maps the queues' accounts of new connections.
func mapAccounts(fd, size int) ([]xdp.Admission, error) {
	mem, err := mapShared(fd, size)
	if err != nil {
		return nil, fmt.Errorf("map accounts of new connections: %w", err)
	}
	return unsafe.Slice((*xdp.Admission)(unsafe.Pointer(&mem[0])), size/xdp.AdmissionSize), nil
}

// mapShared maps memory of the control process.
func mapShared(fd, size int) ([]byte, error) {
	return unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}
