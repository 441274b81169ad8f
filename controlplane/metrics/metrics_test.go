package metrics

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write testdata/scrape.txt anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

func handler(t testing.TB, cfg Config) http.Handler {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h, err := NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// scrape is the answer to one scrape.
func scrape(t testing.TB, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", got)
	}
	return w.Body.String()
}

// own are the lines about Fairlead's own metrics, but for the kernel's numbers
// of the data process.
func own(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "fairlead_") && !strings.Contains(line, "fairlead_data_process_") || strings.Contains(line, "fairlead_data_process_up") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestScrape compares a whole scrape with the one that is recorded.
func TestScrape(t *testing.T) {
	const golden = "testdata/scrape.txt"
	got := own(scrape(t, handler(t, Config{Source: small(), Backends: true, More: []prometheus.Collector{
		NewControlCollector(fixedControl{}), NewLogCollector(func() LogLines { return LogLines{Written: [4]uint64{1, 2, 3, 4}, Suppressed: [4]uint64{0, 0, 5, 0}} }),
		NewQuorumCollector(fixedQuorum{}),
		NewToldCollector(fixedTold{}),
		NewOwnerCollector(fixedOwners{}), NewClusterCollector(fixedCluster{}), NewKubernetesCollector(fixedKubernetes{}),
	}})))
	got = strings.ReplaceAll(got, `goversion="`+goVersion+`"`, `goversion="go"`)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	lines, wanted := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(lines), len(wanted)) {
		if i >= len(lines) || i >= len(wanted) || lines[i] != wanted[i] {
			t.Fatalf("line %d of a scrape says\n%s\nwant\n%s", i+1, lines[min(i, len(lines)-1)], wanted[min(i, len(wanted)-1)])
		}
	}
}

// TestConventions has promtool look at a scrape: names, types, help, units.
func TestConventions(t *testing.T) {
	check := exec.Command("promtool", "check", "metrics")
	f := small()
	f.pid = os.Getpid()
	check.Stdin = strings.NewReader(scrape(t, handler(t, Config{Source: f, Backends: true})))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// TestNothingThere asserts that a node without versions, checks and announcements
// has no metrics of them.
func TestNothingThere(t *testing.T) {
	text := scrape(t, handler(t, Config{Source: small(), More: []prometheus.Collector{NewControlCollector(noControl{}), NewQuorumCollector(noQuorum{}), NewToldCollector(noTold{}), NewOwnerCollector(noOwners{}), NewClusterCollector(noCluster{}), NewKubernetesCollector(noKubernetes{})}}))
	for _, name := range []string{"fairlead_config_", "fairlead_health_", "fairlead_arp_", "fairlead_bgp_", "fairlead_drain_", "fairlead_cluster_", "fairlead_kubernetes_"} {
		if strings.Contains(text, name) {
			t.Errorf("there is a %s in\n%s", name, text)
		}
	}
}

// TestDataProcess asserts that the kernel's numbers of the data process are
// there while there is one.
func TestDataProcess(t *testing.T) {
	f := small()
	h := handler(t, Config{Source: f})
	const rss = "\nfairlead_data_process_resident_memory_bytes "
	if text := scrape(t, h); strings.Contains(text, rss) {
		t.Error("memory of a data process that is not there")
	}
	f.pid = os.Getpid()
	if text := scrape(t, h); !strings.Contains(text, rss) {
		t.Errorf("no memory of the data process in\n%s", text)
	}
}

// TestBackendSeries asserts when there are series of single backends.
func TestBackendSeries(t *testing.T) {
	const backend, pool, omitted = "\nfairlead_backend_packets_total{", "\nfairlead_pool_backends{", "\nfairlead_backend_series_omitted 1\n"
	for _, c := range []struct {
		name     string
		backends bool
		limit    int
		want     bool
	}{
		{"all", true, 0, true}, {"as many as the limit", true, 3, true}, {"more than the limit", true, 2, false}, {"switched off", false, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := scrape(t, handler(t, Config{Source: small(), Backends: c.backends, BackendLimit: c.limit}))
			if got := strings.Contains(text, backend); got != c.want {
				t.Errorf("series of backends: %v", got)
			}
			if got := strings.Contains(text, omitted); got == c.want {
				t.Errorf("said to be omitted: %v", got)
			}
			if !strings.Contains(text, pool) {
				t.Error("no series of pools")
			}
		})
	}
}

// broken is a part of the node whose numbers cannot be had.
type broken struct{}

var brokenDesc = prometheus.NewDesc("fairlead_broken", "Never there.", nil, nil)

func (broken) Describe(to chan<- *prometheus.Desc) { to <- brokenDesc }
func (broken) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.NewInvalidMetric(brokenDesc, errors.New("it is broken"))
}

// TestIncomplete asserts that what cannot be had is logged and counted, and does
// not keep the rest back.
func TestIncomplete(t *testing.T) {
	var log bytes.Buffer
	h := handler(t, Config{Source: small(), More: []prometheus.Collector{broken{}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if text := scrape(t, h); !strings.Contains(text, "fairlead_generation_published 7\n") {
		t.Errorf("no generation in\n%s", text)
	}
	if want := `level=WARN msg="metrics are incomplete" error="error collecting metric`; !strings.Contains(log.String(), want) {
		t.Errorf("the log says %s, want %s", &log, want)
	}
	if text := scrape(t, h); !strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Error("it is not counted")
	}
}

// TestScrapesAtOnce asserts that only so many scrapes are answered at a time.
func TestScrapesAtOnce(t *testing.T) {
	f := small()
	f.hold, f.waits = make(chan struct{}), make(chan struct{}, maxScrapes+1)
	h := handler(t, Config{Source: f})
	ended := make(chan int, maxScrapes)
	for range maxScrapes {
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			ended <- w.Code
		}()
	}
	for range maxScrapes {
		<-f.waits
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if want := "Limit of concurrent requests reached (2), try again later.\n"; w.Code != http.StatusServiceUnavailable || w.Body.String() != want {
		t.Errorf("the third is told %d %q", w.Code, w.Body)
	}
	close(f.hold)
	for range maxScrapes {
		if code := <-ended; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
}

// BenchmarkScrape measures scrapes of large nodes, without what reading the
// node's counters takes.
func BenchmarkScrape(b *testing.B) {
	for _, c := range []struct {
		name               string
		services, backends int
	}{{"10000x0", 10_000, 0}, {"1000x50", 1000, 50}, {"10000x100", 10_000, 100}} {
		b.Run(c.name, func(b *testing.B) {
			h := handler(b, Config{Source: large(c.services, c.backends), Backends: true})
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				w := &counting{header: http.Header{}}
				h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
				size = w.n
			}
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}

// counting counts what is written.
type counting struct {
	header http.Header
	n      int64
}

func (c *counting) Header() http.Header { return c.header }
func (c *counting) WriteHeader(int)     {}
func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*counting)(nil)
