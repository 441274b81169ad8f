// Package dataprocess is the forwarding half of `fairlead run`: a process
// without privileges that is handed sockets, memory and FIB images, forwards,
// and can be killed and replaced at any time.
package dataprocess

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead/dataplane"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/memo"
	"fairlead/xdp"
)

// process is everything one data process has.
type process struct {
	conn      *ipc.Conn
	setup     ipc.Setup
	flows     *flow.Table
	counters  *ipc.Counters
	snapshots dataplane.Publisher
	workers   []*worker
	memos     *memo.Table
	accounts  []xdp.Admission // of new connections, shared with the XDP program
	taps      taps
	running   sync.WaitGroup
	stopping  chan struct{} // closed when the process is to end
	images    images
}

// Run serves the control process at the other end of descriptor fd until it
// says stop or is gone.
func Run(fd int) error {
	if err := dropPrivileges(); err != nil {
		return err
	}
	conn, err := ipc.Inherit(fd)
	if err != nil {
		return err
	}
	defer conn.Close()
	p := &process{conn: conn, stopping: make(chan struct{})}
	if err := p.prepare(); err != nil {
		return err
	}
	defer p.stop()
	return p.serve()
}

// prepare takes the setup, the workers and the first image, and starts
// forwarding.
func (p *process) prepare() error {
	if err := p.receiveSetup(); err != nil {
		return err
	}
	recovered, lost := 0, 0
	for range p.setup.Workers {
		m, err := p.conn.Receive()
		if err != nil {
			return fmt.Errorf("wait for workers: %w", err)
		}
		w, err := p.newWorker(m)
		if err != nil {
			return err
		}
		recovered, lost = recovered+w.recovered, lost+w.lost
		p.workers = append(p.workers, w)
	}
	m, err := p.conn.Receive()
	if err != nil {
		return fmt.Errorf("wait for the first image: %w", err)
	}
	generation, err := p.begin(m)
	if err != nil {
		return err
	}
	for _, w := range p.workers {
		p.running.Add(1)
		go func() {
			defer p.running.Done()
			runtime.LockOSThread()
			w.pin()
			w.Run()
		}()
	}
	p.keepAccount()
	p.sweepForTaps()
	return p.ready(generation, recovered, lost)
}

func (p *process) ready(generation uint64, recovered, lost int) error {
	caps, err := capabilities()
	if err != nil {
		return err
	}
	return p.conn.Send(ipc.KindReady, ipc.Ready{
		PID: os.Getpid(), UID: os.Getuid(), Capabilities: caps, NoNewPrivs: noNewPrivs(),
		Generation: generation, Recovered: recovered, Lost: lost,
	})
}

func (p *process) receiveSetup() error {
	m, err := p.conn.Receive()
	if err != nil {
		return fmt.Errorf("wait for setup: %w", err)
	}
	if err := m.Decode(ipc.KindSetup, &p.setup, -1); err != nil {
		return err
	}
	s := &p.setup
	if want := descriptorsOf(s); len(m.FDs) != want {
		return fmt.Errorf("the setup came with %d descriptors instead of %d", len(m.FDs), want)
	}
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
	return p.makeMemos(m.FDs[4:])
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

// mapShared maps memory of the control process; the descriptor is not needed
// after that.
func mapShared(fd, size int) ([]byte, error) {
	defer unix.Close(fd)
	return unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// serve answers the control process until it says stop or is gone.
func (p *process) serve() error {
	for {
		m, err := p.conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m.Kind {
		case ipc.KindStop:
			return nil
		case ipc.KindFIB, ipc.KindPatch:
			err = p.update(m)
		case ipc.KindProfile:
			err = p.profile(m)
		default:
			err = &ipc.KindError{Want: ipc.KindFIB, Got: m.Kind}
		}
		if err != nil {
			return err
		}
	}
}

func (p *process) stop() {
	close(p.stopping)
	for _, w := range p.workers {
		w.Stop()
	}
	p.running.Wait()
	for _, w := range p.workers {
		w.Close()
	}
}
