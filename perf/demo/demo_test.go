package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/perf/rig"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// transcript is what a demo has written so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// bounded is a context that ends long before the test binary would be killed.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// nothingLeft fails when something that the output names is still there, or a
// goroutine.
func nothingLeft(t *testing.T, output string) {
	t.Helper()
	paths := regexp.MustCompile(`(/\S*/fairlead-demo-[0-9]+)/`).FindAllStringSubmatch(output, -1)
	for _, m := range regexp.MustCompile(`fl-[0-9]+-[0-9]+-[a-z0-9]+`).FindAllString(output, -1) {
		paths = append(paths, []string{"", filepath.Join("/run/netns", m)})
	}
	if len(paths) == 0 {
		t.Error("the output names no files and no namespaces")
	}
	for _, p := range paths {
		if _, err := os.Lstat(p[1]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", p[1], err)
		}
	}
	goleak.VerifyNone(t)
}

// TestDemo runs the demo as `make demo` does, and reads what it writes.
func TestDemo(t *testing.T) {
	var out transcript
	if err := Run(bounded(t), Options{Out: &out, Binary: binary, Connections: 300}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text := out.String()
	t.Log(text)
	nothingLeft(t, text)
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > lineWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	checkTable(t, text)
	checkLedger(t, text)
	checkShownConfiguration(t, text)
	const last = "24 services, no errors, all shares as expected, every frame accounted for: "
	if lines := strings.Split(strings.TrimSpace(text), "\n"); !strings.HasPrefix(lines[len(lines)-1], last) {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
	if strings.Contains(text, "WRONG") {
		t.Error("something was wrong, and the demo succeeded")
	}
}

// checkTable finds a row for each method, families and protocol, whose numbers
// add up.
func checkTable(t *testing.T, text string) {
	t.Helper()
	row := regexp.MustCompile(`(?m)^(nat|ipip|gue|l2) +(IPv[46]|[46]in[46]) +(http|udp) +(\S+) +300 +` +
		`([0-9]+) [0-9.]+/25\.[0-9] +([0-9]+) [0-9.]+/25\.[0-9] +([0-9]+) [0-9.]+/(?:50\.[0-9]|49\.[0-9]) +0$`)
	seen := make(map[string]bool)
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		seen[strings.Join(m[1:4], " ")] = true
		total := 0
		for _, count := range m[5:8] {
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
		if total != 300 {
			t.Errorf("%d connections in all: %s", total, m[0])
		}
	}
	for _, way := range []string{
		"nat IPv4", "nat IPv6", "l2 IPv4", "l2 IPv6",
		"ipip 4in4", "ipip 6in6", "ipip 4in6", "ipip 6in4",
		"gue 4in4", "gue 6in6", "gue 4in6", "gue 6in4",
	} {
		for _, kind := range []string{"http", "udp"} {
			if !seen[way+" "+kind] {
				t.Errorf("no good row for %s %s", way, kind)
			}
		}
	}
	if len(seen) != 24 {
		t.Errorf("rows for %d services, want 24", len(seen))
	}
}

// checkLedger adds up the ledger's line.
func checkLedger(t *testing.T, text string) {
	t.Helper()
	m := regexp.MustCompile(`received (\d+) \+ created (\d+) = transmitted (\d+) \+ passed (\d+) \+ dropped (\d+) \+ in flight (\d+)\n`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("no ledger")
	}
	var n [6]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(m[1+i]); err != nil {
			t.Fatal(err)
		}
	}
	if n[0]+n[1] != n[2]+n[3]+n[4]+n[5] {
		t.Errorf("does not add up: %s", m[0])
	}
	if n[0] < 24*300 {
		t.Errorf("%d frames received for %d connections", n[0], 24*300)
	}
	for _, reason := range []string{"forward_new", "forward_flow", "reply_flow", "too_big_reply"} {
		if !strings.Contains(text, " "+reason+" ") {
			t.Errorf("no frame ended in %s", reason)
		}
	}
}

// checkShownConfiguration loads what is shown as the configuration.
func checkShownConfiguration(t *testing.T, text string) {
	t.Helper()
	_, rest, found := strings.Cut(text, "The configuration, with 4 of its 24 services:\n\n")
	if !found {
		t.Fatal("no configuration is shown")
	}
	shown, _, _ := strings.Cut(rest, "\nEach service: ")
	cfg, err := configs.Parse("shown", []byte(strings.ReplaceAll(shown, "\n    ", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	methods := make(map[string]bool)
	for _, s := range cfg.State.Services {
		methods[string(s.Method)] = true
	}
	if len(cfg.State.Services) != 4 || len(methods) != 4 {
		t.Errorf("%d services with %d methods are shown", len(cfg.State.Services), len(methods))
	}
}

// TestHold asks what is left running, in the ways that the demo suggests.
func TestHold(t *testing.T) {
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	var out transcript
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: &out, Binary: binary, Hold: true, Connections: 40}) }()
	for !strings.Contains(out.String(), "Ctrl-C ends everything and cleans up.\n") {
		select {
		case err := <-ended:
			t.Fatalf("%v\n%s", err, &out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	text := out.String()
	hint := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("nothing like %s in:\n%s", pattern, text)
		}
		return m[1]
	}
	namespace := hint(`ip netns exec (\S+-client) curl`)
	for _, url := range []string{hint(`curl (http://198\S+)`), hint(`curl (http://\[\S+)`), "http://198.18.100.11/"} {
		if body, err := get(namespace, url); err != nil || !regexp.MustCompile(`^b[123] \S+\n$`).MatchString(body) {
			t.Errorf("%s in %s: %q, %v", url, namespace, body, err)
		}
	}
	status, err := api.NewClient(hint(`--socket (\S+\.sock)\n`)).Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if status.Node != "lb" || len(status.Services) != 24 {
		t.Errorf("node %q with %d services", status.Node, len(status.Services))
	}
	cfg, err := configs.Load(hint(`the configuration +(\S+)\n`))
	if err != nil {
		t.Error(err)
	} else if len(cfg.State.Services) != 24 {
		t.Errorf("%d services in the file", len(cfg.State.Services))
	}
	if log, err := os.ReadFile(hint(`tail -f (\S+)\n`)); err != nil || !bytes.Contains(log, []byte("fairlead runs")) {
		t.Errorf("the log: %q, %v", log, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.HasSuffix(text, "\nCleaning up.\n") {
		t.Errorf("it ends with %q", text[len(text)-100:])
	}
	nothingLeft(t, text)
}

// get asks for a page from within a namespace.
func get(namespace, url string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialIn(ctx, namespace, network, address)
		},
	}}
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

func dialIn(ctx context.Context, namespace, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer before.Close()
	there, err := netns.GetFromName(namespace)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if restore := netns.Set(before); restore != nil {
		return nil, errors.Join(err, restore) // the thread stays locked
	}
	runtime.UnlockOSThread()
	return conn, err
}

// TestInterrupted ends the demo before it has begun.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out transcript
	if err := Run(ctx, Options{Out: &out, Binary: binary, Connections: 10}); !errors.Is(err, errInterrupted) || err.Error() != "interrupted" {
		t.Errorf("%v", err)
	}
	goleak.VerifyNone(t)
}

// TestDoesNotStart has a program that ends at once in place of Fairlead.
func TestDoesNotStart(t *testing.T) {
	var out transcript
	err := Run(bounded(t), Options{Out: &out, Binary: "/bin/false", Connections: 10})
	if err == nil || !strings.Contains(err.Error(), `ended (exit status 1) without writing "backend is ready"`) {
		t.Errorf("%v", err)
	}
	if out.String() != "\n" {
		t.Errorf("it wrote %q", out.String())
	}
	goleak.VerifyNone(t)
}

// TestWrong sends a third of the connections where nothing listens: the demo
// tells of errors, and fails.
func TestWrong(t *testing.T) {
	ctx := bounded(t)
	w, err := build(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	}()
	b3 := fmt.Sprintf("%s:%d", w.topo.Backends[2].IPv4, natHTTPPort)
	right := configuration(w.topo, w.services)
	if strings.Count(right, b3) != 1 {
		t.Fatalf("%s is not once in:\n%s", b3, right)
	}
	if err := w.node.Reload(ctx, strings.ReplaceAll(right, b3, b3[:len(b3)-1]+"1")); err != nil {
		t.Fatal(err)
	}
	w.services = w.services[:2]
	var out transcript
	err = w.run(ctx, Options{Out: &out, Binary: binary, Connections: 200}, time.Now())
	text := out.String()
	if err == nil || err.Error() != "problems, marked WRONG above: 1" {
		t.Errorf("%v\n%s", err, text)
	}
	for _, pattern := range []string{
		`(?m)^nat +IPv4 +http 198.18.100.1:80 +200 +\d+ \S+/25.0 +\d+ \S+/25.0 +0 0.0/50.0 +[1-9][0-9]+$`,
		`(?m)^  WRONG: \d+ of 200 requests failed, for example: .*connection refused`,
		`(?m)^nat +IPv4 +udp  198.18.100.1:53 .* 0$`,
		`(?m)^The load balancer's log:$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("nothing like %s in:\n%s", pattern, text)
		}
	}
	if strings.Contains(text, "no errors") {
		t.Error("it says that there were no errors")
	}
}
