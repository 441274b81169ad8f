package traffic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A hundred megabytes each way, every byte compared.
func TestTransfer(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	server, err := ServeStream(b.Host, ":7")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for i, target := range targets(b, 7) {
		for _, direction := range []Direction{Download, Upload, BothWays} {
			size := int64(100_000_000)
			if i == 1 {
				size = 3_000_001 // not a multiple of anything
			}
			got, err := Transfer{
				Target: target, Direction: direction, Bytes: size, Seed: uint64(i),
			}.Run(ctx, topo.Client.Host)
			if err != nil {
				t.Error(err)
				continue
			}
			if got.Server != "b1" || got.Client.Addr() != clientFor(topo, target) {
				t.Errorf("served by %q as %s", got.Server, got.Client)
			}
			t.Logf("%s, %s: %d bytes in %v", target, direction, size, got.Elapsed)
		}
	}
	if got := server.Accepted(); got != 6 {
		t.Errorf("%d connections, want 6", got)
	}
	empty, err := Transfer{Target: targets(b, 7)[0], Direction: BothWays, Source: topo.Client.IPv4}.Run(ctx, topo.Client.Host)
	if err != nil || empty.Server != "b1" {
		t.Errorf("an empty transfer: %+v, %v", empty, err)
	}
}

// A connection that a middle box tampers with is noticed, byte by byte.
func TestPatternComparison(t *testing.T) {
	const n = 3*patternChunk + 17
	var good bytes.Buffer
	if err := sendPattern(&good, 5, n); err != nil {
		t.Fatal(err)
	}
	stream := good.Bytes()
	changed := bytes.Clone(stream)
	changed[2*patternChunk+3] ^= 0x40
	swapped := bytes.Clone(stream)
	copy(swapped, stream[patternChunk:2*patternChunk])
	for _, c := range []struct {
		name string
		in   io.Reader
		want error
	}{
		{"as sent", bytes.NewReader(stream), nil},
		{"in small pieces", iotest.OneByteReader(bytes.NewReader(stream)), nil},
		{"one bit changed", bytes.NewReader(changed),
			&DifferenceError{Offset: 2*patternChunk + 3, Got: changed[2*patternChunk+3], Want: stream[2*patternChunk+3]}},
		{"another part of it", bytes.NewReader(swapped),
			&DifferenceError{Offset: 0, Got: swapped[0], Want: stream[0]}},
		{"cut short", bytes.NewReader(stream[:n-1]), &LengthError{Got: n - 1, Want: n}},
		{"cut at a chunk", bytes.NewReader(stream[:patternChunk]), &LengthError{Got: patternChunk, Want: n}},
		{"one byte more", bytes.NewReader(append(bytes.Clone(stream), 0)), &LengthError{Got: n + 1, Want: n}},
		{"broken", io.MultiReader(bytes.NewReader(stream[:10]), iotest.ErrReader(errors.New("broken"))),
			errors.New("after 10 of 196625 bytes: broken")},
		{"broken at the end", io.MultiReader(bytes.NewReader(stream), iotest.ErrReader(errors.New("broken"))),
			errors.New("after all of 196625 bytes: broken")},
	} {
		err := checkPattern(c.in, 5, n)
		if (err == nil) != (c.want == nil) || err != nil && err.Error() != c.want.Error() {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := checkPattern(bytes.NewReader(stream), 6, n); err == nil {
		t.Error("another seed gives the same bytes")
	}
}

func TestErrorTexts(t *testing.T) {
	for want, err := range map[string]error{
		"byte 7 is 0x01, not 0xff":       &DifferenceError{Offset: 7, Got: 1, Want: 255},
		"3 bytes instead of 9":           &LengthError{Got: 3, Want: 9},
		"more than the 9 bytes expected": &LengthError{Got: 10, Want: 9},
		"byte 102 is 0x62, not 0x78":     firstDifference([]byte("aab"), []byte("aax"), 100),
		"102 bytes instead of 103":       firstDifference([]byte("aa"), []byte("aab"), 100),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if got := Direction(3).String(); got != "direction(3)" {
		t.Error(got)
	}
}

// A wrong upload is reported by the server, in its own words.
func TestWrongUpload(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	if _, err := ServeStream(b.Host, ":7"); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	const size = 1 << 20
	conn, in, _, err := openStream(ctx, topo.Client.Host, topo.Client.IPv4, targets(b, 7)[0],
		streamRequest{op: opUpload, seed: 1, length: size})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sendPattern(conn, 2, size); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var one, two [1]byte
	newPattern(1).fill(one[:])
	newPattern(2).fill(two[:])
	want := "the server received: " + (&DifferenceError{Got: two[0], Want: one[0]}).Error()
	if err := readVerdict(in); err == nil || err.Error() != want {
		t.Errorf("verdict %v, want %s", err, want)
	}
}

func TestPinger(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	server, err := ServeStream(b.Host, ":7")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	start := func() *Pinger {
		t.Helper()
		p, err := StartPinger(ctx, topo.Client.Host, PingerConfig{Target: targets(b, 7)[0], Interval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	waitEchoes := func(p *Pinger, n uint64) {
		t.Helper()
		for p.Received() < n {
			select {
			case <-ctx.Done():
				t.Fatalf("%d echoes, want %d: %v", p.Received(), n, ctx.Err())
			case <-time.After(time.Millisecond):
			}
		}
	}
	p := start()
	waitEchoes(p, 20)
	report, err := p.Stop(ctx)
	if err != nil {
		t.Error(err)
	}
	if p.Server() != "b1" || report.Server != "b1" || report.Client.Addr() != topo.Client.IPv4 ||
		report.Sent != report.Received || report.Received < 20 || report.LongestGap <= 0 {
		t.Errorf("report %+v", report)
	}

	// A cut cable breaks nothing: TCP waits.
	p = start()
	waitEchoes(p, 1)
	port := b.Interface.Peer
	if err := port.SetDown(); err != nil {
		t.Fatal(err)
	}
	if err := port.SetUp(); err != nil {
		t.Fatal(err)
	}
	waitEchoes(p, p.Received()+20)
	if _, err := p.Stop(ctx); err != nil {
		t.Error(err)
	}

	// A server that goes away is noticed.
	p, idle := start(), start()
	waitEchoes(p, 5)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Broken():
	case <-ctx.Done():
		t.Fatal("not noticed")
	}
	if _, err := p.Stop(ctx); err == nil || !strings.HasPrefix(err.Error(), "pinger "+p.client.String()+" to 198.18.10.11:7 (b1): ") {
		t.Errorf("error %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := idle.Stop(over); err == nil {
		t.Error("stopping a broken pinger: no error")
	}
}

// An echo that does not belong, and an end that nobody asked for.
func TestPingerNoticesWrongEchoes(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	ctx := testContext(t)
	for _, c := range []struct{ echo, want string }{
		{"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", "echo 2 came instead of 1"},
		{"\x00\x00\x00\x00\x00\x00\x00\x00", "the server ended the connection after 1 echoes"},
		{"\x00\x00\x00", "waiting for echo 0: unexpected EOF"},
	} {
		ln, err := b.Listen("tcp", ":7")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- serveFixed(ln, "b9 192.0.2.1:1\n"+c.echo) }()
		p, err := StartPinger(ctx, topo.Client.Host, PingerConfig{Target: targets(b, 7)[0], Interval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Broken()
		if _, err := p.Stop(ctx); err == nil || !strings.HasSuffix(err.Error(), "(b9): "+c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
		if err := errors.Join(<-served, ln.Close()); err != nil {
			t.Error(err)
		}
	}
}

// serveFixed accepts one connection, sends the same bytes whatever it is asked,
// and closes its side.
func serveFixed(ln net.Listener, answer string) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := readStreamRequest(conn); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, answer); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}
