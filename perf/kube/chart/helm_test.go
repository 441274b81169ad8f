package chart

import (
	"flag"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"fairlead/perf/kube"
)

var update = flag.Bool("update", false, "write what is made from the chart anew")

const (
	root      = "../../.."
	chartPath = root + "/configs/helm/fairlead"
	manifests = root + "/configs/kubernetes"
	namespace = "fairlead-system"
)

// helm runs helm; err is what it ended with.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return kube.Helm(t.Context(), args...)
}

// render renders the chart with further arguments.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, complaints, err := helm(t, append([]string{"template", "fairlead", chartPath, "--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatalf("helm template %s: %v: %s", strings.Join(args, " "), err, complaints)
	}
	return out
}

// manifestValues are the values that the manifests are made with.
const manifestValues = chartPath + "/ci/manifests-values.yaml"

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// same compares a file with what it is to have, or writes it.
func same(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what it is made from (%v): go test ./perf/kube/chart -update writes it anew", path, err)
	}
}

// podOf is a pod of the template of a DaemonSet.
func podOf(t *testing.T, daemonset string) string {
	t.Helper()
	var object struct {
		Spec struct {
			Template struct {
				Spec map[string]any `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(daemonset), &object); err != nil {
		t.Fatal(err)
	}
	pod, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "fairlead-example", "namespace": namespace}, "spec": object.Spec.Template.Spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(pod)
}
