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

	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// How long the data process may take to answer. It is idle but for forwarding,
// so a process that takes longer is stuck.
const (
	readyWait = 10 * time.Second
	ackWait   = 5 * time.Second
	stopWait  = 3 * time.Second
)

// dataProcess is one running data process.
type dataProcess struct {
	cmd      *exec.Cmd
	conn     *ipc.Conn
	ready    ipc.Ready
	started  time.Time
	acks     chan ack
	rests    bool              // it has the image that rests
	profiled chan ipc.Profiled // holds the last answer to who asked for a profile
	exited   chan struct{}     // closed when the process is gone
	err      error             // how it ended; valid once exited is closed
}

// ack is the answer to an image.
type ack struct {
	generation uint64
	refused    string
}

// identity is the user that the data process runs as.
type identity struct {
	uid, gid uint32
	set      bool // false: the control process's own, which is not root
}

// lookIdentity finds the user. A control process that is not root cannot
// change users, and need not: the data process drops every capability itself.
func lookIdentity(name string) (identity, error) {
	if os.Getuid() != 0 {
		return identity{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if _, numeric := strconv.ParseUint(name, 10, 32); numeric != nil {
			return identity{}, fmt.Errorf("user of the data process: %w", err)
		}
		u = &user.User{Uid: name, Gid: name}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return identity{}, fmt.Errorf("user of the data process: %w", err)
	}
	if uid == 0 {
		return identity{}, errors.New("the data process must not run as root")
	}
	return identity{uint32(uid), uint32(gid), true}, nil
}

// spawn starts a data process and hands it everything: sockets, memory, image.
// When it returns, the process forwards.
func spawn(id identity, setup ipc.Setup, shared []int, workers []*workerSockets, describe func(w int) ipc.WorkerSetup, img image, log *slog.Logger) (*dataProcess, error) {
	conn, child, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	d := &dataProcess{conn: conn, started: time.Now(), acks: make(chan ack, 16), profiled: make(chan ipc.Profiled, 1), exited: make(chan struct{})}
	// The process is the same binary whatever has become of its file, and a
	// group of its own keeps a terminal's interrupt for the control process.
	d.cmd = exec.Command("/proc/self/exe", "dataplane")
	d.cmd.Args[0] = "fairlead"
	d.cmd.ExtraFiles = []*os.File{child}
	d.cmd.Stderr = os.Stderr
	d.cmd.Dir = "/"
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if id.set {
		d.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id.uid, Gid: id.gid}
	}
	err = d.cmd.Start()
	child.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("start data process: %w", err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	if err := d.hand(setup, shared, workers, describe, img); err != nil {
		return nil, errors.Join(err, d.kill())
	}
	go d.listen(log)
	return d, nil
}

// hand sends the setup, the workers and the first image, and waits until the
// process forwards.
func (d *dataProcess) hand(setup ipc.Setup, shared []int, workers []*workerSockets, describe func(w int) ipc.WorkerSetup, img image) error {
	if err := d.conn.Send(ipc.KindSetup, setup, shared...); err != nil {
		return err
	}
	for i, w := range workers {
		fds := []int{w.umem.FD()}
		for _, s := range w.sockets {
			fds = append(fds, s.FD())
		}
		if err := d.conn.Send(ipc.KindWorker, describe(i), fds...); err != nil {
			return err
		}
	}
	if err := d.conn.Send(ipc.KindFIB, ipc.FIB{Generation: img.generation, Size: img.images.Size()}, img.images.FD()); err != nil {
		return err
	}
	timer := time.AfterFunc(readyWait, func() { d.cmd.Process.Kill() })
	defer timer.Stop()
	m, err := d.conn.Receive()
	if errors.Is(err, io.EOF) {
		<-d.exited
		return fmt.Errorf("data process ended before it forwarded: %w", d.err)
	}
	if err != nil {
		return err
	}
	if err := m.Decode(ipc.KindReady, &d.ready, 0); err != nil {
		return err
	}
	if d.ready.Capabilities != 0 || !d.ready.NoNewPrivs {
		return fmt.Errorf("data process %d kept privileges: capabilities %#x, no-new-privs %v", d.ready.PID, d.ready.Capabilities, d.ready.NoNewPrivs)
	}
	return nil
}

// listen takes what the process says until it is gone.
func (d *dataProcess) listen(log *slog.Logger) {
	for {
		m, err := d.conn.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				log.Error("data process talks nonsense; it is replaced", "error", err)
				d.cmd.Process.Kill()
			}
			return
		}
		var a ack
		switch m.Kind {
		case ipc.KindAck:
			var body ipc.Ack
			err = m.Decode(ipc.KindAck, &body, 0)
			a = ack{generation: body.Generation}
		case ipc.KindRefused:
			var body ipc.Refused
			err = m.Decode(ipc.KindRefused, &body, 0)
			a = ack{generation: body.Generation, refused: body.Error}
		case ipc.KindProfiled:
			var body ipc.Profiled
			if err = m.Decode(ipc.KindProfiled, &body, 0); err == nil {
				d.answerProfile(body)
				continue
			}
		default:
			err = &ipc.KindError{Want: ipc.KindAck, Got: m.Kind}
		}
		if err != nil {
			log.Error("data process talks nonsense; it is replaced", "error", err)
			d.cmd.Process.Kill()
			return
		}
		d.acks <- a
	}
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
			d.cmd.Process.Kill() // if it is not on its way already
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
			d.cmd.Process.Kill() // it is stuck; its successor starts with the current image
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
		d.cmd.Process.Kill()
		<-d.exited
	}
	d.conn.Close()
}

func (d *dataProcess) kill() error {
	d.cmd.Process.Kill()
	<-d.exited
	return d.conn.Close()
}
