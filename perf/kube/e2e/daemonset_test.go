package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/kube"
)

// audit records what the nodes ask the API server for.
const audit = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:fairlead-system:fairlead"]
`

// balancerNodes is a cluster whose balancers are nodes of Kubernetes, kept for
// nothing else, on which nothing of Fairlead runs yet.
func balancerNodes(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	c := kube.ClusterForTest(t, kube.ClusterConfig{
		Balancers: 2, Nodes: 2, BalancerNodes: true, KubeProxy: true,
		Images: map[string]kube.Image{imageName: shippedImage(t)}, Control: kube.Config{Audit: audit},
	})
	w := &world{t: t, ctx: ctx, dir: t.TempDir(), pods: c, api: c.ControlPlane, rack: c.Rack}
	var err error
	w.kube, err = kubernetes.NewForConfig(c.REST())
	w.must(err)
	w.ours, err = v1alpha1.NewClient(c.REST())
	w.must(err)
	for _, lb := range c.Rack.Balancers {
		w.kubectl("label", "node", lb.Name, "fairlead.io/balancer=true", "node.kubernetes.io/exclude-from-external-load-balancers=true")
		w.kubectl("taint", "node", lb.Name, "fairlead.io/balancer=true:NoSchedule")
	}
	return w
}

// fairlead runs the binary, as an operator does on a machine of his own.
func (w *world) fairlead(args ...string) string {
	w.t.Helper()
	out, err := exec.CommandContext(w.ctx, binary, args...).Output()
	if err != nil {
		w.t.Fatalf("fairlead %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// install applies the shipped manifests with the addresses of the rack in place of
// those that they have, and returns them.
func (w *world) install() string {
	w.t.Helper()
	w.installGatewayAPI()
	shipped := w.fairlead("k8s", "manifests", "--image", imageName+":1.0", "--backend", "--gateway-class")
	for i, lb := range w.rack.Balancers {
		snat, tunnel := fmt.Sprintf("198.18.10.%d", 2*i+2), fmt.Sprintf("198.18.10.%d", 2*i+3)
		for old, with := range map[string]string{
			fmt.Sprintf("address = %q", snat):       fmt.Sprintf("address = %q\n    [[snat]]\n    address = %q", w.rack.SNAT4(i+1), w.rack.SNAT6(i+1)),
			fmt.Sprintf("source_ipv4 = %q", tunnel): fmt.Sprintf("source_ipv4 = %q\n    source_ipv6 = %q", lb.IPv4, lb.IPv6),
		} {
			if strings.Count(shipped, old) != 1 {
				w.t.Fatalf("the shipped configuration has no %s", old)
			}
			shipped = strings.Replace(shipped, old, with, 1)
		}
	}
	shipped = strings.Replace(shipped, "--from=198.18.10.0/24", "--from=198.18.0.0/24", 1)
	w.must(w.api.Apply(w.ctx, shipped))
	w.kubectl("-n", "fairlead-system", "create", "secret", "generic", "fairlead-cluster-key", "--from-literal=cluster.key="+w.fairlead("cluster", "key", "generate"))
	return shipped
}

// TestDaemonSet has Fairlead run in a cluster by the manifests that are shipped.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	w := balancerNodes(t)
	w.install()
	out, err := w.api.Kubectl(w.ctx, "-n", "fairlead-system", "rollout", "status", "daemonset/fairlead", "--timeout=20s")
	t.Log(out, err)
	t.Log(w.kubectl("-n", "fairlead-system", "get", "pods", "-o", "wide"))
	for _, pod := range strings.Fields(w.kubectl("-n", "fairlead-system", "get", "pods", "-l", "app.kubernetes.io/component=node", "-o", "name")) {
		out, err := w.api.Kubectl(w.ctx, "-n", "fairlead-system", "exec", pod, "--", "fairlead", "k8s", "status")
		t.Log(out, err)
		out, err = w.api.Kubectl(w.ctx, "-n", "fairlead-system", "exec", pod, "--", "fairlead", "doctor")
		t.Log(out, err)
	}
}
