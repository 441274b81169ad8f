package health

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/controlplane/model"
)

// serveArgument has the test binary serve HTTP on a port of all its loopback
// addresses, until its standard input ends.
const serveArgument = "serve-http"

func serveForever() {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") })) //nolint:errcheck // it ends with the process
	bufio.NewReader(os.Stdin).ReadByte()                                                                        //nolint:errcheck // it is the end that counts
}

// BenchmarkTenThousand checks ten thousand backends, each at an address of its
// own, once a second for a while, and tells what that takes of a CPU in this
// process. The servers are another process; what the kernel does for both ends
// of a connection over loopback is counted here for the most part, for it is
// done on the way of the sender.
func BenchmarkTenThousand(b *testing.B) {
	for _, kind := range []model.CheckType{model.CheckTCP, model.CheckHTTP, model.CheckICMP} {
		b.Run(string(kind), func(b *testing.B) { benchmarkChecks(b, kind, 10_000) })
	}
	b.Run("tcp-all-silent", func(b *testing.B) { benchmarkSilent(b, 10_000) })
}

func startServers(b *testing.B) (port uint16) {
	b.Helper()
	cmd := exec.Command(os.Args[0], serveArgument)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait() //nolint:errcheck // it was told to end
	})
	if _, err := fmt.Fscan(out, &port); err != nil {
		b.Fatal(err)
	}
	return port
}

func benchmarkChecks(b *testing.B, kind model.CheckType, n int) {
	port := startServers(b)
	check := (&model.Check{Type: kind, Interval: time.Second, Timeout: time.Second}).WithDefaults()
	run(b, check, n, func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), port)
	}, Up)
}

// benchmarkSilent asks where nobody answers, so that every check takes its whole
// timeout.
func benchmarkSilent(b *testing.B, n int) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	if err := control(raw, func(fd int) error { return unix.Listen(fd, 0) }); err != nil {
		b.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	for range 4 { // fills its queue
		if conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), 200*time.Millisecond); err == nil {
			defer conn.Close()
		}
	}
	check := (&model.Check{Type: model.CheckTCP, Interval: time.Second, Timeout: 500 * time.Millisecond, Fall: 2}).WithDefaults()
	run(b, check, n, func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), port)
	}, Down)
}

func run(b *testing.B, check *model.Check, n int, at func(i int) netip.AddrPort, want State) {
	b.Helper()
	c, err := New(Config{Report: func([]Verdict) {}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	targets := make([]Target, n)
	for i := range targets {
		targets[i] = target("web", check, at(i))
	}
	begin := time.Now()
	if _, err := c.Set(targets); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(begin).Seconds()*1e3, "ms/Set")
	for {
		judged := 0
		for _, r := range c.Results() {
			if r.State == want {
				judged++
			}
		}
		if judged == n {
			break
		}
		time.Sleep(500 * time.Millisecond) // looking costs more than checking
		if time.Since(begin) > time.Minute {
			b.Logf("%d of %d are %s: the machine is too busy", judged, n, want)
			break
		}
	}
	b.ReportMetric(time.Since(begin).Seconds()*1e3, "ms/judged")
	const window = 10 * time.Second
	before, cpu := c.Stats(), cpuTime(b)
	time.Sleep(window) // the window that is measured
	after := c.Stats()
	b.ReportMetric((cpuTime(b)-cpu).Seconds()/window.Seconds(), "CPUs")
	b.ReportMetric(float64(after.Checks-before.Checks)/window.Seconds(), "checks/s")
	b.ReportMetric(float64(after.Failures-before.Failures)/window.Seconds(), "failures/s")
	b.ReportMetric(float64(after.Late-before.Late)/window.Seconds(), "late/s")
	b.ReportMetric(resident(b), "MiB-resident")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what this process has used of its CPUs.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resident(b *testing.B) float64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
