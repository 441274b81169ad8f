package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"fairlead/controlplane/model"
)

// long is how long a check may take that is not meant to run into its deadline.
const long = 10 * time.Second

// accept runs a TCP server on a port of its own: serve has each connection, and
// returns when it is done with it. What serve does ends with the test.
func accept(t *testing.T, serve func(conn net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			done.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		done.Wait()
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// answer runs a UDP server: what reply returns is sent back, nothing for nil.
func answer(t *testing.T, reply func(question []byte) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for _, b := range reply(buf[:n]) {
				conn.WriteTo(b, from) //nolint:errcheck // who asked may have gone
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// closedPort is a port of 127.0.0.1 that nobody listens on.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// silentPort accepts no connection and refuses none: its queue is full.
func silentPort(t *testing.T) netip.AddrPort {
	t.Helper()
	lc := net.ListenConfig{}
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return fill(t, ln)
}

// testTools are tools that end with the test.
func testTools(t *testing.T) (context.Context, *tools) {
	ctx, cancel := context.WithCancel(t.Context())
	tools := newTools(ctx, &Config{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		cancel()
		if err := tools.close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, tools
}

// try makes one check of an address.
func try(t *testing.T, check model.Check, to netip.AddrPort, timeout time.Duration) error {
	t.Helper()
	ctx, tools := testTools(t)
	key := model.BackendKey{Pool: "web", Endpoint: to}
	p, err := prepare(check.WithDefaults()).probe(tools, key, Way{Address: to})
	if err != nil {
		t.Fatal(err)
	}
	return p.try(ctx, time.Now().Add(timeout))
}

// outcome is a case of a check and the error it is to have, "" for success.
type outcome struct {
	name    string
	check   model.Check
	to      netip.AddrPort
	timeout time.Duration // 0: long
	want    string
}

func (o outcome) run(t *testing.T) {
	t.Helper()
	if o.timeout == 0 {
		o.timeout = long
	}
	begin := time.Now()
	got := ""
	if err := try(t, o.check, o.to, o.timeout); err != nil {
		got = err.Error()
	}
	if got != o.want {
		t.Errorf("%s: got %q, want %q", o.name, got, o.want)
	}
	if took := time.Since(begin); took > o.timeout+5*time.Second {
		t.Errorf("%s: took %v of %v", o.name, took, o.timeout)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file writes a file that goes with the test.
func file(t *testing.T, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	path := fmt.Sprintf("%s/%s", t.TempDir(), name)
	must(t, os.WriteFile(path, data, mode))
	return path
}
