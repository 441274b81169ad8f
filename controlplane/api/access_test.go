package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// who is a local user for a test: numbers that no account has.
type who struct {
	uid, gid uint32
	groups   []uint32
}

// dialAs connects to a Unix socket as somebody else. The thread that has become
// that user ends with its goroutine.
func dialAs(w who, socket string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked
		conn, err := func() (net.Conn, error) {
			var first *uint32
			if len(w.groups) > 0 {
				first = &w.groups[0]
			}
			for _, call := range []struct {
				name    string
				trap    uintptr
				a, b, c uintptr
			}{
				{"setgroups", unix.SYS_SETGROUPS, uintptr(len(w.groups)), uintptr(unsafe.Pointer(first)), 0},
				{"setresgid", unix.SYS_SETRESGID, uintptr(w.gid), uintptr(w.gid), uintptr(w.gid)},
				{"setresuid", unix.SYS_SETRESUID, uintptr(w.uid), uintptr(w.uid), uintptr(w.uid)},
			} {
				if _, _, errno := unix.RawSyscall(call.trap, call.a, call.b, call.c); errno != 0 {
					return nil, fmt.Errorf("%s: %w", call.name, errno)
				}
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			file := os.NewFile(uintptr(fd), "socket")
			defer file.Close()
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
				return nil, err
			}
			return net.FileConn(file)
		}()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// clientAs is a client that connects as somebody else.
func clientAs(w who, socket string) *Client {
	c := NewClient(socket)
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return dialAs(w, socket) }
	return c
}

// openDir is a directory that every user may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// log keeps what is logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger {
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "took" {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: drop}))
}

// TestRoles asserts who may do what on the socket: by user, by primary and by
// supplementary group, real processes' credentials all.
func TestRoles(t *testing.T) {
	const group, stranger = 54320, 54321
	everybody, readers := Access{Operators: []string{"user:1001", "group:2001"}}, Access{Operators: []string{"user:1001", "group:2001"}, Readers: []string{"user:1002", "group:2002", "user:nobody-has-this-name"}}
	for _, c := range []struct {
		name   string
		who    who
		access Access
		want   Role
	}{
		{"root", who{}, readers, Operator},
		{"operator by user", who{1001, group, nil}, readers, Operator},
		{"operator by group", who{stranger, 2001, []uint32{group}}, readers, Operator},
		{"operator by another group", who{stranger, stranger, []uint32{5, group, 2001}}, readers, Operator},
		{"reader by user", who{1002, group, nil}, readers, ReadOnly},
		{"reader by group", who{stranger, group, []uint32{2002}}, readers, ReadOnly},
		{"stranger among readers", who{stranger, group, nil}, readers, Nobody},
		{"stranger where everybody reads", who{stranger, group, nil}, everybody, ReadOnly},
		{"a user's number is no group", who{stranger, group, []uint32{1001}}, everybody, ReadOnly},
		{"a group's number is no user", who{2001, group, nil}, everybody, ReadOnly},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(openDir(t), "s")
			said := &logged{}
			stop := serveConfig(t, Config{Socket: socket, Group: fmt.Sprint(group), Access: c.access, Log: said.logger()}, newFixed())
			ask(t, NewClient(socket))
			client := clientAs(c.who, socket)
			_, looked := client.Summary(t.Context())
			_, changed := client.Profile(t.Context(), 1)
			if err := stop(); err != nil {
				t.Error(err)
			}
			for _, of := range []struct {
				err   error
				needs Role
			}{{looked, ReadOnly}, {changed, Operator}} {
				e, _ := errors.AsType[*Error](of.err)
				if allowed := of.err == nil; allowed != (c.want >= of.needs) || !allowed && (e == nil || e.Code != Forbidden) {
					t.Errorf("what needs %s: %v", of.needs, of.err)
				}
			}
			text := said.String()
			switch done := strings.Contains(text, `msg="admin API: operator"`) && strings.Contains(text, "method=POST path=/v1/debug/profile query=\"seconds=1\" result=done"); {
			case c.want == Operator && !done:
				t.Errorf("what an operator did is not in the log:\n%s", text)
			case c.want != Operator && done:
				t.Errorf("an operator is in the log:\n%s", text)
			case c.want != Operator && !strings.Contains(text, fmt.Sprintf("level=WARN msg=\"admin API: refused\" caller=\"uid %d (pid %d)\"", c.who.uid, os.Getpid())):
				t.Errorf("the refusal is not in the log:\n%s", text)
			}
		})
	}
}

// TestOutsiders asserts that who is not in the socket's group cannot open it.
func TestOutsiders(t *testing.T) {
	socket := filepath.Join(openDir(t), "s")
	serveConfig(t, Config{Socket: socket, Group: "54320"}, newFixed())
	ask(t, NewClient(socket))
	_, err := clientAs(who{54321, 54321, nil}, socket).Summary(t.Context())
	if _, is := errors.AsType[*UnreachableError](err); !is || !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// TestNoSuchGroup asserts that a socket for a group that is not there is not
// opened at all.
func TestNoSuchGroup(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	err := Serve(t.Context(), Config{Socket: socket, Group: "no-such-group"}, newFixed())
	if want := `admin API: there is no group "no-such-group" for the socket`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
}

// TestManyConnections asserts that one user cannot take all connections, and
// that root gets in whatever others do.
func TestManyConnections(t *testing.T) {
	socket := filepath.Join(openDir(t), "s")
	serveConfig(t, Config{Socket: socket, Group: "54320"}, newFixed())
	ask(t, NewClient(socket))
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	connect := func(uid uint32, count int) {
		for range count {
			c, err := dialAs(who{uid, 54320, nil}, socket)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
	}
	cut := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(4 * time.Second)) // sooner than the server loses patience
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)
	}
	connect(3001, maxConnectionsEach+1)
	if !cut(held[maxConnectionsEach]) {
		t.Error("one user has one connection too many")
	}
	for _, uid := range []uint32{3002, 3003, 3004} {
		connect(uid, maxConnectionsEach)
	}
	connect(3005, 1)
	if !cut(held[len(held)-1]) {
		t.Error("all users have one connection too many")
	}
	if _, err := NewClient(socket).Summary(t.Context()); err != nil {
		t.Errorf("root is kept out: %v", err)
	}
	for _, c := range slices.Backward(held) {
		c.Close()
	}
	held = nil
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := clientAs(who{3005, 54320, nil}, socket).Summary(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("connections that have ended still count: %v", err)
		}
	}
}

// TestSlowRequests asserts that who sends a request drop by drop is cut off.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	serveFixed(t, socket, newFixed())
	ask(t, NewClient(socket))
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		ended <- err
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for header := []byte("GET /v1/status HTTP/1.1\r\nHost: node\r\nX: " + strings.Repeat("x", 1000)); ; header = header[1:] {
		select {
		case <-ended:
			return
		case <-deadline:
			t.Fatal("it is still waited for")
		case <-tick.C:
			c.Write(header[:1])
		}
	}
}

// TestLargeHeader asserts that headers are bounded.
func TestLargeHeader(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serveFixed(t, socket, newFixed())
	c := NewClient(socket)
	ask(t, c)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://node/v1/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X", strings.Repeat("x", 64<<10))
	answer, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %s", answer.Status)
	}
}
