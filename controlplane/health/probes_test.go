package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"fairlead/controlplane/model"
)

// short is the timeout of checks that are to run into it.
const short = 150 * time.Millisecond

// fill fills a listener's queue, so that the kernel neither accepts nor
// refuses what comes then.
func fill(t *testing.T, ln net.Listener) netip.AddrPort {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	must(t, err)
	must(t, control(raw, func(fd int) error { return unix.Listen(fd, 0) }))
	for range 8 {
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), 100*time.Millisecond)
		if err != nil {
			return ln.Addr().(*net.TCPAddr).AddrPort()
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue is not full")
	return netip.AddrPort{}
}

func TestTCP(t *testing.T) {
	ended := make(chan error, 1)
	good := accept(t, func(conn net.Conn) {
		_, err := conn.Read(make([]byte, 1))
		select {
		case ended <- err:
		default:
		}
	})
	tcp := model.Check{Type: model.CheckTCP}
	outcome{"open", tcp, good, 0, ""}.run(t)
	if err := <-ended; !strings.Contains(fmt.Sprint(err), "connection reset by peer") {
		t.Errorf("the server saw the end of the check as %v, want a reset: nothing is to stay behind", err)
	}
	tcp.Source = netip.MustParseAddr("127.0.0.9")
	from := make(chan net.Addr, 1)
	outcome{"from an address", tcp, accept(t, func(conn net.Conn) {
		from <- conn.RemoteAddr()
		conn.Read(make([]byte, 1)) //nolint:errcheck // until the reset
	}), 0, ""}.run(t)
	if a := <-from; !strings.HasPrefix(a.String(), "127.0.0.9:") {
		t.Errorf("a check from 127.0.0.9 came from %v", a)
	}
	tcp.Source = netip.MustParseAddr("192.0.2.77")
	outcome{"from an address of somebody else", tcp, good, 0, "the source address is not one of this node's, or has no port left"}.run(t)
	tcp.Source = netip.MustParseAddr("2001:db8::1") // of the other family: without meaning
	outcome{"source of the other family", tcp, good, 0, ""}.run(t)
	tcp.Source = netip.Addr{}
	outcome{"closed", tcp, closedPort(t), 0, "connection refused"}.run(t)
	outcome{"silent", tcp, silentPort(t), short, "no connection in time"}.run(t)
}

// TestGivenUp: a check ends with its context, long before its deadline.
func TestGivenUp(t *testing.T) {
	silent := silentPort(t)
	mute := accept(t, func(conn net.Conn) { conn.Read(make([]byte, 1<<16)); conn.Read(make([]byte, 1)) }) //nolint:errcheck // until the end
	for _, c := range []model.Check{
		{Type: model.CheckTCP}, {Type: model.CheckHTTP}, {Type: model.CheckTLS}, {Type: model.CheckGRPC},
		{Type: model.CheckExec, Exec: []string{"/bin/sleep", "60"}},
	} {
		to := mute
		if c.Type == model.CheckTCP {
			to = silent
		}
		_, tools := testTools(t)
		p, err := prepare(c.WithDefaults()).probe(tools, model.BackendKey{Endpoint: to}, Way{Address: to})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		begin := time.Now()
		if err := p.try(ctx, begin.Add(time.Hour)); err == nil {
			t.Errorf("%s: a check that was given up succeeds", c.Type)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: a check that was given up took %v", c.Type, took)
		}
	}
}

func TestHTTP(t *testing.T) {
	var last *http.Request // each request ends before the next begins
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		last = r
		switch r.URL.Path {
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/moved":
			http.Redirect(w, r, "/down", http.StatusFound)
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "late but fine")
		case "/large":
			w.Write(bytes.Repeat([]byte("x"), mostBody)) //nolint:errcheck // the check may go
			fmt.Fprint(w, "end")
		default:
			fmt.Fprint(w, "all is well")
		}
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	to := netip.MustParseAddrPort(s.Listener.Addr().String())
	check := func(h model.HTTPCheck) model.Check { return model.Check{Type: model.CheckHTTP, HTTP: h} }
	for _, o := range []outcome{
		{"plain", check(model.HTTPCheck{}), to, 0, ""},
		{"body", check(model.HTTPCheck{Body: "all .* well"}), to, 0, ""},
		{"wrong body", check(model.HTTPCheck{Body: "^well"}), to, 0, `the body does not match; it begins with "all is well"`},
		{"error", check(model.HTTPCheck{Path: "/down"}), to, 0, "the status is 503"},
		{"expected error", check(model.HTTPCheck{Path: "/down", Status: []model.StatusRange{{First: 200, Last: 200}, {First: 500, Last: 503}}}), to, 0, ""},
		{"redirect", check(model.HTTPCheck{Path: "/moved", Status: []model.StatusRange{{First: 302, Last: 302}}}), to, 0, ""},
		{"early hints", check(model.HTTPCheck{Path: "/early", Body: "fine"}), to, 0, ""},
		{"beyond what is read", check(model.HTTPCheck{Path: "/large", Body: "end"}), to, 0, "the body does not match; it begins with \"" + strings.Repeat("x", 80) + "...\""},
		{"closed", check(model.HTTPCheck{}), closedPort(t), 0, "connection refused"},
	} {
		o.run(t)
	}
	outcome{"request", check(model.HTTPCheck{Method: "HEAD", Path: "/a%2Fb?c=d%20e", Host: "www.example.com:81"}), to, 0, ""}.run(t)
	if last.Method != "HEAD" || last.RequestURI != "/a%2Fb?c=d%20e" || last.Host != "www.example.com:81" ||
		last.UserAgent() != "fairlead-health" || !last.Close {
		t.Errorf("the server saw %+v", last)
	}
	outcome{"default host", check(model.HTTPCheck{}), to, 0, ""}.run(t)
	if last.Host != to.String() {
		t.Errorf("the server saw Host %q, want %s", last.Host, to)
	}
}

// TestHTTPHostile: servers that do anything but answer cost no more than the
// bounds of time and memory.
func TestHTTPHostile(t *testing.T) {
	read := func(conn net.Conn) { conn.Read(make([]byte, 4096)) } //nolint:errcheck // the request
	check := model.Check{Type: model.CheckHTTP, HTTP: model.HTTPCheck{Body: "never"}}
	trickle := func(head, more string) func(net.Conn) {
		return func(conn net.Conn) {
			read(conn)
			fmt.Fprint(conn, head)
			for {
				if _, err := fmt.Fprint(conn, more); err != nil {
					return
				}
			}
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, o := range []outcome{
		{"hangs", check, accept(t, func(conn net.Conn) { read(conn); read(conn) }), short, "no answer in time"},
		{"closes", check, accept(t, func(conn net.Conn) { read(conn) }), 0, "the server closed the connection before its answer was complete"},
		{"closes in its headers", check, accept(t, func(conn net.Conn) { read(conn); fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nA: b\r\n") }), 0,
			"the server closed the connection before its answer was complete"},
		{"endless headers", check, accept(t, trickle("HTTP/1.1 200 OK\r\n", "A: b\r\n")), 0, "the headers of the answer are longer than 65536 bytes"},
		{"endless header", check, accept(t, trickle("HTTP/1.1 200 OK\r\nA: ", strings.Repeat("b", 4096))), 0, "the headers of the answer are longer than 65536 bytes"},
		{"endless status", check, accept(t, trickle("HTTP/1.1 200 ", strings.Repeat("b", 4096))), 0, "the headers of the answer are longer than 65536 bytes"},
		{"endless hints", check, accept(t, trickle("", "HTTP/1.1 103 Early Hints\r\n\r\n")), 0, "there are more than 8 informational answers"},
		{"endless body", check, accept(t, trickle("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("b", 4096))), 0,
			"the body does not match; it begins with \"" + strings.Repeat("b", 80) + "...\""},
		{"endless chunks", check, accept(t, trickle("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nb\r\n")), 0,
			"the body does not match as far as it came: the server closed the connection before its answer was complete"},
		{"body that stops", check, accept(t, func(conn net.Conn) {
			read(conn)
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
			read(conn)
		}), short, "the body does not match as far as it came: no answer in time"},
		{"body of which enough comes", model.Check{Type: model.CheckHTTP, HTTP: model.HTTPCheck{Body: "^abc"}}, accept(t, func(conn net.Conn) {
			read(conn)
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
			read(conn)
		}), short, ""},
		{"not HTTP", check, accept(t, func(conn net.Conn) { read(conn); fmt.Fprint(conn, "220 mail.example.com ESMTP\r\n") }), 0,
			`malformed HTTP status code "mail.example.com"`},
		{"long and not HTTP", check, accept(t, func(conn net.Conn) { read(conn); fmt.Fprint(conn, strings.Repeat("x", 1000)+"\r\n") }), 0,
			`not HTTP: "malformed HTTP response \"` + strings.Repeat("x", 55) + `..."`},
	} {
		o.run(t)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("hostile servers had us allocate %d MB", n>>20)
	}
}

func TestTLS(t *testing.T) {
	var hello *tls.ClientHelloInfo
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { hello = h; return nil, nil }}
	s.StartTLS()
	defer s.Close()
	to := netip.MustParseAddrPort(s.Listener.Addr().String())
	ca := file(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
	empty := file(t, "empty.pem", []byte("nothing"), 0o600)
	check := func(kind model.CheckType, c model.TLSCheck) model.Check { return model.Check{Type: kind, TLS: c} }
	for _, o := range []outcome{
		{"handshake", check(model.CheckTLS, model.TLSCheck{}), to, 0, ""},
		{"verified by address", check(model.CheckTLS, model.TLSCheck{Verify: true, CAFile: ca}), to, 0, ""},
		{"verified by name", check(model.CheckTLS, model.TLSCheck{Verify: true, CAFile: ca, ServerName: "example.com"}), to, 0, ""},
		{"another name", check(model.CheckTLS, model.TLSCheck{Verify: true, CAFile: ca, ServerName: "example.net"}), to, 0,
			"TLS handshake: tls: failed to verify certificate: x509: certificate is valid for example.com, *.example.com, not example.net"},
		{"unknown authority", check(model.CheckTLS, model.TLSCheck{Verify: true}), to, 0, "the certificate is signed by an unknown authority"},
		{"no authorities", check(model.CheckTLS, model.TLSCheck{Verify: true, CAFile: empty}), to, 0, "ca_file: no certificate in PEM form in " + empty},
		{"no file", check(model.CheckTLS, model.TLSCheck{Verify: true, CAFile: "/nowhere.pem"}), to, 0, "ca_file: stat /nowhere.pem: no such file or directory"},
		{"https", model.Check{Type: model.CheckHTTPS, HTTP: model.HTTPCheck{Host: "example.com:444", Body: "^example.com:444$"}, TLS: model.TLSCheck{Verify: true, CAFile: ca}}, to, 0, ""},
		{"closed", check(model.CheckTLS, model.TLSCheck{}), closedPort(t), 0, "connection refused"},
		{"hangs", check(model.CheckTLS, model.TLSCheck{}), accept(t, func(conn net.Conn) { conn.Read(make([]byte, 4096)); conn.Read(make([]byte, 1)) }), short, "no TLS handshake in time"},                           //nolint:errcheck // until the end
		{"no TLS", check(model.CheckTLS, model.TLSCheck{}), accept(t, func(conn net.Conn) { fmt.Fprint(conn, "220 mail.example.com ESMTP\r\n"); conn.Read(make([]byte, 4096)) }), 0, "the server does not speak TLS"}, //nolint:errcheck // the hello
		{"closes", check(model.CheckTLS, model.TLSCheck{}), accept(t, func(conn net.Conn) { conn.Read(make([]byte, 4096)) }), 0, "the server closed the connection during the TLS handshake"},                         //nolint:errcheck // the hello
	} {
		o.run(t)
		if o.name == "https" && (hello == nil || hello.ServerName != "example.com" || len(hello.SupportedProtos) != 1) {
			t.Errorf("the server saw %+v", hello)
		}
	}
}

// TestAuthoritiesReadAgain: a file of authorities that changes is followed.
func TestAuthoritiesReadAgain(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	to := netip.MustParseAddrPort(s.Listener.Addr().String())
	ca := file(t, "ca.pem", []byte("nothing"), 0o600)
	ctx, tools := testTools(t)
	check := model.Check{Type: model.CheckTLS, TLS: model.TLSCheck{Verify: true, CAFile: ca}}
	p, err := prepare(check.WithDefaults()).probe(tools, model.BackendKey{Endpoint: to}, Way{Address: to})
	must(t, err)
	if p.try(ctx, time.Now().Add(long)) == nil {
		t.Fatal("it succeeds without authorities")
	}
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	must(t, p.try(ctx, time.Now().Add(long)))
	must(t, p.try(ctx, time.Now().Add(long)))
}

func TestGRPC(t *testing.T) {
	service := grpchealth.NewServer()
	service.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_NOT_SERVING)
	serve := func(options ...grpc.ServerOption) netip.AddrPort {
		s := grpc.NewServer(options...)
		healthpb.RegisterHealthServer(s, service)
		return serveGRPC(t, s)
	}
	plain, bare := serve(), serveGRPC(t, grpc.NewServer())
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	secure := serve(grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])))
	ca := file(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600)
	check := func(c model.GRPCCheck, s model.TLSCheck) model.Check {
		return model.Check{Type: model.CheckGRPC, GRPC: c, TLS: s}
	}
	read := func(conn net.Conn) { conn.Read(make([]byte, 4096)) } //nolint:errcheck // what it says
	for _, o := range []outcome{
		{"server", check(model.GRPCCheck{}, model.TLSCheck{}), plain, 0, ""},
		{"service", check(model.GRPCCheck{Service: "shop.Cart"}, model.TLSCheck{}), plain, 0, "the health service says NOT_SERVING"},
		{"unknown service", check(model.GRPCCheck{Service: "shop.Cash"}, model.TLSCheck{}), plain, 0, "the health service does not know the service"},
		{"no health service", check(model.GRPCCheck{}, model.TLSCheck{}), bare, 0, "the server has no health service"},
		{"TLS", check(model.GRPCCheck{UseTLS: true}, model.TLSCheck{}), secure, 0, ""},
		{"TLS verified", check(model.GRPCCheck{UseTLS: true}, model.TLSCheck{Verify: true, CAFile: ca, ServerName: "example.com"}), secure, 0, ""},
		{"TLS not verified", check(model.GRPCCheck{UseTLS: true}, model.TLSCheck{Verify: true, ServerName: "example.com"}), secure, 0,
			`TLS handshake: "tls: failed to verify certificate: x509: certificate signed by unknown authority"`},
		{"closed", check(model.GRPCCheck{}, model.TLSCheck{}), closedPort(t), 0, "connection refused"},
		{"hangs", check(model.GRPCCheck{}, model.TLSCheck{}), accept(t, func(conn net.Conn) { read(conn); read(conn); read(conn) }), short, "no answer in time"},
	} {
		o.run(t)
	}
	if err := try(t, check(model.GRPCCheck{}, model.TLSCheck{}), silentPort(t), short); err == nil || !strings.HasSuffix(err.Error(), " in time") {
		t.Errorf("never connects: %v", err)
	}
	for name, to := range map[string]netip.AddrPort{
		"closes at once": accept(t, func(net.Conn) {}),
		"no HTTP/2":      accept(t, func(conn net.Conn) { read(conn); fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n"); read(conn) }),
		"floods": accept(t, func(conn net.Conn) {
			for {
				if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}),
	} {
		err := try(t, check(model.GRPCCheck{}, model.TLSCheck{}), to, 2*time.Second)
		if err == nil || !strings.HasPrefix(err.Error(), "the server does not speak HTTP/2, or ended the connection: ") && err != errTimeout {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func serveGRPC(t *testing.T, s *grpc.Server) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func TestUDP(t *testing.T) {
	echo := answer(t, func(q []byte) [][]byte { return [][]byte{append([]byte("you said "), q...)} })
	mute := answer(t, func([]byte) [][]byte { return nil })
	flood := answer(t, func([]byte) [][]byte {
		return [][]byte{make([]byte, 60_000), make([]byte, 60_000), make([]byte, 60_000)}
	})
	check := func(send, expect string) model.Check {
		return model.Check{Type: model.CheckUDP, UDP: model.UDPCheck{Send: send, Expect: expect}}
	}
	for _, o := range []outcome{
		{"any answer", check("\xff\x00", ""), echo, 0, ""},
		{"the right one", check("a", "you said a"), echo, 0, ""},
		{"nothing is sent", check("", "you said "), echo, 0, ""},
		{"a wrong one", check("a", "you said b"), echo, 0, `the answer begins with "you said a"`},
		{"none", check("a", ""), mute, short, "no answer in time"},
		{"closed", check("a", ""), closedPort(t), 0, "connection refused"},
		{"flood", check("a", "a"), flood, 0, `the answer begins with "` + strings.Repeat(`\x00`, 80) + `..."`},
	} {
		o.run(t)
	}
}

func TestICMP(t *testing.T) {
	check := model.Check{Type: model.CheckICMP}
	for _, to := range []string{"127.0.0.1", "127.0.0.88", "::1"} {
		outcome{to, check, addrOnly(netip.MustParseAddr(to)), 0, ""}.run(t)
	}
	from := check
	from.Source = netip.MustParseAddr("127.0.0.5")
	outcome{"from an address", from, netip.MustParseAddrPort("127.0.0.6:0"), 0, ""}.run(t)
}

func TestDNS(t *testing.T) {
	reply := func(change func(m *dns.Msg)) func(q []byte) [][]byte {
		return func(q []byte) [][]byte {
			var query dns.Msg
			if query.Unpack(q) != nil {
				return nil
			}
			m := new(dns.Msg)
			m.SetReply(&query)
			if query.Question[0].Name == "gone.example." {
				m.Rcode = dns.RcodeNameError
			}
			change(m)
			data, _ := m.Pack() //nolint:errcheck // what cannot be packed is not sent
			return [][]byte{data}
		}
	}
	good := answer(t, reply(func(*dns.Msg) {}))
	truncated := answer(t, reply(func(m *dns.Msg) { m.Truncated = true }))
	stray := answer(t, reply(func(m *dns.Msg) { m.Id++ }))
	query := answer(t, func(q []byte) [][]byte { return [][]byte{q} })
	garbage := answer(t, func(q []byte) [][]byte { return [][]byte{append(q[:2:2], "garbage and more of it"...)} })
	check := func(d model.DNSCheck) model.Check { return model.Check{Type: model.CheckDNS, DNS: d} }
	for _, o := range []outcome{
		{"root", check(model.DNSCheck{}), good, 0, ""},
		{"name", check(model.DNSCheck{Name: "a.example", Type: "AAAA"}), good, 0, ""},
		{"no such name", check(model.DNSCheck{Name: "gone.example"}), good, 0, "the response code is NXDOMAIN"},
		{"no such name as expected", check(model.DNSCheck{Name: "gone.example", RCode: "NXDOMAIN"}), good, 0, ""},
		{"any answer", check(model.DNSCheck{Name: "gone.example", RCode: "ANY"}), good, 0, ""},
		{"truncated", check(model.DNSCheck{}), truncated, 0, ""},
		{"answers to others", check(model.DNSCheck{}), stray, short, "no answer in time"},
		{"the question itself", check(model.DNSCheck{}), query, short, "no answer in time"},
		{"garbage", check(model.DNSCheck{}), garbage, short, "no answer in time"},
		{"closed", check(model.DNSCheck{}), closedPort(t), 0, "connection refused"},
	} {
		o.run(t)
	}
}

func TestExec(t *testing.T) {
	script := func(text string) model.Check {
		return model.Check{Type: model.CheckExec, Exec: []string{file(t, "check", []byte("#!/bin/sh\n"+text+"\n"), 0o755), "one", "two words"}}
	}
	to := netip.MustParseAddrPort("127.0.0.1:5432")
	left := t.TempDir() + "/left"
	for _, o := range []outcome{
		{"success", script("exit 0"), to, 0, ""},
		{"failure", script("echo first; echo last words >&2; exit 3"), to, 0, `exit status 3: "last words"`},
		{"signal", script("kill -9 $$"), to, 0, "signal: killed"},
		{"surroundings", script(`test "$1/$2" = "one/two words" -a $FAIRLEAD_POOL = web -a $FAIRLEAD_BACKEND_ADDRESS = 127.0.0.1 -a $FAIRLEAD_BACKEND_PORT = 5432 -a -z "$HOME" -a $PWD = / && test -z "$(cat)"`), to, 0, ""},
		{"no capability", script(`grep -q "^CapEff:.0000000000000000$" /proc/self/status && grep -q "^NoNewPrivs:.1$" /proc/self/status`), to, 0, ""},
		{"flood", script("yes"), to, short, "the program did not end in time"},
		{"hangs with children", script("(sleep 60; echo x > " + left + ") & echo $! > " + left + ".pid; sleep 60"), to, 500 * time.Millisecond, "the program did not end in time"},
		{"leaves a child with its output", script("sleep 1 & exit 0"), to, 0, ""},
		{"there is none", model.Check{Type: model.CheckExec, Exec: []string{"/nowhere"}}, to, 0, "start: fork/exec /nowhere: no such file or directory"},
	} {
		o.run(t)
	}
	pid, err := os.ReadFile(left + ".pid")
	must(t, err)
	var child int
	fmt.Sscan(string(pid), &child)
	for deadline := time.Now().Add(long); syscall.Kill(child, 0) == nil && !zombie(child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a child of a program that was killed lives on")
		}
	}
}

// zombie reports whether a process is dead and not yet reaped.
func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}
