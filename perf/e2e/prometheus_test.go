package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const prometheusAddress = "127.0.0.1:9090"

// prometheus runs Debian's Prometheus on the load balancer's host, with the alert
// rules of configs/prometheus. Alerts fire after a second in place of minutes:
// rules_test.yml has their real times.
func (w *world) prometheus() {
	w.t.Helper()
	dir := w.t.TempDir()
	text, err := os.ReadFile("../../configs/prometheus/rules.yml")
	w.must(err)
	quick := regexp.MustCompile(`(?m)^(\s+for:) \S+$`).ReplaceAll(text, []byte("$1 1s"))
	w.must(os.WriteFile(filepath.Join(dir, "rules.yml"), quick, 0o644))
	w.must(os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(`
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
rule_files: [rules.yml]
scrape_configs:
  - job_name: fairlead
    static_configs:
      - targets: ["`+metricsAddress+`"]
`), 0o644))
	p, err := w.topo.LB.Start(exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+prometheusAddress))
	w.must(err)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("Prometheus' last words:\n%s", last(p.Output(), 30))
		}
		p.Stop(10 * time.Second)
	})
}

// ask asks Prometheus' API, and reports whether it has answered.
func (w *world) ask(path string, out any) error {
	text, err := w.tryGet(prometheusAddress, path)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, out)
}

// untilAsked asks until the answer is as it is to be.
func untilAsked[T any](w *world, what, path string, done func(*T) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 45*time.Second)
	defer cancel()
	var answer T
	for {
		answer = *new(T)
		err := w.ask(path, &answer)
		if err == nil && done(&answer) {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("it is not so that %s: %v, %+v", what, err, answer)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// alerts are what fires.
type alerts struct {
	Alerts []struct {
		Labels      map[string]string
		Annotations map[string]string
		State       string
	}
}

// ofBusyMachines are the alerts that a machine may rightly raise that runs other
// tests at the same time.
var ofBusyMachines = map[string]bool{"FairleadChecksLate": true, "FairleadReceiveLosses": true, "FairleadWorkerStuck": true}

// firing are the summaries of the alerts that fire, by name.
func (a *alerts) firing() map[string]string {
	found := map[string]string{}
	for _, one := range a.Alerts {
		if one.State == "firing" && !ofBusyMachines[one.Labels["alertname"]] {
			found[one.Labels["alertname"]] = one.Annotations["summary"]
		}
	}
	return found
}

// vector is the answer to a query.
type vector struct {
	Result []struct {
		Metric map[string]string
		Value  [2]any
	}
}

// TestPrometheus has a real Prometheus scrape a node: the alert of a backend that
// is down fires and resolves, no other does, and it understands every expression
// of the dashboard and finds every metric that one names.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{limit: 3 * time.Minute})
	w.config.Options = metricsOptions
	s := w.addSite(nat4)
	s.health = checkOf("tcp", fmt.Sprintf("port = %d", healthPort))
	w.serve()
	var gates []*gate
	for _, b := range w.topo.Backends {
		gates = append(gates, w.openGate(b))
	}
	w.start()
	w.prometheus()
	all := map[string]string{"b1": "up", "b2": "up", "b3": "up"}
	w.untilHealth(s.service(webPort), all)
	w.http(s, 40)
	w.udp(s, 10, 3)
	query := func(expr string) string { return "/api/v1/query?query=" + url.QueryEscape(expr) }
	untilAsked(w, "the node is scraped", query(`up{job="fairlead"} == 1 and on (instance) fairlead_frames_received_total > 0`), func(v *vector) bool { return len(v.Result) == 1 })
	untilAsked(w, "nothing is amiss", "/api/v1/alerts", func(a *alerts) bool { return len(a.firing()) == 0 })

	gates[1].shut()
	untilAsked(w, "the alert fires", "/api/v1/alerts", func(a *alerts) bool {
		f := a.firing()
		return strings.Contains(f["FairleadBackendDown"], "1 backends of pool ") && len(f) == 1
	})
	gates[1].open()
	w.untilHealth(s.service(webPort), all)
	untilAsked(w, "the alert is resolved", "/api/v1/alerts", func(a *alerts) bool { return len(a.firing()) == 0 })

	w.dashboard(query)
	w.must(w.node.Stop())
	untilAsked(w, "the node's end is noticed", "/api/v1/alerts", func(a *alerts) bool { return a.firing()["FairleadNodeDown"] != "" })
}

// elsewhere are metrics of what this node has not: BGP, a cluster, Kubernetes. That they
// exist is tested with docs/metrics.md, to which all of the dashboard is compared.
var elsewhere = regexp.MustCompile(`\bfairlead_(?:bgp|bfd|cluster|kubernetes)_`)

// dashboard has Prometheus answer every query of the dashboard, and demands that
// the metrics of each are there.
func (w *world) dashboard(query func(string) string) {
	w.t.Helper()
	text, err := os.ReadFile("../../configs/grafana/fairlead.json")
	w.must(err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	w.must(json.Unmarshal(text, &board))
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$service", ".*", "$pool", ".*")
	names := map[string]bool{}
	queries, empty := 0, 0
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			expr := variables.Replace(target.Expr)
			var v vector
			if err := w.ask(query(expr), &v); err != nil {
				w.t.Errorf("panel %s: %v", panel.Title, err)
			}
			if elsewhere.MatchString(expr) {
				continue
			}
			queries++
			if len(v.Result) == 0 {
				empty++ // such as drops by reason, of which there are none
			}
			for _, name := range regexp.MustCompile(`\b(?:fairlead|process)_[a-z_]+`).FindAllString(expr, -1) {
				names[name] = true
			}
		}
	}
	if queries < 30 || empty > queries/2 {
		w.t.Errorf("%d of %d queries have no answer", empty, queries)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		var v vector
		if err := w.ask(query("count("+name+")"), &v); err != nil || len(v.Result) != 1 {
			w.t.Errorf("the dashboard asks for %s, which Prometheus has not: %v", name, err)
		}
	}
	w.t.Logf("%d queries, %d of them without an answer, of %d metrics", queries, empty, len(names))
}
