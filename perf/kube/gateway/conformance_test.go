//go:build conformance

// Package gateway runs the Gateway API's own conformance tests against a node of
// Fairlead beside a cluster of Kubernetes with real pods. It takes some minutes, and
// is run by "make kube-gateway-conformance".
package gateway

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	manifests "fairlead/configs/kubernetes"
	"fairlead/perf/kube"
	"fairlead/perf/rig"
)

// echoImages are the versions of the suite's server that its manifests name.
const (
	echoImage = "registry.k8s.io/gateway-api/echo-basic"
	dnsImage  = "lab/dns"
)

// build compiles a program of the suite's module, or takes one that is there: the
// variable is for those who have it already.
func build(t *testing.T, variable, module string, args ...string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), strings.ToLower(variable))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "OUT", path)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return path
}

func TestConformance(t *testing.T) {
	const suite = "../gatewaysuite"
	echo := build(t, "CONFORMANCE_ECHO", suite, "build", "-o", "OUT", "sigs.k8s.io/gateway-api/conformance/echo-basic")
	dns := build(t, "CONFORMANCE_DNS", suite, "build", "-o", "OUT", "./dnsserver")
	program := build(t, "CONFORMANCE_SUITE", suite, "test", "-c", "-o", "OUT", ".")
	fairlead := build(t, "CONFORMANCE_FAIRLEAD", "../../..", "build", "-o", "OUT", "./cmd/fairlead")

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	c := kube.ClusterForTest(t, kube.ClusterConfig{Balancers: 1, Nodes: 2, Images: map[string]kube.Image{
		echoImage: {Path: echo}, dnsImage: {Path: dns},
	}})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	module, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	must(err)
	_, err = c.Kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(module)), "config/crd/standard"))
	must(err)
	crds, err := manifests.FS.ReadDir("crds")
	must(err)
	for _, f := range crds {
		text, err := manifests.FS.ReadFile("crds/" + f.Name())
		must(err)
		must(c.Apply(ctx, string(text)))
	}
	must(c.Apply(ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: fairlead-system}}"))
	must(c.Apply(ctx, "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: fairlead}, spec: {controllerName: fairlead.io/gateway}}"))

	inside := filepath.Join(dir, "inside.kubeconfig")
	must(c.Kubeconfig(inside, c.Inside(c.REST())))
	lb := c.Rack.Balancers[0]
	config := rig.Config{
		Interfaces: []rig.Interface{{Name: lb.Interface.Name}},
		SNAT:       []netip.Addr{c.Rack.SNAT4(1), c.Rack.SNAT6(1)},
		Options: fmt.Sprintf("[kubernetes]\nkubeconfig = %q\n\n[[kubernetes.pool]]\nname = \"rack\"\naddresses = [\"198.18.0.101-198.18.0.180\"]\n",
			inside),
	}
	node, err := rig.Start(ctx, fairlead, dir, lb.Host, "[node]\nname = \"lb1\"\n"+config.Text())
	t.Cleanup(func() {
		if node != nil && t.Failed() {
			t.Log(string(node.Log()))
		}
	})
	must(err)

	report := filepath.Join(dir, "report.yaml")
	overlay, err := filepath.Abs(filepath.Join(suite, "manifests"))
	must(err)
	cmd := exec.Command(program, "-test.v", "-test.timeout=25m", "-cluster="+inside, "-manifests="+overlay, "-only=TCPRoute,UDPRoute,GatewayClass", "-report="+report)
	log, err := os.Create(filepath.Join(dir, "suite.log"))
	must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := c.Rack.Client.Start(cmd)
	must(err)
	failed := p.Wait(ctx)
	text, err := os.ReadFile(log.Name())
	must(err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			t.Log(strings.TrimRight(line, "\n"))
		}
	}
	if out := os.Getenv("CONFORMANCE_LOG"); out != "" {
		must(os.WriteFile(out, text, 0o644))
	}
	if failed != nil {
		t.Errorf("the suite: %v", failed)
	}
	if text, err := os.ReadFile(report); err == nil {
		t.Logf("the report:\n%s", text)
	}
}
