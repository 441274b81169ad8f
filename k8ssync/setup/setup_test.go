package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	manifests "fairlead/configs/kubernetes"
	"fairlead/k8ssync/kube"
	lab "fairlead/perf/kube"
)

func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := manifests.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSetup makes kubeconfigs of the shipped service account, and examines the
// cluster with them, before and after everything is there.
func TestSetup(t *testing.T) {
	control := lab.ForTest(t, lab.Config{Controllers: true})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	apply := func(text string) {
		t.Helper()
		if err := control.Apply(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	admin := filepath.Join(t.TempDir(), "admin")
	if err := control.Kubeconfig(admin, control.REST()); err != nil {
		t.Fatal(err)
	}
	request := Request{Kubeconfig: admin, Namespace: "fairlead-system", Account: "fairlead", Secret: "fairlead-token"}
	if _, err := Kubeconfig(ctx, request); err == nil || err.Error() != "there is no Secret fairlead-system/fairlead-token: apply what `fairlead k8s manifests --outside` prints, or ask for a token that ends" {
		t.Errorf("without a Secret: %v", err)
	}
	apply(shipped(t, "namespace.yaml"))
	apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: fairlead, namespace: fairlead-system}\n")
	apply(shipped(t, "token.yaml"))

	var data []byte
	for { // the controller manager writes the token
		var err error
		if data, err = Kubeconfig(ctx, request); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, data, 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := Rules([]byte(shipped(t, "rbac.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) < 30 || !slices.ContainsFunc(rules, func(r Rule) bool { return r.String() == "patch services/status" }) {
		t.Errorf("rules %v", rules)
	}
	settings := kube.Settings{Kubeconfig: own, LeaseNamespace: "fairlead-system", LeaseName: "fairlead", Gateway: true}
	examine := func(s kube.Settings) (out []Finding) {
		t.Helper()
		return Examine(ctx, s, rules)
	}
	levels := func(found []Finding) string {
		var out strings.Builder
		for _, f := range found {
			out.WriteString([]string{"ok", "warning", "error"}[f.Level] + " " + f.Subject + ": " + f.Found + "\n")
		}
		return out.String()
	}
	got := levels(examine(settings))
	for _, want := range []string{
		"ok API server: ", "Kubernetes v1.", "error permissions: the node may not create addressreservations.fairlead.io, create configmaps, create events.events.k8s.io, create leases.coordination.k8s.io, ",
		"warning permissions: for the Gateway API the node may not get gatewayclasses.gateway.networking.k8s.io, get gateways.gateway.networking.k8s.io, list customresourcedefinitions.apiextensions.k8s.io gateways.gateway.networking.k8s.io, ",
		"error kinds: the API server has no addresspools, addresspools/status, addressreservations of fairlead.io/v1alpha1",
		"warning kinds: the API server has no gatewayclasses, gateways, tcproutes, udproutes, referencegrants of gateway.networking.k8s.io/v1",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("with nothing there: lacks %q:\n%s", want, got)
		}
	}

	apply(shipped(t, "rbac.yaml"))
	if err := control.InstallCRDs(ctx); err != nil {
		t.Fatal(err)
	}
	settings.Gateway = false
	for {
		got = levels(examine(settings))
		if !strings.Contains(got, "error") || ctx.Err() != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if strings.Count(got, "ok ") != 3 || strings.Contains(got, "error") || strings.Contains(got, "warning") || !strings.Contains(got, " are granted\n") {
		t.Errorf("with everything there:\n%s", got)
	}

	// Less than everything.
	apply(strings.ReplaceAll(shipped(t, "rbac.yaml"), "resources: [services/status]", "resources: [services/finalizers]"))
	for {
		if got = levels(examine(settings)); strings.Contains(got, "error permissions: the node may not patch services/status\n") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("one rule is missing:\n%s", got)
		}
		time.Sleep(100 * time.Millisecond)
	}

	// Tokens that end, a server elsewhere, and credentials that are none.
	request.Lifetime = time.Hour
	request.Server = "https://192.0.2.1:6443"
	if data, err = Kubeconfig(ctx, request); err != nil || !strings.Contains(string(data), "server: https://192.0.2.1:6443") || !strings.Contains(string(data), "certificate-authority-data: ") {
		t.Errorf("a token that ends: %v\n%s", err, data)
	}
	request.Lifetime = 200 * 365 * 24 * time.Hour
	if _, err = Kubeconfig(ctx, request); err == nil {
		t.Error("a token for two hundred years was given")
	} else if !errors.Is(err, ErrLifetime) && !strings.Contains(err.Error(), "expirationSeconds") {
		t.Errorf("a token for two hundred years: %v", err)
	}
	request = Request{Kubeconfig: filepath.Join(t.TempDir(), "none")}
	if _, err = Kubeconfig(ctx, request); err == nil || !strings.HasPrefix(err.Error(), "kubeconfig of an administrator: ") {
		t.Errorf("no administrator: %v", err)
	}
	stranger := filepath.Join(t.TempDir(), "stranger")
	if err := os.WriteFile(stranger, []byte(strings.ReplaceAll(readAll(t, own), "    token: ", "    token: x")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got = levels(examine(kube.Settings{Kubeconfig: stranger})); !strings.HasPrefix(got, "error API server: https://") || !strings.HasSuffix(got, " does not know the node: the server has asked for the client to provide credentials\n") {
		t.Errorf("with a wrong token: %s", got)
	}
	if got = levels(examine(kube.Settings{Kubeconfig: "/nowhere"})); got != "error credentials: kubeconfig: stat /nowhere: no such file or directory\n" {
		t.Errorf("without a kubeconfig: %s", got)
	}
	if got = levels(examine(kube.Settings{Server: "https://127.0.0.1:1", TokenFile: own})); !strings.HasPrefix(got, "error API server: https://127.0.0.1:1 does not answer: ") {
		t.Errorf("without a server: %s", got)
	}
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRulesErrors(t *testing.T) {
	if _, err := Rules([]byte("kind: Role\nrules: 1\n")); err == nil || !strings.HasPrefix(err.Error(), "manifests of roles: ") {
		t.Errorf("%v", err)
	}
	if rules, err := Rules([]byte("kind: ServiceAccount\n---\nkind: Role\nrules: [{apiGroups: [a], resources: [b/c], resourceNames: [d, e], verbs: [get]}]\n")); err != nil || len(rules) != 2 || rules[0].String() != "get b.a/c d" || !rules[1].Namespaced {
		t.Errorf("%v %v", rules, err)
	}
}
