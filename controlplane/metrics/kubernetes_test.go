package metrics

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fixedKubernetes is in step with a cluster, and nothing changes.
type fixedKubernetes struct{}

func (fixedKubernetes) KubernetesSync() *KubernetesSync {
	at := time.Unix(1_700_000_000, 0)
	changes := NewKubernetesChanges()
	changes.Observe(ChangeFromEvent, 3*time.Millisecond)
	return &KubernetesSync{
		Connected: true, Since: at, Synced: at.Add(time.Second), Applied: at.Add(1500 * time.Millisecond), Writer: true,
		Watched: []KubernetesWatched{{Resource: "services", Objects: 7, Watching: true}, {Resource: "nodes"}},
		Groups:  6, Pending: 5, Refused: 4, Held: 3, Batches: 2, Changes: changes,
		Failures: 1, Unserved: 8, Unprogrammed: 9, Pools: []KubernetesPool{{Pool: "public", Family: "ipv4", Assigned: 10, Reserved: 11, Free: 12}},
	}
}

// noKubernetes serves no cluster.
type noKubernetes struct{}

func (noKubernetes) KubernetesSync() *KubernetesSync { return nil }

// docs/metrics.md has the metrics of Kubernetes as a scrape has them, and no others.
func TestKubernetesMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(fairlead_kubernetes_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2] + " " + row[4]
	}
	text := scrape(t, handler(t, Config{Source: small(), More: []prometheus.Collector{NewKubernetesCollector(fixedKubernetes{})}}))
	help := map[string]string{}
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(part) < 4 || !strings.HasPrefix(part[2], "fairlead_kubernetes_") {
			continue
		}
		switch part[1] {
		case "HELP":
			help[part[2]] = part[3]
		case "TYPE":
			if want := fmt.Sprintf("%s %s", part[3], help[part[2]]); documented[part[2]] != want {
				t.Errorf("docs/metrics.md says of %s: %q, want %q", part[2], documented[part[2]], want)
			}
			delete(documented, part[2])
		}
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which is in no scrape", name)
	}
}
