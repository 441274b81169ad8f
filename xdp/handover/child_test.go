package handover_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/handover"
)

// The data process of these tests is the test binary again, told by this
// variable what to attach to. Its descriptors are 3 for the UMEM and one for
// each port from 4 on.
const childVariable = "FAIRLEAD_HANDOVER_CHILD"

// orders are what the data process is told.
type orders struct {
	UMEM       xdp.UMEMConfig
	Geometries []xdp.Geometry
	Batch      int
}

// greeting is what the data process says when it has taken over.
type greeting struct {
	Thread int // of the worker
	Report handover.Report
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := childMain(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// childMain takes over and forwards between ports 0 and 1 until it is killed.
func childMain(text string) error {
	runtime.LockOSThread()
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	umem, err := xdp.MapUMEM(3, o.UMEM)
	if err != nil {
		return err
	}
	var queues []*xdp.Queue
	for i, g := range o.Geometries {
		q, err := xdp.Attach(4+i, umem, g)
		if err != nil {
			return err
		}
		queues = append(queues, q)
	}
	pool, report, err := handover.Adopt(umem, queues...)
	if err != nil {
		return err
	}
	// Something to receive into before anything is said to be ready.
	w := newWorker(pool, queues, o.Batch)
	w.refill()
	if err := json.NewEncoder(os.Stdout).Encode(greeting{Thread: unix.Gettid(), Report: report}); err != nil {
		return err
	}
	// The test may die without having killed its children.
	parent := os.Getppid()
	for turns := 0; turns%1024 != 0 || os.Getppid() == parent; turns++ {
		w.turn()
		for _, q := range queues {
			if c := q.Counters(); c.Stray != 0 || c.Invalid != 0 {
				return fmt.Errorf("port %d: %+v", q.Port(), c)
			}
		}
	}
	return nil
}

// worker is the least worker there can be: what comes in at one port goes out
// at the other.
type worker struct {
	pool   *nic.Pool
	queues []*xdp.Queue
	frames []nic.Frame
	addrs  []uint64
}

func newWorker(pool *nic.Pool, queues []*xdp.Queue, batch int) *worker {
	return &worker{pool: pool, queues: queues, frames: make([]nic.Frame, batch), addrs: make([]uint64, batch)}
}

func (w *worker) turn() {
	for i, in := range w.queues {
		out := w.queues[len(w.queues)-1-i]
		n := in.Receive(w.frames)
		w.pool.Received(w.frames[:n])
		k := out.Transmit(w.frames[:n])
		w.pool.Sent(w.frames[:k])
		for _, f := range w.frames[k:n] {
			w.pool.Put(f.Addr)
		}
		out.Kick()
		n = out.Complete(w.addrs)
		w.pool.Completed(w.addrs[:n])
	}
	w.refill()
}

// refill fills every fill ring, as far as there are chunks.
func (w *worker) refill() {
	for _, q := range w.queues {
		for {
			n := w.pool.TakeForFill(w.addrs)
			accepted := q.Refill(w.addrs[:n])
			w.pool.Filled(accepted)
			if accepted < len(w.addrs) {
				break
			}
		}
	}
}

// child is a running data process.
type child struct {
	cmd    *exec.Cmd
	output io.ReadCloser
	greeting
}

// start starts a data process with descriptors of its own for umem and
// sockets and waits until it has taken over.
func start(t *testing.T, umem *xdp.UMEM, sockets []*xdp.Socket, batch int) *child {
	t.Helper()
	o := orders{UMEM: umem.Config(), Batch: batch}
	files := []*os.File{duplicate(t, umem.FD())}
	for _, s := range sockets {
		o.Geometries = append(o.Geometries, s.Geometry())
		files = append(files, duplicate(t, s.FD()))
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0])}
	// No preemption by signal: the single-stepped worker is not to spend its
	// steps in handlers.
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(text), "GODEBUG=asyncpreemptoff=1", "GOGC=off")
	c.cmd.ExtraFiles = files
	c.cmd.Stderr = os.Stderr
	if c.output, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	line, err := bufio.NewReader(c.output).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.greeting)
	}
	if err != nil {
		t.Fatalf("the data process did not take over: %v", err)
	}
	return c
}

// kill kills the data process, which must have lived until then.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.cmd.Wait()
	status := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the data process ended by itself: %v", c.cmd.ProcessState)
	}
}

func duplicate(t *testing.T, fd int) *os.File {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(d), "handed over")
}
