package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/kube"
	"fairlead/perf/lab/traffic"
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

// fairleadPods are the pods of Fairlead's nodes that run, by their nodes.
func (w *world) fairleadPods() map[string]corev1.Pod {
	w.t.Helper()
	list, err := w.kube.CoreV1().Pods("fairlead-system").List(w.ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=node"})
	w.must(err)
	pods := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods[p.Spec.NodeName] = p
		}
	}
	return pods
}

// inPod runs a command of Fairlead in the pod of a node.
func (w *world) inPod(node string, args ...string) (string, error) {
	w.t.Helper()
	pod := w.fairleadPods()[node]
	return w.api.Kubectl(w.ctx, append([]string{"-n", "fairlead-system", "exec", pod.Name, "--", "fairlead"}, args...)...)
}

// nodesRolledOut waits until all pods of Fairlead are ready.
func (w *world) nodesRolledOut() {
	w.t.Helper()
	for _, name := range []string{"fairlead", "fairlead-backend"} {
		out, err := w.api.Kubectl(w.ctx, "-n", "fairlead-system", "rollout", "status", "daemonset/"+name, "--timeout=120s")
		if err == nil {
			continue
		}
		w.t.Log(out, w.kubectl("-n", "fairlead-system", "describe", "pods"))
		w.t.Log(w.kubectl("-n", "fairlead-system", "logs", "-l", "app.kubernetes.io/component", "--tail=60"))
		w.t.Fatal(err)
	}
}

// untilAsked waits until the client's requests to VIPs are answered by so many pods.
func (w *world) untilAsked(pods int, vips ...netip.Addr) {
	w.t.Helper()
	for _, vip := range vips {
		w.until(fmt.Sprintf("%d pods answer at %s", pods, vip), func() string {
			one := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 40, Parallel: 8, Timeout: time.Second}
			tally := one.Run(w.ctx, w.rack.Client.Host)
			if tally.Err() != nil || len(tally.ByServer) != pods {
				return fmt.Sprint(tally.ByServer, tally.Err())
			}
			return ""
		})
	}
}
