package chart

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fairlead/perf/kube"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestInstall has a real API server take everything that is shipped: the manifests,
// and what the chart makes of them, installed, upgraded and uninstalled.
func TestInstall(t *testing.T) {
	control := kube.ForTest(t, kube.Config{Controllers: true})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := control.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	abs := func(path string) string {
		t.Helper()
		path, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}

	if err := control.InstallGatewayAPI(ctx); err != nil {
		t.Fatal(err)
	}
	kubectl("apply", "--server-side", "-f", abs(manifests+"/namespace.yaml"))
	kubectl("apply", "--server-side", "-f", abs(manifests+"/crds"))
	kubectl("wait", "--for=condition=Established", "crd/addresspools.fairlead.io", "crd/addressreservations.fairlead.io", "--timeout=30s")

	t.Run("manifests", func(t *testing.T) {
		out := kubectl("apply", "--server-side", "--dry-run=server", "-f", abs(manifests))
		for _, want := range []string{"daemonset.apps/fairlead ", "daemonset.apps/fairlead-backend ", "clusterrole.rbac.authorization.k8s.io/fairlead ", "configmap/fairlead ", "gatewayclass.gateway.networking.k8s.io/fairlead ",
			"networkpolicy.networking.k8s.io/fairlead ", "poddisruptionbudget.policy/fairlead ", "secret/fairlead-token ", "service/fairlead-nodes ", "validatingadmissionpolicy.admissionregistration.k8s.io/fairlead-address-in-named-pool "} {
			if !strings.Contains(out, want) {
				t.Errorf("%s was not applied:\n%s", want, out)
			}
		}
	})

	t.Run("documentation", func(t *testing.T) {
		pages, err := filepath.Glob(root + "/docs/kubernetes*.md")
		if err != nil {
			t.Fatal(err)
		}
		blocks := 0
		for _, page := range pages {
			for i, m := range yamlBlock.FindAllStringSubmatch(read(t, page), -1) {
				blocks++
				file := filepath.Join(t.TempDir(), "block.yaml")
				if err := os.WriteFile(file, []byte(m[1]), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := control.Kubectl(ctx, "apply", "--server-side", "--dry-run=server", "-f", file); err != nil {
					t.Errorf("%s, YAML block %d: %v\n%s%s", page, i+1, err, out, m[1])
				}
			}
		}
		if blocks < 2 {
			t.Errorf("the documentation shows %d objects", blocks)
		}
	})

	t.Run("pod security", func(t *testing.T) {
		// What the lower levels refuse is what namespace.yaml says of them.
		kubectl("create", "namespace", "restricted")
		kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=baseline")
		pod := strings.ReplaceAll(podOf(t, read(t, manifests+"/daemonset.yaml")), "namespace: "+namespace, "namespace: restricted")
		err := control.Apply(ctx, strings.ReplaceAll(pod, "serviceAccountName: fairlead", "serviceAccountName: default"))
		const want = `violates PodSecurity "baseline:latest": forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined"), ` +
			`non-default capabilities (container "fairlead" must not include "BPF", "IPC_LOCK", "NET_ADMIN", "NET_RAW", "SYS_NICE" in securityContext.capabilities.add), ` +
			`host namespaces (hostNetwork=true), hostPath volumes (volumes "state", "bpf")`
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("baseline says: %v", err)
		}
		kubectl("apply", "--server-side", "-f", abs(manifests+"/rbac.yaml"))
		if err := control.Apply(ctx, podOf(t, read(t, manifests+"/daemonset.yaml"))); err != nil {
			t.Errorf("in its own namespace: %v", err)
		}
		kubectl("-n", namespace, "delete", "pod", "fairlead-example", "--now")
		kubectl("delete", "-f", abs(manifests+"/rbac.yaml"))
	})

	t.Run("helm", func(t *testing.T) {
		kubectl("delete", "-f", abs(manifests+"/crds"))
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		if err := control.Kubeconfig(kubeconfig, control.REST()); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) string {
			t.Helper()
			out, complaints, err := helm(t, append(args, "--kubeconfig", kubeconfig, "--namespace", namespace)...)
			if err != nil {
				t.Fatalf("helm %s: %v: %s", args[0], err, complaints)
			}
			return out
		}
		values := filepath.Join(t.TempDir(), "values.yaml")
		const text = "nodes:\n  lb1: |\n    [tunnel]\n    source_ipv4 = \"198.18.10.3\"\n  lb2: \"\"\ngatewayClass: {create: true}\nbackend: {enabled: true}\n"
		if err := os.WriteFile(values, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		notes := run("install", "fairlead", chartPath, "--values", values)
		for _, want := range []string{"Balancers are the nodes lb1, lb2", "kubectl label node lb2 fairlead.io/balancer=true", "kind: AddressPool", "WARNING: backend.from is empty", "spec.loadBalancerClass: fairlead.io/lb"} {
			if !strings.Contains(notes, want) {
				t.Errorf("the notes do not say %q:\n%s", want, notes)
			}
		}
		const secret, config = "jsonpath={.data.cluster\\.key}", "jsonpath={.data}"
		key, files := kubectl("-n", namespace, "get", "secret", "fairlead-cluster-key", "-o", secret), kubectl("-n", namespace, "get", "configmap", "fairlead", "-o", config)
		if len(key) < 40 {
			t.Errorf("the cluster key is %q", key)
		}
		run("upgrade", "fairlead", chartPath, "--values", values)
		if again := kubectl("-n", namespace, "get", "secret", "fairlead-cluster-key", "-o", secret); again != key {
			t.Error("an upgrade has made another cluster key")
		}
		if again := kubectl("-n", namespace, "get", "configmap", "fairlead", "-o", config); again != files {
			t.Errorf("an upgrade has made another configuration:\n%s\n%s", files, again)
		}
		if err := control.Apply(ctx, "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: p}\nspec: {addresses: [192.0.2.0/24]}\n"); err != nil {
			t.Error(err)
		}
		run("uninstall", "fairlead", "--wait")
		if left := kubectl("get", "addresspools", "-o", "name"); left != "addresspool.fairlead.io/p\n" {
			t.Errorf("pools do not outlive the chart: %q", left)
		}
		if left := kubectl("-n", namespace, "get", "secret,configmap,daemonset,serviceaccount", "-o", "name"); strings.Contains(left, "daemonset") || strings.Contains(left, "serviceaccount/fairlead") || !strings.Contains(left, "secret/fairlead-cluster-key") {
			t.Errorf("left after uninstalling:\n%s", left)
		}
	})
}
