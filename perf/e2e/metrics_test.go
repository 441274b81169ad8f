package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"fairlead/controlplane/api"
)

var saveScrape = flag.String("save-scrape", "", "write the scrape of TestMetrics to this file")

// metricsAddress is where nodes of these tests serve metrics, each in a
// namespace of its own.
const metricsAddress = "127.0.0.1:9480"

const metricsOptions = "[metrics]\nlisten = \"" + metricsAddress + "\"\n"

// scrape asks the node for its metrics over TCP.
func (w *world) scrape() (text string, families map[string]*dto.MetricFamily) {
	w.t.Helper()
	text = w.get(metricsAddress, "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	w.must(err)
	return text, families
}

// get asks a server on the load balancer's host.
func (w *world) get(address, path string) string {
	w.t.Helper()
	text, err := w.tryGet(address, path)
	w.must(err)
	return text
}

func (w *world) tryGet(address, path string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.topo.LB.Dial(ctx, "tcp", address)
	}}
	r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: %s: %s", address, path, answer.Status, body)
	}
	return string(body), err
}

// value is the value of the one series of a metric that has these labels, given
// as name and value in turn, and maybe others.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (float64, error) {
	var found []float64
	for _, m := range families[name].GetMetric() {
		have := map[string]string{}
		for _, l := range m.Label {
			have[l.GetName()] = l.GetValue()
		}
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && have[labels[i]] == labels[i+1]
		}
		if match {
			found = append(found, m.GetCounter().GetValue()+m.GetGauge().GetValue()+m.GetUntyped().GetValue())
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%s %v has %d series", name, labels, len(found))
	}
	return found[0], nil
}

// TestMetrics compares a scrape with what the status says after traffic of all
// kinds: frame by frame, service by service, backend by backend. promtool finds
// nothing to complain of, and docs/metrics.md has each metric and no other.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{})
	// A router that does not answer, so that there is something to say of it.
	w.config.Options = metricsOptions + fmt.Sprintf("[bgp]\nasn = 65001\nrouter_id = %q\n[[bgp.peer]]\naddress = %q\nasn = 65002\n[bgp.peer.bfd]\nenabled = true\n", w.topo.Front.IPv4, w.topo.Client.IPv4)
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(nat6)}
	sites[0].health = checkOf("tcp", fmt.Sprintf("port = %d", natOffset+webPort))
	w.serve()
	w.start()
	w.untilHealth(sites[0].service(webPort), map[string]string{"b1": "up", "b2": "up", "b3": "up"})
	for _, s := range sites {
		w.http(s, 40)
		w.udp(s, 10, 3)
	}
	status := w.balance()
	w.untilScrape("beats of the worker are seen, and flows counted", func(f map[string]*dto.MetricFamily) bool {
		return f["fairlead_worker_beat_age_seconds"] != nil && f["fairlead_flow_table_flows"] != nil && f["fairlead_bgp_vip_announced"] != nil
	})
	text, families := w.scrape()
	w.compareScrape(status, families)
	if *saveScrape != "" {
		w.must(os.WriteFile(*saveScrape, []byte(text), 0o644))
	}

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	compareDocument(t, text, families)

	// A successor of the data process goes on counting, and is counted.
	w.must(w.node.KillData(w.ctx))
	w.http(sites[0], 20)
	status = w.balance("restart_lost")
	_, families = w.scrape()
	w.compareScrape(status, families)
	if n, err := value(families, "fairlead_data_process_restarts_total"); err != nil || n != 1 {
		t.Errorf("restarts %v, %v", n, err)
	}
	w.must(w.node.Stop())
}

// compareScrape demands that a scrape says what the status says. Both are of a
// node without traffic.
func (w *world) compareScrape(s *api.Status, families map[string]*dto.MetricFamily) {
	w.t.Helper()
	want := func(number float64, name string, labels ...string) {
		w.t.Helper()
		if got, err := value(families, name, labels...); err != nil {
			w.t.Error(err)
		} else if got != number {
			w.t.Errorf("%s %v is %v, the status says %v", name, labels, got, number)
		}
	}
	l := &s.Ledger
	want(float64(l.Received), "fairlead_frames_received_total")
	want(float64(l.Created), "fairlead_frames_created_total")
	want(float64(l.InFlight), "fairlead_frames_in_flight")
	want(0, "fairlead_ledger_difference_frames")
	var ended float64
	for _, m := range families["fairlead_frames_ended_total"].GetMetric() {
		ended += m.GetCounter().GetValue()
	}
	if ended != float64(l.Received+l.Created) {
		w.t.Errorf("%v frames have ended, of %d received and %d created", ended, l.Received, l.Created)
	}
	for _, r := range slices.Sorted(maps.Keys(l.Reasons)) {
		want(float64(l.Reasons[r]), "fairlead_frames_ended_total", "reason", r)
	}
	want(float64(s.Generation.Published), "fairlead_generation_published")
	want(float64(s.Generation.Acknowledged), "fairlead_generation_acknowledged")
	for i, one := range s.Workers {
		want(float64(one.Received), "fairlead_worker_frames_total", "worker", strconv.Itoa(i), "event", "received")
	}
	for _, v := range s.Services {
		want(float64(v.Packets), "fairlead_service_packets_total", "service", v.Name, "vip", v.VIP, "protocol", v.Protocol, "port", v.Ports)
		want(float64(v.Bytes), "fairlead_service_bytes_total", "service", v.Name)
		want(float64(v.Flows), "fairlead_service_new_flows_total", "service", v.Name)
		want(float64(v.Drops), "fairlead_service_drops_total", "service", v.Name)
		want(1, "fairlead_service_info", "service", v.Name, "pool", v.Pool, "method", v.Method)
		up := 0
		for _, b := range v.Backends {
			want(float64(b.Packets), "fairlead_backend_packets_total", "pool", v.Pool, "backend", b.Name)
			want(float64(b.Bytes), "fairlead_backend_bytes_total", "pool", v.Pool, "backend", b.Name)
			want(float64(b.Flows), "fairlead_backend_new_flows_total", "pool", v.Pool, "backend", b.Name)
			serves := 0.0
			if b.State == "up" {
				serves = 1
				up++
			}
			want(serves, "fairlead_backend_up", "pool", v.Pool, "backend", b.Name)
			if b.Health != nil {
				want(1, "fairlead_backend_healthy", "pool", v.Pool, "backend", b.Name)
			}
		}
		want(float64(up), "fairlead_pool_backends", "pool", v.Pool, "state", "up")
	}
	sum := func(name string, labels ...string) (n float64) {
		for _, i := range s.Interfaces {
			one, err := value(families, name, append(labels, "interface", i.Name)...)
			if err != nil {
				w.t.Error(err)
			}
			n += one
		}
		return n
	}
	for _, outcome := range []string{"redirected", "memo", "shed", "denied", "oversize", "fail_dropped"} {
		if got := sum("fairlead_xdp_frames_total", "outcome", outcome); got != float64(s.Steering[outcome]) {
			w.t.Errorf("fairlead_xdp_frames_total %s is %v, the status says %d", outcome, got, s.Steering[outcome])
		}
	}
	for _, cause := range []string{"rx_dropped", "rx_ring_full", "rx_invalid", "tx_invalid"} {
		if got := sum("fairlead_socket_lost_frames_total", "cause", cause); got != float64(s.Sockets[cause]) {
			w.t.Errorf("fairlead_socket_lost_frames_total %s is %v, the status says %d", cause, got, s.Sockets[cause])
		}
	}
	w.compareMemory(s, families)
}

// compareMemory demands that every frame of the packet memory is somewhere, and
// that the rings of an idle node are as they must be.
func (w *world) compareMemory(s *api.Status, families map[string]*dto.MetricFamily) {
	w.t.Helper()
	const frames, ring = 8192, 2048
	for i := range s.Workers {
		var all, receive float64
		for _, holder := range []string{"worker", "receive", "send"} {
			n, err := value(families, "fairlead_umem_frames", "worker", strconv.Itoa(i), "holder", holder)
			w.must(err)
			all += n
			if holder == "receive" {
				receive = n
			}
		}
		if all != frames*float64(len(s.Interfaces)) || receive == 0 {
			w.t.Errorf("worker %d has %v frames, %v of them to receive", i, all, receive)
		}
	}
	for _, i := range s.Interfaces {
		for name, want := range map[string][2]float64{"rx": {0, 0}, "tx": {0, ring}, "fill": {1, ring}, "completion": {0, ring}} {
			size, err := value(families, "fairlead_ring_size_entries", "interface", i.Name, "queue", "0", "ring", name)
			w.must(err)
			used, err := value(families, "fairlead_ring_used_entries", "interface", i.Name, "queue", "0", "ring", name)
			w.must(err)
			if size != ring || used < want[0] || used > want[1] {
				w.t.Errorf("%s: %v of %v entries of the %s ring are in use", i.Name, used, size, name)
			}
		}
	}
}

var metricRow = regexp.MustCompile("(?m)^\\| `([a-z_*]+)` \\| ([a-z]*) \\| ([^|]*) \\| (.*) \\|$")

// compareDocument demands that docs/metrics.md has the metrics of a scrape with
// their types, labels and meanings, and no others.
func compareDocument(t *testing.T, text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		if documented[row[1]] != nil {
			t.Errorf("docs/metrics.md has %s twice", row[1])
		}
		documented[row[1]] = row[2:]
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if strings.HasPrefix(name, "go_") {
			continue
		}
		f, row := families[name], documented[name]
		if row == nil {
			t.Errorf("docs/metrics.md does not have %s", name)
			continue
		}
		delete(documented, name)
		labels := map[string]bool{}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		named := strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
		if named == "" {
			named = "-"
		}
		kind := strings.ToLower(f.GetType().String())
		if row[0] != kind || row[1] != named || strings.ReplaceAll(row[2], "\\|", "|") != f.GetHelp() {
			t.Errorf("docs/metrics.md says of %s: %q\nthe scrape: %q", name, row, []string{kind, named, f.GetHelp()})
		}
	}
	if !strings.Contains(text, "\ngo_goroutines ") {
		t.Error("there are no metrics of Go's runtime")
	}
	delete(documented, "go_*")
	for name := range documented {
		if strings.HasPrefix(name, "fairlead_cluster_") {
			continue // TestClusterHealth scrapes nodes of a cluster
		}
		if strings.HasPrefix(name, "fairlead_kubernetes_") {
			continue // those are compared where they are made (controlplane/metrics)
		}
		t.Errorf("docs/metrics.md has %s, which is in no scrape", name)
	}
}

// untilScrape waits until a scrape fulfils cond.
func (w *world) untilScrape(what string, cond func(map[string]*dto.MetricFamily) bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, families := w.scrape()
		if cond(families) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("it is not so that %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
