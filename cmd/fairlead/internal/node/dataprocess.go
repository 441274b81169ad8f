package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/logging"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// How long the data process may take to answer. It is idle but for forwarding,
// so a process that takes longer is stuck.
const (
	warmWait  = 10 * time.Second
	readyWait = 5 * time.Second
	ackWait   = 5 * time.Second
	stopWait  = 3 * time.Second
)

// dataProcess is one running data process: the one that forwards, or one that
// stands by to take over from it.
type dataProcess struct {
	pid      int
	conn     *ipc.Conn
	ready    ipc.Ready // valid once it forwards
	started  time.Time // to forward, or before that at all
	acks     chan ack
	owed     []uint64          // generations that it was told of and has not acknowledged yet
	rests    bool              // it has the image that rests
	warm     chan struct{}     // closed when everything is mapped
	readies  chan ipc.Ready    // its answer to being told to take over
	yielded  chan struct{}     // closed when it uses no ring any more
	profiled chan ipc.Profiled // holds the last answer to who asked for a profile
	signal   func(syscall.Signal)
	forget   func() error  // gives its descriptor back; nil for a child
	exited   chan struct{} // closed when the process is gone
	err      error         // how it ended; valid once exited is closed
}

// ack is the answer to an image.
type ack struct {
	generation uint64
	refused    string
}

// account is the user that the data process runs as.
type account struct {
	uid, gid uint32
	set      bool // false: the control process's own, which is not root
}

// lookAccount finds the user. A control process that is not root cannot
// change users, and need not: the data process drops every capability itself.
func lookAccount(name string) (account, error) {
	if os.Getuid() != 0 {
		return account{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if _, numeric := strconv.ParseUint(name, 10, 32); numeric != nil {
			return account{}, fmt.Errorf("user of the data process: %w", err)
		}
		u = &user.User{Uid: name, Gid: name}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user of the data process: %w", err)
	}
	if uid == 0 {
		return account{}, errors.New("the data process must not run as root")
	}
	return account{uint32(uid), uint32(gid), true}, nil
}

func newDataProcess(conn *ipc.Conn) *dataProcess {
	return &dataProcess{
		conn: conn, started: time.Now(), acks: make(chan ack, 16), warm: make(chan struct{}), readies: make(chan ipc.Ready, 1),
		yielded: make(chan struct{}), profiled: make(chan ipc.Profiled, 1), exited: make(chan struct{}),
	}
}

// OwnBinary is the path of this process's own binary, whatever has become of its
// file.
const OwnBinary = thisBinary

// thisBinary is the same binary as this process's, whatever has become of its
// file.
const thisBinary = "/proc/self/exe"

// spawn starts a data process, which waits to be handed everything.
func spawn(binary string, id account, log *slog.Logger) (*dataProcess, error) {
	conn, child, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	d := newDataProcess(conn)
	// A group of its own keeps a terminal's interrupt for the control process.
	cmd := exec.Command(binary, "dataplane")
	cmd.Args[0] = "fairlead"
	cmd.ExtraFiles = []*os.File{child}
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	cmd.Env = append(logging.Without(dataEnvironment(os.Environ())), logging.Environment(log)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if id.set {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id.uid, Gid: id.gid}
	}
	err = cmd.Start()
	child.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start data process: %w", err)
	}
	d.pid = cmd.Process.Pid
	d.signal = func(s syscall.Signal) { cmd.Process.Signal(s) }
	go func() {
		d.err = cmd.Wait()
		close(d.exited)
	}()
	go d.listen(log)
	return d, nil
}

// estate is everything that a data process works with, as it is handed over.
type estate struct {
	setup      ipc.Setup
	shared     []int // descriptors of the setup
	workers    []ipc.WorkerSetup
	sockets    [][]int // descriptors by worker: its memory, and its sockets
	generation uint64
	image      int // descriptor
	imageSize  int
}

// hand sends the setup, the workers and the image. The process says that it is
// warm when it has mapped all of it.
func (d *dataProcess) hand(e *estate) error {
	err := d.send(e)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return d.awaitWarm() // it has closed its end, so it is ending: say how
	}
	return err
}

func (d *dataProcess) send(e *estate) error {
	if err := d.conn.Send(ipc.KindSetup, e.setup, e.shared...); err != nil {
		return err
	}
	for i := range e.workers {
		if err := d.conn.Send(ipc.KindWorker, e.workers[i], e.sockets[i]...); err != nil {
			return err
		}
	}
	return d.conn.Send(ipc.KindFIB, ipc.FIB{Generation: e.generation, Size: e.imageSize}, e.image)
}

// awaitWarm returns when the process is ready to take over.
func (d *dataProcess) awaitWarm() error {
	timeout := time.NewTimer(warmWait)
	defer timeout.Stop()
	select {
	case <-d.warm:
		return nil
	case <-d.exited:
		return fmt.Errorf("data process %d ended before it was ready: %w", d.pid, d.err)
	case <-timeout.C:
		return fmt.Errorf("data process %d was not ready within %v", d.pid, warmWait)
	}
}

// take has a warm process forward. No other process uses the rings.
func (d *dataProcess) take() error {
	if err := d.conn.Send(ipc.KindTake, nil); err != nil {
		return err
	}
	timeout := time.NewTimer(readyWait)
	defer timeout.Stop()
	select {
	case d.ready = <-d.readies:
	case <-d.exited:
		return fmt.Errorf("data process %d ended before it forwarded: %w", d.pid, d.err)
	case <-timeout.C:
		return fmt.Errorf("data process %d did not forward within %v", d.pid, readyWait)
	}
	d.started = time.Now()
	return d.checkPrivileges()
}

func (d *dataProcess) checkPrivileges() error {
	if d.ready.Capabilities != 0 || !d.ready.NoNewPrivs {
		return fmt.Errorf("data process %d kept privileges: capabilities %#x, no-new-privs %v", d.ready.PID, d.ready.Capabilities, d.ready.NoNewPrivs)
	}
	return nil
}

// errYield says that the process did not stop using the rings when asked to.
// Whether it ended by that shows in exited.
var errYield = errors.New("the data process did not yield")

// yield has the process stop at the end of a batch and leave the rings to
// another. It ends by itself afterwards.
func (d *dataProcess) yield() error {
	if err := d.conn.Send(ipc.KindYield, nil); err != nil {
		return errors.Join(errYield, err)
	}
	timeout := time.NewTimer(stopWait)
	defer timeout.Stop()
	select {
	case <-d.yielded:
		return nil
	case <-d.exited:
		return nil
	case <-timeout.C:
		return errYield
	}
}

// listen takes what the process says until it is gone.
func (d *dataProcess) listen(log *slog.Logger) {
	for {
		m, err := d.conn.Receive()
		if err == nil {
			err = d.hear(m)
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed):
			log.Error("data process talks nonsense; it is replaced", "pid", d.pid, "error", err)
			d.signal(syscall.SIGKILL)
		}
		return
	}
}

// hear takes one message.
func (d *dataProcess) hear(m *ipc.Message) error {
	switch m.Kind {
	case ipc.KindAck:
		var body ipc.Ack
		if err := m.Decode(ipc.KindAck, &body, 0); err != nil {
			return err
		}
		d.acks <- ack{generation: body.Generation}
	case ipc.KindRefused:
		var body ipc.Refused
		if err := m.Decode(ipc.KindRefused, &body, 0); err != nil {
			return err
		}
		d.acks <- ack{generation: body.Generation, refused: body.Error}
	case ipc.KindProfiled:
		var body ipc.Profiled
		if err := m.Decode(ipc.KindProfiled, &body, 0); err != nil {
			return err
		}
		d.answerProfile(body)
	case ipc.KindWarm:
		var body ipc.Warm
		if err := m.Decode(ipc.KindWarm, &body, 0); err != nil {
			return err
		}
		if body.Layout != ipc.Layout {
			return fmt.Errorf("it has layout %d, this process has %d", body.Layout, ipc.Layout)
		}
		close(d.warm)
	case ipc.KindReady:
		var body ipc.Ready
		if err := m.Decode(ipc.KindReady, &body, 0); err != nil {
			return err
		}
		d.readies <- body
	case ipc.KindYielded:
		close(d.yielded)
	default:
		return &ipc.KindError{Want: ipc.KindAck, Got: m.Kind}
	}
	return nil
}

// errGone says that the data process ended before it answered. Its successor
// starts with the image that is current then.
var errGone = errors.New("the data process ended")

// publish hands over an image to be in force and waits for the answer.
func (d *dataProcess) publish(generation uint64, images *fib.Images, fd int) error {
	d.rests = false
	return d.ask(generation, ipc.KindFIB, ipc.FIB{Generation: generation, Size: images.Size()}, fd)
}

// rest hands over the image that rests, so that patches of it can be announced.
func (d *dataProcess) rest(generation uint64, images *fib.Images) error {
	if images.RestingFD() < 0 {
		return nil
	}
	err := d.ask(generation, ipc.KindFIB, ipc.FIB{Generation: generation, Size: images.Size(), Resting: true}, images.RestingFD())
	d.rests = err == nil
	return err
}

// patch announces that the resting image was patched and waits for the answer.
func (d *dataProcess) patch(generation uint64, written []fib.Range) error {
	return d.ask(generation, ipc.KindPatch, ipc.NewPatch(generation, written))
}

// ask sends a message about a generation and waits for the answer. With errGone
// the process is no more, and none of its workers uses any image.
func (d *dataProcess) ask(generation uint64, kind ipc.Kind, body any, fds ...int) error {
	if err := d.conn.Send(kind, body, fds...); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			d.signal(syscall.SIGKILL) // if it is not on its way already
			<-d.exited
			return errGone
		}
		return err
	}
	timer := time.NewTimer(ackWait)
	defer timer.Stop()
	for {
		select {
		case a := <-d.acks:
			switch {
			case a.generation != generation:
				continue // the late answer to an image that was given up
			case a.refused != "":
				return errors.New(a.refused)
			}
			return nil
		case <-d.exited:
			return errGone
		case <-timer.C:
			d.signal(syscall.SIGKILL) // it is stuck; its successor starts with the current image
			<-d.exited
			return errGone
		}
	}
}

// stop ends the process in good order, or not, if it does not obey.
func (d *dataProcess) stop() {
	d.conn.Send(ipc.KindStop, nil)
	select {
	case <-d.exited:
	case <-time.After(stopWait):
		d.signal(syscall.SIGKILL)
		<-d.exited
	}
	d.conn.Close()
}

func (d *dataProcess) kill() error {
	d.signal(syscall.SIGKILL)
	<-d.exited
	return d.conn.Close()
}
