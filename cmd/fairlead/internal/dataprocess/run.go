// Package dataprocess is the forwarding half of `fairlead run`: a process
// without privileges that is handed sockets, memory and FIB images, forwards,
// and can be killed and replaced at any time. It goes on forwarding when its
// control process is gone, and hands everything to the next one.
package dataprocess

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"fairlead/controlplane/logging"
	"fairlead/dataplane"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/tell"
	"fairlead/xdp"
)

// process is everything one data process has.
type process struct {
	version    string
	conn       *ipc.Conn // to the control process; nil while there is none
	setup      ipc.Setup
	kept       []int // descriptors that came with the setup, for the next control process
	listener   *ipc.Listener
	flows      *flow.Table
	counters   *ipc.Counters
	snapshots  *dataplane.Publisher
	workers    []*worker
	memoMemory memo.Config // of the XDP program
	memos      *memo.Table
	accounts   []xdp.Admission // of new connections, shared with the XDP program
	taps       taps
	tells      []*tell.Worker
	images     images
	forwards   bool
	succession uint64 // how often the process that forwards had been taken over when this one was set up
	running    sync.WaitGroup
	stopping   chan struct{} // closed when the process is to end
	stopped    bool
}

// Run serves the control process at the other end of descriptor fd until it
// says stop. When that is gone before it has said that this process is to take
// over, it does so when the one that forwards is gone, too. From then on any
// control process is served that connects.
func Run(fd int, version string) error {
	// Where its messages went may be gone with the control process.
	signal.Ignore(syscall.SIGPIPE)
	logs := logging.Inherit(os.Stderr)
	defer logs.Close()
	slog.SetDefault(logs.Logger().With("process", "data"))
	if err := dropPrivileges(); err != nil {
		return err
	}
	conn, err := ipc.Inherit(fd)
	if err != nil {
		return err
	}
	p := &process{version: version, conn: conn, snapshots: &dataplane.Publisher{}, stopping: make(chan struct{})}
	defer p.stop()
	defer p.disconnect()
	if err := p.prepare(); err != nil {
		return err
	}
	if took, err := p.await(); err != nil || !took {
		return err
	}
	return p.serve()
}

// prepare takes the setup, the workers and the first image. Nothing that is
// shared changes by it.
func (p *process) prepare() error {
	m, err := p.conn.Receive()
	if err != nil {
		return fmt.Errorf("wait for setup: %w", err)
	}
	if err := p.receiveSetup(m); err != nil {
		return err
	}
	for range p.setup.Workers {
		m, err := p.conn.Receive()
		if err != nil {
			return fmt.Errorf("wait for workers: %w", err)
		}
		w, err := p.newWorker(m)
		if err != nil {
			return err
		}
		p.workers = append(p.workers, w)
	}
	if m, err = p.conn.Receive(); err != nil {
		return fmt.Errorf("wait for the first image: %w", err)
	}
	if err := p.begin(m); err != nil {
		return err
	}
	p.succession = p.counters.Successions()
	return p.conn.Send(ipc.KindWarm, ipc.Warm{PID: os.Getpid(), Layout: ipc.Layout})
}

// await follows images until it is told to take over, and does. It returns
// false when it never is.
func (p *process) await() (took bool, err error) {
	for {
		m, err := p.conn.Receive()
		if errors.Is(err, io.EOF) {
			return p.standAlone()
		}
		if err != nil {
			return false, err
		}
		switch m.Kind {
		case ipc.KindTake:
			return true, p.takeOver()
		case ipc.KindStop:
			return false, nil
		case ipc.KindFIB, ipc.KindPatch:
			err = p.update(m)
		default:
			err = &ipc.KindError{Want: ipc.KindTake, Got: m.Kind}
		}
		if err != nil {
			return false, err
		}
	}
}

// takeOver begins to forward: no other process uses the rings.
func (p *process) takeOver() error {
	begin := time.Now()
	if err := p.claim(); err != nil {
		return err
	}
	if err := p.makeMemos(); err != nil {
		return err
	}
	if err := p.openTaps(); err != nil {
		return err
	}
	p.snapshots.Memos = p.memos
	p.snapshots.Publish(p.images.snapshot)
	recovered, lost := 0, 0
	for _, w := range p.workers {
		if err := p.take(w); err != nil {
			return err
		}
		recovered, lost = recovered+w.recovered, lost+w.lost
	}
	p.forwards = true
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
	ready, err := p.ready()
	if err != nil {
		return err
	}
	ready.Recovered, ready.Lost, ready.TookUS = recovered, lost, time.Since(begin).Microseconds()
	if p.conn == nil {
		return nil
	}
	return p.conn.Send(ipc.KindReady, ready)
}

func (p *process) ready() (ipc.Ready, error) {
	caps, err := capabilities()
	return ipc.Ready{
		PID: os.Getpid(), UID: os.Getuid(), Capabilities: caps, NoNewPrivs: noNewPrivs(),
		Generation: p.images.snapshot.Generation(), Version: p.version,
	}, err
}

// stop ends forwarding: when it returns, no thread uses a ring.
func (p *process) stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	close(p.stopping)
	for _, w := range p.workers {
		if w.Worker != nil {
			w.Stop()
		}
	}
	p.running.Wait()
	for _, w := range p.workers {
		if w.Worker != nil {
			w.Close()
		}
	}
	if p.forwards {
		p.disclaim()
	}
}
