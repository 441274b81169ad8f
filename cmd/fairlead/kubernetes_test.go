package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/configs"
)

// TestKubernetesManifests asserts what the manifests that are printed have, and in
// which order.
func TestKubernetesManifests(t *testing.T) {
	dir := t.TempDir()
	kinds := func(text string) (out []string) {
		for line := range strings.Lines(text) {
			if kind, is := strings.CutPrefix(line, "kind: "); is {
				out = append(out, strings.TrimSpace(kind))
			}
		}
		return out
	}
	for _, c := range []struct{ args, want string }{
		{"k8s manifests", "Namespace CustomResourceDefinition CustomResourceDefinition ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ConfigMap Service PodDisruptionBudget NetworkPolicy DaemonSet"},
		{"k8s manifests --outside", "Namespace CustomResourceDefinition CustomResourceDefinition ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding Secret"},
		{"k8s crds", "CustomResourceDefinition CustomResourceDefinition"},
	} {
		r := fairlead(t, dir, words(c.args)...)
		if got := strings.Join(kinds(r.stdout), " "); r.code != 0 || got != c.want {
			t.Errorf("%s: exit status %d, %s\ngot  %s\nwant %s", c.args, r.code, r.stderr, got, c.want)
		}
		if strings.Contains(r.stdout, "go test") {
			t.Errorf("%s tells of how it was made", c.args)
		}
	}
	r := fairlead(t, dir, words("k8s manifests --backend --gateway-class --image registry.example.com/f:1")...)
	if strings.Count(r.stdout, "          image: registry.example.com/f:1\n") != 2 || !strings.HasSuffix(strings.Join(kinds(r.stdout), " "), " DaemonSet DaemonSet GatewayClass") {
		t.Errorf("with everything:\n%s", r.stdout)
	}
}

// TestKubernetesMigrate migrates from a file with everything, and loads the
// configuration that comes of it.
func TestKubernetesMigrate(t *testing.T) {
	const input = "../../k8ssync/migrate/testdata/metallb.yaml"
	path, err := filepath.Abs(input)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	all := fairlead(t, dir, "k8s", "migrate-metallb", path)
	want, err := os.ReadFile("../../k8ssync/migrate/testdata/plan.txt")
	if err != nil || all.code != 0 || all.stdout != string(want) {
		t.Errorf("exit status %d, %s, %v:\n%s", all.code, all.stderr, err, all.stdout)
	}
	parts := ""
	for _, part := range []string{"pools", "config", "services", "notes"} {
		r := fairlead(t, dir, "k8s", "migrate-metallb", "--only", part, path)
		if r.code != 0 || r.stdout == "" || !strings.Contains(all.stdout, r.stdout) {
			t.Errorf("--only %s: exit status %d, %s:\n%s", part, r.code, r.stderr, r.stdout)
		}
		if part == "config" {
			if _, err := configs.Parse(part, []byte(r.stdout)); err != nil {
				t.Errorf("%v\n%s", err, r.stdout)
			}
		}
		parts += r.stdout
	}
	if r := fairlead(t, dir, "k8s", "migrate-metallb", "-o", "json", path); r.code != 0 || !strings.Contains(r.stdout, `"kind": "AddressPool"`) {
		t.Errorf("as JSON: exit status %d, %s:\n%s", r.code, r.stderr, r.stdout)
	}
	write(t, dir, "other.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"))
	write(t, dir, "broken.yaml", []byte("kind: [\n"))
	for args, want := range map[string]string{
		"other.yaml":          "fairlead: there is neither an object of MetalLB nor a Service among 1 object\n",
		"broken.yaml":         "fairlead: broken.yaml: document 1: yaml: line 1: did not find expected node content\n",
		"none.yaml":           "fairlead: open none.yaml: no such file or directory\n",
		"--only x other.yaml": "fairlead: --only is pools, config, services or notes, not \"x\"\n",
		"--kubeconfig none":   "fairlead: kubeconfig: stat none: no such file or directory\n",
	} {
		if r := fairlead(t, dir, append([]string{"k8s", "migrate-metallb"}, words(args)...)...); r.code == 0 || r.stderr != want || r.stdout != "" {
			t.Errorf("%s: exit status %d, %q", args, r.code, r.stderr)
		}
	}
}

func TestKubernetesKubeconfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "there", nil)
	for args, want := range map[string]string{
		"there":                        "fairlead: there is there already, and may be in use; it is left as it is\n",
		"--lifetime 1m":                "fairlead: --lifetime 1m0s is less than 10m\n",
		"--api-server 192.0.2.1":       "fairlead: --api-server \"192.0.2.1\" is no URL with https://\n",
		"--kubeconfig none":            "fairlead: kubeconfig of an administrator: stat none: no such file or directory\n",
		"--kubeconfig none --secret x": "fairlead: kubeconfig of an administrator: stat none: no such file or directory\n",
	} {
		if r := fairlead(t, dir, append([]string{"k8s", "kubeconfig"}, words(args)...)...); r.code == 0 || r.stderr != want {
			t.Errorf("%s: exit status %d, %q", args, r.code, r.stderr)
		}
	}
}
