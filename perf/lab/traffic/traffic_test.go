package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/perf/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// routed makes a client and backends with a router between them and no load
// balancer at work.
func routed(t *testing.T, backends int) *lab.Topology {
	t.Helper()
	topo, err := lab.TwoArm(lab.Config{Backends: backends, Router: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return topo
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func targets(b *lab.Node, port uint16) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(b.IPv4, port), netip.AddrPortFrom(b.IPv6, port)}
}

func clientFor(topo *lab.Topology, target netip.AddrPort) netip.Addr {
	if target.Addr().Is4() {
		return topo.Client.IPv4
	}
	return topo.Client.IPv6
}

// wantTally demands n right answers, all from one server that saw one client.
func wantTally(t *testing.T, got *Tally, n int, server string, client netip.Addr) {
	t.Helper()
	if err := got.Err(); err != nil {
		t.Error(err)
	}
	if got.Requests != n || got.Answers != n || got.Failed() != 0 || got.Moves != 0 ||
		got.ByServer[server] != n || got.Clients[client] != n {
		t.Errorf("%d requests, %d answers, %d failed, %d moves, by %v, as %v: want %d by %s, as %s",
			got.Requests, got.Answers, got.Failed(), got.Moves, got.ByServer, got.Clients, n, server, client)
	}
}

func TestHTTP(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	server, err := ServeHTTP(b.Host, ":80")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for _, target := range targets(b, 80) {
		client := clientFor(topo, target)
		wantTally(t, HTTPLoad{Target: target, Connections: 50, Parallel: 8}.Run(ctx, topo.Client.Host), 50, "b1", client)
		wantTally(t, HTTPLoad{
			Target: target, Source: client, Connections: 4, Parallel: 2, BodyBytes: 300_000,
		}.Run(ctx, topo.Client.Host), 4, "b1", client)
	}
	if got := server.Requests(); got != 2*54 {
		t.Errorf("the server saw %d requests, want %d", got, 2*54)
	}
}

func TestUDP(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	// An address beside the interface's own: answers must come from it, though
	// the server listens on all addresses.
	vip4, vip6 := netip.MustParseAddr("198.18.10.150"), netip.MustParseAddr("2001:db8:10::150")
	for _, a := range []netip.Addr{vip4, vip6} {
		if err := b.Interface.AddAddress(netip.PrefixFrom(a, a.BitLen())); err != nil {
			t.Fatal(err)
		}
	}
	server, err := ServeUDP(b.Host, ":53")
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	for _, target := range append(targets(b, 53), netip.AddrPortFrom(vip4, 53), netip.AddrPortFrom(vip6, 53)) {
		load := UDPLoad{Target: target, Flows: 20, Parallel: 4, PerFlow: 5, PayloadBytes: 1200, Timeout: 5 * time.Second}
		wantTally(t, load.Run(ctx, topo.Client.Host), 100, "b1", clientFor(topo, target))
	}
	big := UDPLoad{Target: targets(b, 53)[0], Flows: 1, PayloadBytes: 1 << 20, Timeout: 5 * time.Second}
	wantTally(t, big.Run(ctx, topo.Client.Host), 1, "b1", topo.Client.IPv4)
	if got := server.Requests(); got < 401 {
		t.Errorf("the server saw %d requests, want at least 401", got)
	}
}

// The client tells a server that answers late, twice, or not at all from one
// that works.
func TestUDPRetriesAndMoves(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	conn, err := b.ListenPacket("udp4", ":53")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, maxDatagram)
		for n := 0; ; n++ {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if n%2 == 0 {
				continue // not answered: it must be asked again
			}
			name := fmt.Sprintf("s%d", n/2%2)
			answer := []byte(origin{server: name, client: clientAddress(from)}.line() + "\n" + string(buf[:size]))
			for range 2 { // twice: the second is late for the next question
				if _, err := conn.WriteTo(answer, from); err != nil {
					return
				}
			}
		}
	}()
	defer func() { conn.Close(); <-ended }()
	load := UDPLoad{
		Target: targets(b, 53)[0], Flows: 1, PerFlow: 4, Attempts: 2, Timeout: 200 * time.Millisecond,
	}
	got := load.Run(testContext(t), topo.Client.Host)
	if err := got.Err(); err != nil {
		t.Error(err)
	}
	if got.Answers != 4 || got.Retries != 4 || got.Moves != 3 || got.ByServer["s0"] != 2 || got.ByServer["s1"] != 2 {
		t.Errorf("%d answers, %d retries, %d moves, by %v", got.Answers, got.Retries, got.Moves, got.ByServer)
	}
}

func TestFailuresAreReported(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	ctx := testContext(t)
	nobody := netip.AddrPortFrom(b.IPv4, 9)

	web := HTTPLoad{Target: nobody, Connections: 7, Parallel: 1}.Run(ctx, topo.Client.Host)
	if err := web.Err(); err == nil || !strings.HasPrefix(err.Error(),
		"7 of 7 requests failed, for example: request 0 to 198.18.10.11:9: dial tcp ") {
		t.Errorf("http: %v", err)
	}
	if n := strings.Count(web.Err().Error(), "connection refused"); n != keptErrors {
		t.Errorf("%d errors quoted, want %d: %v", n, keptErrors, web.Err())
	}

	dgram := UDPLoad{Target: nobody, Flows: 1, Attempts: 2, Timeout: 50 * time.Millisecond}.Run(ctx, topo.Client.Host)
	if err := dgram.Err(); err == nil || !strings.Contains(err.Error(), "question 0: no answer to 2 datagrams: ") ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("udp: %v", err)
	}
	if dgram.Requests != 1 || dgram.Answers != 0 || dgram.Retries != 1 {
		t.Errorf("udp: %d requests, %d answers, %d retries", dgram.Requests, dgram.Answers, dgram.Retries)
	}

	over, cancel := context.WithCancel(ctx)
	cancel()
	web = HTTPLoad{Target: nobody, Connections: 3}.Run(over, topo.Client.Host)
	if web.Failed() != 3 || !strings.Contains(web.Err().Error(), "context canceled") {
		t.Errorf("http after the end: %v", web.Err())
	}
	dgram = UDPLoad{Target: nobody, Flows: 3, PerFlow: 2}.Run(over, topo.Client.Host)
	if dgram.Failed() != 6 || !strings.Contains(dgram.Err().Error(), "context canceled") {
		t.Errorf("udp after the end: %v", dgram.Err())
	}
	_, err := Transfer{Target: nobody, Direction: Upload, Bytes: 5}.Run(ctx, topo.Client.Host)
	if err == nil || !strings.HasPrefix(err.Error(), "upload of 5 bytes, 198.18.10.11:9: dial tcp ") {
		t.Errorf("transfer: %v", err)
	}
	_, err = StartPinger(ctx, topo.Client.Host, PingerConfig{Target: nobody})
	if err == nil || !strings.HasPrefix(err.Error(), "pinging 198.18.10.11:9: dial tcp ") {
		t.Errorf("pinger: %v", err)
	}
}

func TestServersReportWhatTheyCannotHave(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	for name, serve := range map[string]func() error{
		"http":   func() error { _, err := ServeHTTP(b.Host, "192.0.2.1:80"); return err },
		"udp":    func() error { _, err := ServeUDP(b.Host, "192.0.2.1:80"); return err },
		"stream": func() error { _, err := ServeStream(b.Host, "192.0.2.1:80"); return err },
	} {
		if err := serve(); err == nil || !strings.HasPrefix(err.Error(), name+" server on b1: listen ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClosingServersTwice(t *testing.T) {
	topo := routed(t, 1)
	b := topo.Backends[0]
	web, err := ServeHTTP(b.Host, ":80")
	if err != nil {
		t.Fatal(err)
	}
	dgram, err := ServeUDP(b.Host, ":80")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := ServeStream(b.Host, ":81")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and a third time with the lab
		for _, s := range []interface{ Close() error }{web, dgram, stream} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOrigins(t *testing.T) {
	good := origin{server: "b1", client: netip.MustParseAddrPort("[2001:db8::2]:99")}
	if got, err := parseOrigin(good.line()); err != nil || got != good {
		t.Errorf("%+v, %v", got, err)
	}
	for line, want := range map[string]string{
		"":          `answer "" does not name a server and a client`,
		"b1":        `answer "b1" does not name a server and a client`,
		"b1 nobody": `answer "b1 nobody": not an ip:port`,
	} {
		if _, err := parseOrigin(line); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}
