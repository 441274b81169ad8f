package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startOrphan leaves a sleeping process in the host whose parent has ended.
func startOrphan(t *testing.T, h *Host) int {
	t.Helper()
	p, err := h.Start(exec.Command("sh", "-c", "sleep 300 & echo $!"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(p.Output())))
	if err != nil {
		t.Fatal(err)
	}
	if !isInside(pid, h.id) {
		t.Fatalf("process %d does not run in the host", pid)
	}
	return pid
}

func TestProcessRunsInTheNamespace(t *testing.T) {
	l := newLab(t)
	h := addHost(t, l, "a")
	p, err := h.Start(exec.Command("sh", "-c", "readlink /proc/self/ns/net; echo to stderr >&2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("net:[%d]\nto stderr\n", h.id.inode); string(p.Output()) != want {
		t.Errorf("output %q, want %q", p.Output(), want)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to an ended process: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing an ended process: %v", err)
	}
}

func TestProcessErrors(t *testing.T) {
	l := newLab(t)
	h := addHost(t, l, "a")
	if _, err := h.Start(exec.Command("/no/such/program")); err == nil ||
		err.Error() != "host a: starting /no/such/program: fork/exec /no/such/program: no such file or directory" {
		t.Errorf("error %v", err)
	}
	p, err := h.Start(exec.Command("sh", "-c", "echo started; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if err := p.WaitOutput(ctx, "started"); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("host a: %s ended (exit status 3) without writing \"ready\", but:\nstarted\n", p.cmd.Path)
	if err := p.WaitOutput(ctx, "ready"); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	if err := p.Wait(ctx); err == nil || err.Error() != "exit status 3" {
		t.Errorf("error %v", err)
	}
}

func TestStopAsksThenKills(t *testing.T) {
	l := newLab(t)
	h := addHost(t, l, "a")
	ctx := testContext(t)
	start := func(script string) *Process {
		t.Helper()
		p, err := h.Start(exec.Command("sh", "-c", script))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.WaitOutput(ctx, "ready"); err != nil {
			t.Fatal(err)
		}
		return p
	}
	polite := start("trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	if err := polite.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(polite.Output()), "asked") {
		t.Errorf("output %q", polite.Output())
	}
	stubborn := start("trap '' TERM; echo ready; while :; do sleep 0.01; done")
	shortCtx, cancel := context.WithCancel(ctx)
	cancel()
	want := fmt.Sprintf("host a: %s still runs: context canceled", stubborn.cmd.Path)
	if err := stubborn.Wait(shortCtx); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	err := stubborn.Stop(50 * time.Millisecond)
	want = fmt.Sprintf("host a: %s (pid %d) did not end within 50ms of SIGTERM", stubborn.cmd.Path, stubborn.Pid())
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	select {
	case <-stubborn.Done():
	default:
		t.Error("the stubborn process still runs")
	}
}

func TestCloseStopsProcessesAndTheirOrphans(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	h := addHost(t, l, "a")
	orphan := startOrphan(t, h)
	p, err := h.Start(exec.Command("sleep", "300"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("the process still runs")
	}
	if isInside(orphan, h.id) {
		t.Error("the orphan still runs")
	}
	if _, err := h.Start(exec.Command("true")); err == nil || !strings.HasSuffix(err.Error(), ": the lab is closed") {
		t.Errorf("starting on a closed lab: %v", err)
	}
}

// TestProcessesDieWithTheirStarter runs this test binary again as a process
// that starts a command in a lab and is then killed.
func TestProcessesDieWithTheirStarter(t *testing.T) {
	const variable = "FAIRLEAD_LAB_TEST_STARTER"
	if os.Getenv(variable) != "" {
		l, err := New()
		if err != nil {
			t.Fatal(err)
		}
		p, err := addHost(t, l, "a").Start(exec.Command("sleep", "300"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("started %d in %s\n", p.Pid(), l.name)
		time.Sleep(time.Minute) // killed long before
		return
	}
	l := newLab(t)
	h := addHost(t, l, "outer")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=1")
	starter, err := h.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := starter.WaitOutput(testContext(t), "in fl-"); err != nil {
		t.Fatal(err)
	}
	var child int
	var name string
	if _, err := fmt.Sscanf(string(starter.Output()), "started %d in %s\n", &child, &name); err != nil {
		t.Fatalf("%v: %q", err, starter.Output())
	}
	// The command must outlive the thread that asked for it, whatever the Go
	// runtime does with its threads: it is alive until its starter is killed.
	if !running(child) {
		t.Fatal("the command ended before its starter")
	}
	if err := starter.Kill(); err != nil {
		t.Fatal(err)
	}
	err = waitFor("the command is gone", 10*time.Second, func() (bool, error) { return !running(child), nil })
	if err != nil {
		t.Error(err)
	}
	if err := RemoveStale(); err != nil {
		t.Error(err)
	}
	if left := namespacesOf(t, &Lab{name: name}); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// running is false for zombies: on some machines nobody collects orphans.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}
