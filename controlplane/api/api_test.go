package api

import (
	"context"
	"errors"
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

// fixed is a node whose status never changes.
type fixed Status

func (f fixed) Status() Status { return Status(f) }

func (f fixed) Profile(_ context.Context, length time.Duration) ([]byte, error) {
	if f.Node == "" {
		return nil, errors.New("there is no data process")
	}
	return []byte(length.String()), nil
}

// serve runs the API until the test ends and returns how it ended.
func serve(t *testing.T, socket string, node Provider) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, socket, node) }()
	t.Cleanup(cancel)
	return func() error { cancel(); return <-ended }
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
// socket that others may not use, and that stopping is no error.
func TestStatusCrosses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sub", "fairlead.sock")
	want := Status{Node: "lb1", Generation: Generation{Published: 3, Acknowledged: 2}, Ledger: Ledger{Received: 5, Reasons: map[string]uint64{"forward_new": 5}},
		Services: []Service{{Name: "web", Backends: []Backend{{Name: "b1", Expected: 0.5}}}}}
	stop := serve(t, socket, fixed(want))
	if got := ask(t, NewClient(socket)); !reflect.DeepEqual(*got, want) {
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
	stop := serve(t, socket, fixed{Node: "lb1"})
	if got := ask(t, NewClient(socket)); got.Node != "lb1" {
		t.Errorf("node %q", got.Node)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestSecondNode asserts that a node does not take the socket of another that
// runs.
func TestSecondNode(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	stop := serve(t, socket, fixed{Node: "first"})
	ask(t, NewClient(socket))
	err := Serve(t.Context(), socket, fixed{Node: "second"})
	if want := "admin API: " + socket + " is in use: another fairlead runs"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if got := ask(t, NewClient(socket)); got.Node != "first" {
		t.Errorf("node %q answers", got.Node)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestNobodyThere asserts that the client's error says what to look at.
func TestNobodyThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	_, err := NewClient(socket).Status(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "ask the node at "+socket+" (does `fairlead run` run, and may you use its socket?): ") {
		t.Errorf("error %v", err)
	}
}

// TestProfileCrosses asserts that the client gets what the node has recorded,
// and hears why it has not.
func TestProfileCrosses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "fairlead.sock")
	stop := serve(t, socket, fixed{Node: "lb1"})
	c := NewClient(socket)
	ask(t, c)
	if got, err := c.Profile(t.Context(), 60); err != nil || string(got) != "1m0s" {
		t.Errorf("profile %q, %v", got, err)
	}
	for _, seconds := range []int{-1, 0, 61} {
		_, err := c.Profile(t.Context(), seconds)
		if want := "the node answers 400 Bad Request: seconds is to be 1 to 60"; err == nil || err.Error() != want {
			t.Errorf("%d seconds: %v, want %s", seconds, err, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	stop = serve(t, socket, fixed{})
	ask(t, c)
	_, err := c.Profile(t.Context(), 1)
	if want := "the node answers 503 Service Unavailable: there is no data process"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
