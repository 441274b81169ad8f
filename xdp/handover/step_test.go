package handover_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/xdp/handover"
)

// TestEveryInstruction runs a worker one machine instruction at a time and
// demands after each that a process killed there could be followed: every
// chunk accounted for, and the marks in agreement with the rings' indices.
// Now and then it does kill the worker there, and the next one goes on.
func TestEveryInstruction(t *testing.T) {
	const (
		chunks, ringSize = 64, 16
		batch            = 3
		lives            = 10
		minSteps         = 3000    // a life: some turns of the worker
		maxSteps         = 300_000 // the last life lasts until every moment was met
	)
	// ptrace goes by thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := newRig(t, chunks, ringSize)
	var total handover.Report
	serial := uint32(0)
	for life := range lives {
		c := start(t, r.umem, r.sockets, batch)
		checkReport(t, c.Report, r.umem)
		s := attachStepper(t, c.Thread)
		for step := 0; step < minSteps+life*97 || life == lives-1 && step < maxSteps && !metAll(total); step++ {
			if step%200 == 0 {
				for port := range 2 {
					r.lab.Inject(t, port, frame(serial))
					serial++
				}
			}
			s.step(t)
			report := r.inspect(t)
			total.UnpublishedFill += report.UnpublishedFill
			total.UnpublishedTX += report.UnpublishedTX
			total.Reread += report.Reread
			total.Recompleted += report.Recompleted
		}
		c.kill(t)
		r.inspect(t)
	}
	// Each of the moments that recovery is about must have been seen.
	if !metAll(total) {
		t.Errorf("not every moment was met: %v", total)
	}
	seen := 0
	for port := range 2 {
		seen += len(r.lab.Sent(port))
	}
	if seen == 0 {
		t.Error("no frame passed")
	}
	t.Logf("%d frames passed; sums over all instructions: %v", seen, total)
}

// metAll reports whether each kind of repair has been called for.
func metAll(r handover.Report) bool {
	return r.UnpublishedFill > 0 && r.UnpublishedTX > 0 && r.Reread > 0 && r.Recompleted > 0
}

// stepper runs one thread an instruction at a time.
type stepper struct {
	thread int
	signal unix.Signal // to deliver with the next step
}

func attachStepper(t *testing.T, thread int) *stepper {
	t.Helper()
	if err := unix.PtraceSeize(thread); err != nil {
		t.Fatalf("trace thread %d: %v", thread, err)
	}
	if err := unix.PtraceInterrupt(thread); err != nil {
		t.Fatalf("stop thread %d: %v", thread, err)
	}
	s := &stepper{thread: thread}
	s.wait(t)
	return s
}

func (s *stepper) step(t *testing.T) {
	t.Helper()
	_, _, e := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SINGLESTEP, uintptr(s.thread), 0, uintptr(s.signal), 0, 0)
	if e != 0 {
		t.Fatalf("step thread %d: %v", s.thread, e)
	}
	s.wait(t)
}

func (s *stepper) wait(t *testing.T) {
	t.Helper()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(s.thread, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("wait for thread %d: %v", s.thread, err)
		}
		break
	}
	if !status.Stopped() {
		t.Fatalf("the data process ended by itself: status %#x", status)
	}
	s.signal = 0
	if sig := status.StopSignal(); sig != unix.SIGTRAP {
		s.signal = sig
	}
}
