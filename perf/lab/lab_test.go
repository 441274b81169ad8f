package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLab makes a lab that is closed, without errors, at the end of the test.
func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, l)
	return l
}

func closeAfter(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func addHost(t *testing.T, l *Lab, name string) *Host {
	t.Helper()
	h, err := l.AddHost(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// namespacesOf lists what is left in the namespace folder of one lab.
func namespacesOf(t *testing.T, l *Lab) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(namespaceDir, l.name+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCloseRemovesEverything(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	a, b := addHost(t, l, "a"), addHost(t, l, "b")
	if _, _, err := l.Cable(a, "eth0", b, "eth0", LinkConfig{}); err != nil {
		t.Fatal(err)
	}
	if got := len(namespacesOf(t, l)); got != 2 {
		t.Fatalf("%d namespaces, want 2", got)
	}
	closed := 0
	l.OnClose(func() error { closed++; return errors.New("first registered, runs last") })
	l.OnClose(func() error { closed++; return errors.New("runs first") })
	err = l.Close()
	if want := "runs first\nfirst registered, runs last"; err == nil || err.Error() != want {
		t.Errorf("close error %q, want %q", err, want)
	}
	if closed != 2 {
		t.Errorf("%d functions called, want 2", closed)
	}
	if left := namespacesOf(t, l); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := l.AddHost("c"); err == nil || err.Error() != "the lab is closed" {
		t.Errorf("adding a host to a closed lab: %v", err)
	}
}

func TestHostNamesAreUniqueInALab(t *testing.T) {
	l := newLab(t)
	addHost(t, l, "a")
	_, err := l.AddHost("a")
	if want := `the lab already has a host "a"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestDoEntersAndLeaves(t *testing.T) {
	l := newLab(t)
	a, b := addHost(t, l, "a"), addHost(t, l, "b")
	current := func() string {
		ns, err := netns.Get()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		return ns.UniqueId()
	}
	outside := current()
	var inA, inB, backInA string
	err := a.Do(func() error {
		inA = current()
		err := b.Do(func() error { inB = current(); return io.ErrUnexpectedEOF })
		backInA = current()
		return err
	})
	if err != io.ErrUnexpectedEOF {
		t.Errorf("error %v is not the function's own", err)
	}
	if inA == outside || inB == outside || inA == inB || backInA != inA || current() != outside {
		t.Errorf("outside %s, in a %s, in b %s, back in a %s, at the end %s", outside, inA, inB, backInA, current())
	}
}

func TestStaleLabsAreRemoved(t *testing.T) {
	l := newLab(t)
	mine := addHost(t, l, "mine")
	owner, err := mine.Start(exec.Command("sleep", "300"))
	if err != nil {
		t.Fatal(err)
	}
	stale := &Lab{name: fmt.Sprintf("%s%d-1-", namePrefix, owner.Pid()), spawn: l.spawn}
	left := addHost(t, stale, "left")
	// An orphan: a process in the namespace whose starter is gone.
	orphan := startOrphan(t, left)

	if err := RemoveStale(); err != nil {
		t.Fatal(err)
	}
	if got := namespacesOf(t, stale); len(got) != 1 {
		t.Errorf("while its owner lives, the lab has %v", got)
	}
	if err := owner.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := RemoveStale(); err != nil {
		t.Fatal(err)
	}
	if got := namespacesOf(t, stale); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if isInside(orphan, left.id) {
		t.Errorf("process %d still runs", orphan)
	}
	if got := namespacesOf(t, l); len(got) != 1 {
		t.Errorf("the living lab has %v", got)
	}
	if _, err := mine.ReadSysctl("net.ipv4.ip_forward"); err != nil {
		t.Error(err)
	}
	if err := left.remove(); err != nil {
		t.Error(err)
	}
}

func TestForeignNamespacesAreLeftAlone(t *testing.T) {
	for name, want := range map[string]int{
		"fl-12-1-client": 12, "fl-": 0, "fl-x-1": 0, "fl-12": 0, "fl--1-a": 0, "blue": 0, "xfl-1-1-a": 0,
	} {
		pid, ok := ownerPid(name)
		if ok != (want != 0) || ok && pid != want {
			t.Errorf("%s: %d %t, want %d", name, pid, ok, want)
		}
	}
}

func TestSysctlNames(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":             "/proc/sys/net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/7.arp_ignore": "/proc/sys/net/ipv4/conf/eth0.7/arp_ignore",
	} {
		if got := sysctlPath(key); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	l := newLab(t)
	h := addHost(t, l, "a")
	err := h.Sysctl("net.ipv4.no_such_setting", "1")
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "host a: sysctl net.ipv4.no_such_setting=1: ") {
		t.Errorf("error %v", err)
	}
}

func TestNoRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the tests of this package need root")
	}
}

// roundTrip sends a line over TCP from one host to an address of another, and back.
func roundTrip(ctx context.Context, from, to *Host, addr netip.Addr) error {
	target := netip.AddrPortFrom(addr, 7000).String()
	ln, err := to.Listen("tcp", target)
	if err != nil {
		return err
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		_, err = io.Copy(conn, conn)
		served <- err
	}()
	conn, err := from.Dial(ctx, "tcp", target)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, "there and back"); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if string(got) != "there and back" {
		return fmt.Errorf("got %q", got)
	}
	return <-served
}
