package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"fairlead/controlplane/api"
	"fairlead/dataplane/explain"
)

// fixedNode is a node that always says the same, but for counters when it
// counts. What it does not say it has never been asked.
type fixedNode struct {
	api.Provider
	health   api.Health
	counting atomic.Uint64 // packets in a reading, 0: it stands still
	reads    atomic.Uint64
}

func (f *fixedNode) count() uint64 {
	if step := f.counting.Load(); step > 0 {
		return 1000 + f.reads.Load()*step
	}
	return 1000
}

func (f *fixedNode) Summary(context.Context) (api.Summary, error) {
	f.reads.Add(1)
	health := f.health
	if health == "" {
		health = api.HealthDegraded
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return api.Summary{
		Node: "lb1", Version: "v1.2.3", UptimeMS: 3_723_000, Health: health,
		Conditions: []api.Condition{{Health: api.HealthDegraded, Subject: "interface eth1", Message: "it is not there"}},
		Desired:    api.Desired{Version: 4, Time: &when, Source: "file"},
		Generation: api.Generation{Published: 3, Acknowledged: 3}, Data: api.DataProcess{PID: 17, UID: 65534, Workers: 1},
		Interfaces: []api.Interface{{Name: "no-such-if0", Index: 2, MAC: "02:00:00:00:00:01", MTU: 1500, Queues: 1}},
		Counts:     api.Counts{Services: 2, Pools: 2, Backends: 3, Up: 2, Down: 1},
		Ledger:     api.Ledger{Received: f.count(), Transmitted: f.count() - 10, Dropped: 10, Reasons: map[string]uint64{"forward_new": 20, "forward_flow": f.count() - 30, "no_service": 10}},
		Workers:    []api.Worker{{Received: f.count(), Transmitted: f.count() - 10, Dropped: 10}},
		Steering:   map[string]uint64{"redirected": f.count(), "passed": 7}, Sockets: map[string]uint64{"rx_dropped": 0},
	}, nil
}

func (f *fixedNode) all() []api.Service {
	active := uint64(12)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []api.Service{
		{Name: "dns", VIP: "2001:db8::53", Protocol: "udp", Ports: "53", Method: "gue", Pool: "resolvers", Table: "0000000000000001", Up: 0, Total: 1, Backends: []api.Backend{
			{Name: "r1", Address: "2001:db8:10::1", Weight: 1, State: "down", Health: &api.BackendHealth{State: "down", Since: since, Type: "dns", Error: "i/o timeout", Last: since, Checks: 5, Failures: 3}},
		}},
		{Name: "web", VIP: "198.18.0.10", Protocol: "tcp", Ports: "80", Method: "nat", Pool: "web", Table: "00112233aabbccdd", Up: 2, Total: 2, Active: &active,
			Flows: 20, Packets: f.count(), Bytes: 60 * f.count(), Drops: 10, Backends: []api.Backend{
				{Name: "web1", Address: "198.18.10.101", Port: 8080, Weight: 1, State: "up", Expected: 0.25, Flows: 5, Packets: 250, Bytes: 15_000,
					Health: &api.BackendHealth{State: "up", Since: since, Type: "http", LatencyUS: 1_250, Last: since, Checks: 9, Nodes: []api.NodeHealth{
						{Node: "lb1", State: "up", Since: since}, {Node: "lb2", State: "down", Since: since, Error: "no connection in time", Ignored: "the node is suspected"}, {Node: "lb3", State: "unknown"}}}},
				{Name: "web2", Address: "198.18.10.102", Port: 8080, Weight: 3, State: "up", Expected: 0.75, Flows: 15, Packets: f.count() - 250, Bytes: 60*f.count() - 15_000, Active: &active},
			}},
	}
}

func (f *fixedNode) Services(_ context.Context, q api.ServiceQuery) (api.ServicePage, error) {
	page := api.ServicePage{Services: f.all()}
	page.Services = slices.DeleteFunc(page.Services, func(s api.Service) bool {
		return q.Pool != "" && s.Pool != q.Pool || q.Protocol != "" && s.Protocol != q.Protocol || q.After != "" && s.Name < q.After
	})
	if q.After == "" && len(page.Services) > 1 { // every list has two pages
		page.Next, page.Services = page.Services[1].Name, page.Services[:1]
	}
	if !q.Backends {
		for i := range page.Services {
			page.Services[i].Backends = nil
		}
	}
	return page, nil
}

func (f *fixedNode) Service(_ context.Context, name string) (api.Service, error) {
	for _, s := range f.all() {
		if s.Name == name {
			return s, nil
		}
	}
	return api.Service{}, api.Errorf(api.NotFound, "there is no service %q", name)
}

func (f *fixedNode) Backends(_ context.Context, q api.BackendQuery) (page api.BackendPage, err error) {
	for _, s := range f.all() {
		for _, b := range s.Backends {
			if (q.Pool == "" || q.Pool == s.Pool) && (q.State == "" || q.State == b.State) {
				page.Backends = append(page.Backends, api.PoolBackend{Pool: s.Pool, Services: 1, Backend: b})
			}
		}
	}
	return page, nil
}

func (f *fixedNode) Explain(_ context.Context, q api.ExplainQuery) (api.Explanation, error) {
	e := api.Explanation{Flow: &api.Flow{Protocol: q.Protocol, Client: q.Client.String(), VIP: q.Destination.String(), Service: "web", Backend: "web2", Address: "198.18.10.102:8080", State: "established", IdleMS: 1500}}
	e.Client, e.Protocol, e.Destination, e.Generation, e.Action, e.Reason = q.Client.String(), q.Protocol, q.Destination.String(), 3, "drop", "service_empty"
	e.Address = &explain.Address{Kind: "vip", AnswersARP: true}
	e.Service = &explain.Service{Name: "web", Ports: "80", Method: "nat", Pool: "web", Backends: 2}
	e.Source = &explain.Source{Allowed: true}
	e.Hash = &explain.Hash{Of: "5-tuple", Value: "0011223344556677"}
	return e, nil
}

func (f *fixedNode) RecentLog() []string {
	return []string{"level=INFO msg=\"fairlead runs\"\n", "level=DEBUG msg=x api_token=log-secret-1 more\n"}
}

func (f *fixedNode) Profile(context.Context, time.Duration) ([]byte, error) {
	return nil, errors.New("there is no data process")
}

// serveNode serves a node on a socket until the test ends.
func serveNode(t *testing.T, node api.Provider) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(ctx, api.Config{Socket: socket, Version: "v1.2.3"}, node) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := api.NewClient(socket).Summary(t.Context())
		if err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestYAMLIsJSON asserts that both formats have one shape.
func TestYAMLIsJSON(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	for _, command := range []string{"status", "services", "services web", "backends", "version"} {
		var values [2]any
		for i, format := range []string{"json", "yaml"} {
			args := append(words(command), "-o", format)
			if command != "version" {
				args = append(args, "--socket", socket)
			}
			r := fairlead(t, t.TempDir(), args...)
			if r.code != 0 {
				t.Fatalf("%v: exit status %d: %s", args, r.code, r.stderr)
			}
			// Through one decoder, so that numbers are of one type; JSON is YAML.
			if err := yaml.Unmarshal([]byte(r.stdout), &values[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(values[0], values[1]) {
			t.Errorf("%s: JSON %v\nYAML %v", command, values[0], values[1])
		}
	}
}

// TestExitStatus asserts what the program ends with for each kind of failure,
// and what it says.
func TestExitStatus(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	failing := serveNode(t, &fixedNode{health: api.HealthFailing})
	dir := t.TempDir()
	nobody := filepath.Join(dir, "absent.sock")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"version", 0, ""},
		{"status --socket " + socket, 0, ""},
		{"status --no-headers -o json --socket " + socket, 0, ""},
		{"status --socket " + failing, 1, ""},
		{"services absent --socket " + socket, 1, `there is no service "absent"`},
		{"profile --socket " + socket, 1, "there is no data process"},
		{"k8s status --socket " + socket, 0, ""},
		{"k8s status --socket " + failing, 1, ""},
		{"k8s services web --socket " + socket, 2, `"web" is not NAMESPACE/NAME`},
		{"nonsense", 2, `unknown command "nonsense" for "fairlead"`},
		{"status extra", 2, `unknown command "extra" for "fairlead status"`},
		{"services a b", 2, "accepts at most 1 arg(s), received 2"},
		{"status --nonsense", 2, "unknown flag: --nonsense"},
		{"status -o xml", 2, `invalid argument "xml" for "-o, --output" flag: it is table, wide, json or yaml`},
		{"services web --pool web", 2, "a service is shown by its name alone"},
		{"services --vip x --socket " + socket, 1, `parameter "vip": "x" is not an IP address`},
		{"profile --seconds 0", 2, "--seconds is to be 1 to 60"},
		{"top --by nothing", 2, `--by is service, backend or reason, not "nothing"`},
		{"top --interval 1ms", 2, "--interval is 100ms to 1h, not 1ms"},
		{"top --iterations -1", 2, "--iterations and --limit are not negative"},
		{"top -o yaml", 2, "-o yaml is for --iterations 1"},
		{"version --short -o json", 2, "--short is a line of its own; leave it out with -o json"},
		{"status --cert x", 2, "--cert, --key and --ca are for --server"},
		{"status --server https://127.0.0.1:1 --cert x", 2, "--server needs --cert, --key and --ca"},
		{"status --server https://127.0.0.1:1 --cert x --key y --ca z", 2, "x, y: open x: no such file or directory"},
		{"status --socket " + nobody, 3, "ask the node at " + nobody + " (does `fairlead run` run, and may you use its socket?): dial unix " + nobody + ": connect: no such file or directory"},
		{"top --socket " + nobody, 3, "ask the node at " + nobody + " (does `fairlead run` run, and may you use its socket?): dial unix " + nobody + ": connect: no such file or directory"},
		{"explain 203.0.113.9:1 tcp 198.18.0.10:80 --socket " + nobody, 3, "ask the node at " + nobody + " (does `fairlead run` run, and may you use its socket?): dial unix " + nobody + ": connect: no such file or directory"},
	} {
		r := fairlead(t, dir, words(c.args)...)
		said := strings.SplitN(strings.TrimPrefix(r.stderr, "fairlead: "), "\n", 2)[0]
		if r.code != c.code || said != c.want {
			t.Errorf("%s: exit status %d, %q, want %d, %q", c.args, r.code, r.stderr, c.code, c.want)
		}
	}
}

// TestForbidden asserts the exit status of what a node does not let its caller.
func TestForbidden(t *testing.T) {
	refuse := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"error":{"code":"forbidden","message":"bob may not use this node"}}`)
	})}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- refuse.Serve(l) }()
	defer func() { refuse.Close(); <-ended }()
	r := fairlead(t, t.TempDir(), "status", "--socket", socket)
	if r.code != 4 || r.stderr != "fairlead: bob may not use this node\n" {
		t.Errorf("exit status %d, %q", r.code, r.stderr)
	}
}

// TestTop asserts that rates are those of the time between two readings, by
// service, backend and reason, and that it ends by itself.
func TestTop(t *testing.T) {
	node := &fixedNode{}
	node.counting.Store(1_000_000)
	socket := serveNode(t, node)
	for _, by := range []string{"service", "backend", "reason"} {
		r := fairlead(t, t.TempDir(), "top", "--socket", socket, "--by", by, "--interval", "100ms", "--iterations", "2", "--limit", "1", "-o", "json")
		if r.code != 0 || strings.Count(r.stdout, "\n") != 2 {
			t.Fatalf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
		}
		for line := range strings.Lines(r.stdout) {
			var v struct {
				Seconds, ReceivedPerSecond float64
				By                         string
				Rows                       []struct {
					Name                             string
					PacketsPerSecond, BytesPerSecond float64
				}
			}
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			name := map[string]string{"service": "web", "backend": "web web2", "reason": "forward_flow"}[by]
			if len(v.Rows) != 1 || v.Rows[0].Name != name || v.By != by {
				t.Fatalf("%s", line)
			}
			// The counters have grown by 1,000,000 between the readings.
			for what, rate := range map[string]float64{"received": v.ReceivedPerSecond, "packets": v.Rows[0].PacketsPerSecond} {
				if grown := rate * v.Seconds; grown < 999_999 || grown > 1_000_001 {
					t.Errorf("%s, %s: grown by %.0f in %.3f s", by, what, grown, v.Seconds)
				}
			}
		}
	}
	r := fairlead(t, t.TempDir(), "top", "--socket", socket, "--interval", "100ms", "--iterations", "1")
	if want := regexp.MustCompile(`^\d\d:\d\d:\d\d  node lb1 degraded, received \S+M/s, transmitted \S+M/s, dropped 0/s\nSERVICE  PACKETS/S +RATE  FLOWS/S  DROPS/S\nweb +\S+M +\S+ \S+bit/s +0 +0\ndns +0 +0 bit/s +0 +0\n$`); r.code != 0 || !want.MatchString(r.stdout) {
		t.Errorf("exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// TestCompletion asserts that shells are given commands, and names that the
// node knows.
func TestCompletion(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	for _, c := range []struct{ args, want string }{
		{"__complete serv", "services\t"},
		{"__complete services --socket " + socket + " w", "web\n"},
		{"__complete services --socket " + socket + " --pool r", "resolvers\n"},
		{"__complete backends --socket " + socket + " --service d", "dns\n"},
		{"__complete backends --state unr", "unresolved\n"},
		{"__complete status -o y", "table\n"},
	} {
		r := fairlead(t, t.TempDir(), words(c.args)...)
		if r.code != 0 || !strings.HasPrefix(r.stdout, c.want) {
			t.Errorf("%s: exit status %d\n%s", c.args, r.code, r.stdout)
		}
	}
	r := fairlead(t, t.TempDir(), "__complete", "services", "--socket", filepath.Join(t.TempDir(), "absent"), "")
	if r.code != 0 || r.stdout != ":4\n" {
		t.Errorf("without a node: exit status %d\n%s", r.code, r.stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := fairlead(t, t.TempDir(), "completion", shell); r.code != 0 || !strings.Contains(r.stdout, "fairlead") {
			t.Errorf("%s: exit status %d", shell, r.code)
		}
	}
}

// TestSocketOfTheEnvironment asserts that FAIRLEAD_SOCKET is the default, and
// that a flag stands before it.
func TestSocketOfTheEnvironment(t *testing.T) {
	t.Setenv("FAIRLEAD_SOCKET", serveNode(t, &fixedNode{}))
	if r := fairlead(t, t.TempDir(), "status"); r.code != 0 {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
	if r := fairlead(t, t.TempDir(), "status", "--socket", "/absent"); r.code != 3 {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
}

// TestConfigurationOfTheEnvironment asserts that FAIRLEAD_CONFIG is the default, and
// that a flag stands before it.
func TestConfigurationOfTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FAIRLEAD_CONFIG", filepath.Join(dir, "environment.toml"))
	for _, c := range []struct {
		name string
		args []string
	}{{"environment.toml", nil}, {"flag.toml", []string{"--config", filepath.Join(dir, "flag.toml")}}} {
		r := fairlead(t, dir, append([]string{"check"}, c.args...)...)
		if want := "fairlead: read configuration: open " + filepath.Join(dir, c.name) + ": no such file or directory\n"; r.code != 1 || r.stderr != want {
			t.Errorf("exit status %d: %q, want %q", r.code, r.stderr, want)
		}
	}
}

// TestReferenceOfCommands asserts that docs/cli.md is made of the commands as
// they are, and that it has every exit status.
func TestReferenceOfCommands(t *testing.T) {
	r := fairlead(t, t.TempDir(), "reference")
	have, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if r.code != 0 || r.stdout != string(have) {
		t.Error("docs/cli.md is not what the commands say; `make cli` makes it anew")
	}
	dir := filepath.Join(t.TempDir(), "man8")
	if r := fairlead(t, t.TempDir(), "man", dir); r.code != 0 {
		t.Fatalf("exit status %d: %s", r.code, r.stderr)
	}
	page, err := os.ReadFile(filepath.Join(dir, "fairlead-status.8"))
	if err != nil || !bytes.Contains(page, []byte("fairlead status [flags]")) {
		t.Errorf("%v\n%s", err, page)
	}
}

// TestBugreport asserts that a report has what the node tells, that nothing
// secret is in any of its files, that it is readable by its owner alone, and
// that it replaces nothing.
func TestBugreport(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	dir := t.TempDir()
	config := "[node]\nhash_seed = \"config-secret-1\"\n"
	write(t, dir, "f.toml", []byte(config))
	r := fairlead(t, dir, "bugreport", "--socket", socket, "--config", "f.toml", "-f", "out.tar.gz", "-o", "json")
	if r.code != 0 {
		t.Fatalf("exit status %d: %s", r.code, r.stderr)
	}
	var listed struct {
		File  string
		Items []struct {
			Name  string
			Bytes int
			Note  string
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &listed); err != nil || listed.File != "out.tar.gz" {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if info, err := os.Stat(filepath.Join(dir, "out.tar.gz")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	files := untar(t, read(t, dir, "out.tar.gz"))
	for _, i := range listed.Items {
		if got, there := files[i.Name]; i.Bytes > 0 && (!there || len(got) != i.Bytes) {
			t.Errorf("%s is listed with %d bytes and has %d", i.Name, i.Bytes, len(got))
		}
	}
	for name, want := range map[string]string{
		"contents.json": "node/status.json", "version.json": `"version"`, "node/status.json": `"lb1"`, "node/services.json": `"web"`, "node/backends.json": `"web2"`,
		"node/debug-log.txt": "fairlead runs", "node/debug-goroutines.txt": "goroutine ", "node/openapi.json": "/v1/services", "doctor.json": `"findings"`,
		"machine/proc/version": "Linux", "machine/settings.txt": "net.ipv4.ip_forward = ",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not have %q:\n%.300s", name, want, files[name])
		}
	}
	for name, text := range files {
		for _, secret := range []string{"log-secret-1", "config-secret-1"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s", name, secret)
			}
		}
	}
	if r := fairlead(t, dir, "bugreport", "--socket", socket, "-f", "f.toml"); r.code != 1 || string(read(t, dir, "f.toml")) != config {
		t.Errorf("over a file that is there: exit status %d: %s", r.code, r.stderr)
	}
	// Without a node there is still the machine.
	if r := fairlead(t, dir, "bugreport", "--socket", filepath.Join(dir, "absent"), "-f", "machine.tar.gz"); r.code != 0 {
		t.Errorf("without a node: exit status %d: %s", r.code, r.stderr)
	} else if files := untar(t, read(t, dir, "machine.tar.gz")); !strings.Contains(files["contents.json"], "does `fairlead run` run") {
		t.Errorf("without a node:\n%s", files["contents.json"])
	}
}

// untar reads an archive, whose files are all in one folder.
func untar(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		folder, name, _ := strings.Cut(h.Name, "/")
		if !strings.HasPrefix(folder, "fairlead-bugreport-") {
			t.Errorf("%s is outside of the folder", h.Name)
		}
		files[name] = string(text)
	}
}
