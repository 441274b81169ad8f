package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveFixed runs the API on a socket until the test ends, and returns how it
// ended.
func serveFixed(t *testing.T, socket string, node Provider) (stop func() error) {
	t.Helper()
	return serveConfig(t, Config{Socket: socket, Log: slog.New(slog.DiscardHandler)}, node)
}

func serveConfig(t *testing.T, c Config, node Provider) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, c, node) }()
	var err error
	stopped := false
	stop = func() error {
		if !stopped {
			cancel()
			err, stopped = <-ended, true
		}
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}

// ask asks until the node answers.
func ask(t *testing.T, c *Client) *Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		s, err := c.Status(ctx)
		if err == nil {
			return s
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// TestStatusCrosses asserts that the client sees what the node says, on a
// socket that others may not use, that the socket goes with the node, and that
// stopping is no error.
func TestStatusCrosses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sub", "fairlead.sock")
	node := newFixed()
	stop := serveFixed(t, socket, node)
	got := ask(t, NewClient(socket))
	if !reflect.DeepEqual(got.Summary, node.summary) || !reflect.DeepEqual(got.Services, node.services) {
		t.Errorf("the client sees %+v", got)
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o660 {
		t.Errorf("the socket has mode %v", mode)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestSocketOfADeadNode asserts that a socket file nobody listens on is
// replaced.
func TestSocketOfADeadNode(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	stop := serveFixed(t, socket, newFixed())
	if got := ask(t, NewClient(socket)); got.Node != "lb1" {
		t.Errorf("node %q", got.Node)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestSecondNode asserts that a node does not take the socket of another that
// runs, nor a file that is no socket.
func TestSecondNode(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "fairlead.sock")
	stop := serveFixed(t, socket, newFixed())
	ask(t, NewClient(socket))
	second := newFixed()
	second.summary.Node = "second"
	err := Serve(t.Context(), Config{Socket: socket}, second)
	if want := "admin API: " + socket + " is in use: another fairlead runs"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if got := ask(t, NewClient(socket)); got.Node != "lb1" {
		t.Errorf("node %q answers", got.Node)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), Config{Socket: plain}, second)
	if want := "admin API: " + plain + " is there and is no socket"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if text, _ := os.ReadFile(plain); string(text) != "mine" {
		t.Error("a file of somebody's is gone")
	}
}

// TestNobodyThere asserts that the client's error says what to look at, and can
// be told from others.
func TestNobodyThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	_, err := NewClient(socket).Status(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "ask the node at "+socket+" (does `fairlead run` run, and may you use its socket?): ") {
		t.Errorf("error %v", err)
	}
	if _, is := errors.AsType[*UnreachableError](err); !is || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %#v", err)
	}
}

// TestProfileCrosses asserts that the client gets what the node has recorded,
// and hears why it has not.
func TestProfileCrosses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	node := newFixed()
	stop := serveFixed(t, socket, node)
	c := NewClient(socket)
	ask(t, c)
	if got, err := c.Profile(t.Context(), 60); err != nil || string(got) != "1m0s" {
		t.Errorf("profile %q, %v", got, err)
	}
	for seconds, want := range map[int]string{
		-1: `parameter "seconds": -1 is out of range; it must be 1 to 60`,
		0:  `parameter "seconds": 0 is out of range; it must be 1 to 60`,
		61: `parameter "seconds": 61 is out of range; it must be 1 to 60`,
	} {
		if _, err := c.Profile(t.Context(), seconds); err == nil || err.Error() != want {
			t.Errorf("%d seconds: %v, want %s", seconds, err, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	node.profileError = errors.New("there is no data process")
	serveFixed(t, socket, node)
	ask(t, c)
	_, err := c.Profile(t.Context(), 1)
	if e, is := errors.AsType[*Error](err); !is || e.Code != Unavailable || e.Message != "there is no data process" {
		t.Errorf("%v", err)
	}
}
