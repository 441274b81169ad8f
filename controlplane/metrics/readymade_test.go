package metrics

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "../../configs/prometheus/rules.yml"
	rulesTestFile = "../../configs/prometheus/rules_test.yml"
	dashboardFile = "../../configs/grafana/fairlead.json"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rules are a file of alert rules.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string            `yaml:"alert,omitempty"`
			Record      string            `yaml:"record,omitempty"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for,omitempty"`
			Labels      map[string]string `yaml:"labels,omitempty"`
			Annotations map[string]string `yaml:"annotations,omitempty"`
		}
	}
}

func readRules(t *testing.T) *rules {
	t.Helper()
	var r rules
	if err := yaml.Unmarshal(readFile(t, rulesFile), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// documentedMetrics are the names that docs/metrics.md has. An end-to-end test
// compares that page with the scrape of a real node.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{"up": true}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(readFile(t, "../../docs/metrics.md")), -1) {
		known[row[1]] = true
		if row[2] == "summary" || row[2] == "histogram" {
			known[row[1]+"_sum"], known[row[1]+"_count"] = true, true
		}
		if row[2] == "histogram" {
			known[row[1]+"_bucket"] = true
		}
	}
	if len(known) < 40 {
		t.Fatalf("docs/metrics.md has %d metrics", len(known))
	}
	return known
}

var metricName = regexp.MustCompile(`\b((?:fairlead|process|promhttp|go)_[a-z_]+|up)\b`)

// metricsIn are the metrics that an expression names.
func metricsIn(expr string) []string {
	plain := regexp.MustCompile(`"[^"]*"|\b(?:by|on|group_left) \([^)]*\)`).ReplaceAllString(expr, "")
	return metricName.FindAllString(plain, -1)
}

// TestRules has promtool check and test the alert rules, and sees to it that
// each has a test, a severity, words, and a section of docs/alerts.md that says
// what to do; that page has no section without its alert.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTestFile}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string `yaml:"alertname"`
				ExpAlerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(readFile(t, rulesTestFile), &tests); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, one := range tests.Tests {
		for _, a := range one.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				quiet[a.Alertname] = true
			}
		}
	}
	known := documentedMetrics(t)
	sections := map[string]bool{}
	for _, s := range regexp.MustCompile(`(?m)^## (\S+)$`).FindAllStringSubmatch(string(readFile(t, "../../docs/alerts.md")), -1) {
		sections[s[1]] = true
	}
	count := 0
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			count++
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("rules_test.yml does not show when %s fires (%v) and when it does not (%v)", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s has severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s does not say what it is about", r.Alert)
			}
			if want := "docs/alerts.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want || !sections[r.Alert] {
				t.Errorf("%s leads to %q, want %q; there is such a section: %v", r.Alert, r.Annotations["runbook_url"], want, sections[r.Alert])
			}
			delete(sections, r.Alert)
			for _, name := range metricsIn(r.Expr) {
				if !known[name] {
					t.Errorf("%s: there is no metric %s", r.Alert, name)
				}
			}
		}
	}
	if count == 0 {
		t.Error("there are no rules")
	}
	for s := range sections {
		t.Errorf("docs/alerts.md has a section %s without an alert", s)
	}
}

// expressions are all PromQL expressions of the dashboard, by where they stand.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var d struct {
		Title, UID string
		Panels     []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Annotations struct {
			List []struct{ Name, Expr string }
		}
	}
	if err := json.Unmarshal(readFile(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" {
		t.Error("the dashboard has no title or no identity")
	}
	all := map[string]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		ids[p.ID] = true
		if p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q lies at %+v", p.ID, p.Title, p.GridPos)
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for i, target := range p.Targets {
			all[fmt.Sprintf("panel %s, %d", p.Title, i)] = target.Expr
		}
	}
	for _, v := range d.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			all["variable "+v.Name] = inner[:strings.LastIndex(inner, ",")]
		} else if v.Type != "datasource" {
			t.Errorf("variable %s is of an unknown kind: %q", v.Name, v.Definition)
		}
	}
	for _, a := range d.Annotations.List {
		all["annotation "+a.Name] = a.Expr
	}
	if len(all) < 30 {
		t.Errorf("the dashboard has %d expressions", len(all))
	}
	return all
}

// TestDashboard has Prometheus' own parser read every expression of the
// dashboard, each of whose metrics must be documented.
func TestDashboard(t *testing.T) {
	known := documentedMetrics(t)
	var file struct {
		Groups []map[string]any `yaml:"groups"`
	}
	var list []map[string]string
	all := expressions(t)
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$service", ".*", "$pool", ".*")
	for i, where := range slices.Sorted(maps.Keys(all)) {
		expr := variables.Replace(all[where])
		if strings.Contains(expr, "$") {
			t.Errorf("%s has an unknown variable: %s", where, expr)
		}
		list = append(list, map[string]string{"record": fmt.Sprintf("dashboard:%d", i), "expr": expr})
		names := metricsIn(expr)
		if len(names) == 0 {
			t.Errorf("%s asks for no metric: %s", where, expr)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	file.Groups = []map[string]any{{"name": "dashboard", "rules": list}}
	text, err := yaml.Marshal(&file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
