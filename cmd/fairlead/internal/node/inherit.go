package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/dataplane/ipc"
	"fairlead/dataplane/ledger"
)

// A data process outlives its control process: it has a descriptor of
// everything and goes on by the image it has. The next control process finds it
// by its listener, is handed all of it, and goes on where the one before was
// ended.

// inherited is what a control process before has left.
type inherited struct {
	estate
	note note
	data *dataProcess // that forwards; nil when none lives
}

// note is what a control process tells the next one, beyond what the data
// process knows itself.
type note struct {
	Ports    []notedPort   `json:"ports"`
	Past     ledger.Ledger `json:"past"`
	Restarts int           `json:"restarts"`
	Started  time.Time     `json:"started"`
}

type notedPort struct {
	Name   string `json:"name"`
	Index  int    `json:"index"`
	Queues int    `json:"queues"`
}

// How long a data process may take to tell what it has, and how long another
// control process that it serves may take to be gone.
const (
	inheritWait = 5 * time.Second
	busyWait    = 3 * time.Second
)

// errServed says that a data process has a control process.
type errServed struct{ pid int }

func (e *errServed) Error() string {
	return fmt.Sprintf("another control process runs (pid %d)", e.pid)
}

// inherit takes over what the process behind a listener has; nil when there is
// none.
func inherit(path string, log *slog.Logger) (*inherited, error) {
	for deadline := time.Now().Add(busyWait); ; time.Sleep(20 * time.Millisecond) {
		in, err := tryInherit(path, log)
		served := (*errServed)(nil)
		ending := errors.As(err, &served) || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
		if ending && time.Now().Before(deadline) {
			continue // the control process that it serves, or the process itself, is just ending
		}
		return in, err
	}
}

func tryInherit(path string, log *slog.Logger) (*inherited, error) {
	conn, who, err := ipc.Dial(path)
	if errors.Is(err, ipc.ErrNobody) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if own := uint32(os.Getuid()); who.UID != 0 && who.UID != own {
		conn.Close()
		return nil, fmt.Errorf("%s belongs to user %d, which is neither root nor this process's (%d)", path, who.UID, own)
	}
	in := &inherited{}
	if err := in.receive(conn); err != nil {
		in.release()
		conn.Close()
		return nil, fmt.Errorf("take over the data process behind %s: %w", path, err)
	}
	go in.data.listen(log)
	return in, nil
}

// receive takes what a data process tells one that has connected.
func (in *inherited) receive(conn *ipc.Conn) error {
	if err := conn.SetReceiveDeadline(time.Now().Add(inheritWait)); err != nil {
		return err
	}
	for {
		m, err := conn.Receive()
		if err != nil {
			return err
		}
		switch m.Kind {
		case ipc.KindBusy:
			var body ipc.Busy
			if err := m.Decode(ipc.KindBusy, &body, 0); err != nil {
				return err
			}
			return &errServed{body.PID}
		case ipc.KindSetup:
			if err := m.Decode(ipc.KindSetup, &in.setup, -1); err != nil {
				return err
			}
			in.shared = m.FDs
		case ipc.KindWorker:
			var body ipc.WorkerSetup
			if err := m.Decode(ipc.KindWorker, &body, -1); err != nil {
				return err
			}
			in.workers, in.sockets = append(in.workers, body), append(in.sockets, m.FDs)
		case ipc.KindFIB:
			var body ipc.FIB
			if err := m.Decode(ipc.KindFIB, &body, 1); err != nil {
				return err
			}
			in.generation, in.image, in.imageSize = body.Generation, m.FDs[0], body.Size
		case ipc.KindReady:
			var body ipc.Ready
			if err := m.Decode(ipc.KindReady, &body, 1); err != nil {
				return err
			}
			if in.data, err = adoptProcess(conn, body, m.FDs[0]); err != nil {
				return err
			}
			if err := in.check(); err != nil {
				return err
			}
			return conn.SetReceiveDeadline(time.Time{})
		default:
			return &ipc.KindError{Want: ipc.KindSetup, Got: m.Kind}
		}
	}
}

// check demands that what was handed over is complete.
func (in *inherited) check() error {
	if in.setup.Layout != ipc.Layout {
		return fmt.Errorf("it has layout %d, this binary has %d", in.setup.Layout, ipc.Layout)
	}
	if len(in.shared) != in.setup.Descriptors() || len(in.workers) != in.setup.Workers || in.image <= 0 {
		return fmt.Errorf("%d descriptors, %d workers and image %d came, %d and %d were due",
			len(in.shared), len(in.workers), in.image, in.setup.Descriptors(), in.setup.Workers)
	}
	for i := range in.workers {
		if want := 1 + len(in.workers[i].Queues); len(in.sockets[i]) != want {
			return fmt.Errorf("worker %d has %d descriptors instead of %d", i, len(in.sockets[i]), want)
		}
	}
	if err := json.Unmarshal(in.setup.Estate, &in.note); err != nil {
		return fmt.Errorf("the note of the control process before: %w", err)
	}
	return nil
}

// adoptProcess is a data process that another process has started.
func adoptProcess(conn *ipc.Conn, ready ipc.Ready, pidfd int) (*dataProcess, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, fmt.Errorf("descriptor of data process %d: %w", ready.PID, err)
	}
	d := newDataProcess(conn)
	d.pid, d.ready = ready.PID, ready
	close(d.warm)
	file := os.NewFile(uintptr(pidfd), "data process")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	d.signal = func(s syscall.Signal) {
		_ = raw.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	}
	d.forget = file.Close
	go func() {
		err := raw.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(poll, 0)
			return err == nil && n > 0
		})
		if err == nil { // otherwise it was forgotten
			d.err = errors.New("it has ended; this process is not told how")
			close(d.exited)
		}
	}()
	return d, d.checkPrivileges()
}

// leave gives a data process up: it goes on without this process.
func (d *dataProcess) leave() {
	d.conn.Close()
	if d.forget != nil {
		d.forget()
	}
}

// pid is the process that forwards, 0 when none lives.
func (in *inherited) pid() int {
	if in.data == nil {
		return 0
	}
	return in.data.pid
}

// release closes all descriptors, and leaves the data process alone.
func (in *inherited) release() {
	if in.data != nil {
		in.data.leave()
		in.data = nil
	}
	in.closeDescriptors()
}

func (in *inherited) closeDescriptors() {
	for _, fd := range in.shared {
		unix.Close(fd)
	}
	for _, list := range in.sockets {
		for _, fd := range list {
			unix.Close(fd)
		}
	}
	if in.image > 0 {
		unix.Close(in.image)
	}
	in.shared, in.sockets, in.image = nil, nil, 0
}

// fits says what keeps a configuration from going on with what is inherited;
// nil when nothing does. ports are as they are now.
func (in *inherited) fits(cfg *configs.Config, ports []port) error {
	dp, s := &cfg.Dataplane, &in.setup
	switch {
	case len(in.note.Ports) != len(ports):
		return fmt.Errorf("it drives %d interfaces, %d are configured", len(in.note.Ports), len(ports))
	case s.Flows != dp.FlowTableSize:
		return fmt.Errorf("its flow table has room for %d flows, flow_table_size is %d", s.Flows, dp.FlowTableSize)
	case s.Services != maxServices || s.Backends != maxBackends:
		return fmt.Errorf("it counts %d services and %d backends, this binary %d and %d", s.Services, s.Backends, maxServices, maxBackends)
	case s.Memos != dp.Memos():
		return fmt.Errorf("it remembers verdicts for %d directions of flows, flow_memo_size is %d", s.Memos, dp.Memos())
	case s.Workers != workersFor(ports):
		return fmt.Errorf("it has %d workers, the interfaces' queues want %d", s.Workers, workersFor(ports))
	}
	for i, p := range in.note.Ports {
		if now := &ports[i]; p.Name != now.Name || p.Index != now.index || p.Queues != now.queues {
			return fmt.Errorf("interface %d is %s (index %d, %d queues), it was %s (index %d, %d queues)",
				i, now.Name, now.index, now.queues, p.Name, p.Index, p.Queues)
		}
	}
	for i := range in.workers {
		w := &in.workers[i]
		if w.ChunkSize != dp.FrameSize || w.Headroom != frameHeadroom(dp) || w.Chunks != dp.Frames*len(w.Queues) {
			return fmt.Errorf("worker %d has %d frames of %d bytes, %d of them headroom; %d of %d, %d are configured",
				i, w.Chunks, w.ChunkSize, w.Headroom, dp.Frames*len(w.Queues), dp.FrameSize, frameHeadroom(dp))
		}
		for _, q := range w.Queues {
			if q.RXSize != dp.RingSize {
				return fmt.Errorf("its rings have %d entries, ring_size is %d", q.RXSize, dp.RingSize)
			}
		}
	}
	return nil
}
