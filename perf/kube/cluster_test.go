package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/perf/lab/traffic"
)

const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: lab/server:1
        args: [-linger=500ms]
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
`

// ready waits until so many endpoints are ready and others are not, and returns
// their IPv4 addresses by pod.
func ready(t *testing.T, c *Cluster, service string, n int, not ...string) map[string]netip.Addr {
	t.Helper()
	var all map[string]netip.Addr
	eventually(t, func(ctx context.Context) error {
		found, err := c.Client().DiscoveryV1().EndpointSlices("default").List(ctx, meta.ListOptions{LabelSelector: discovery.LabelServiceName + "=" + service})
		if err != nil {
			return err
		}
		all = map[string]netip.Addr{}
		for _, s := range found.Items {
			for _, e := range s.Endpoints {
				if s.AddressType == discovery.AddressTypeIPv4 && *e.Conditions.Ready {
					all[e.TargetRef.Name] = netip.MustParseAddr(e.Addresses[0])
				}
			}
		}
		if len(all) != n || slices.ContainsFunc(not, func(name string) bool { return all[name].IsValid() }) {
			pods, err := c.Kubectl(ctx, "get", "pods", "-o", "wide")
			return fmt.Errorf("ready endpoints of %s: %v, want %d without %v; %w\n%s", service, all, n, not, err, pods)
		}
		return nil
	})
	return all
}

// TestCluster: a Deployment's pods are processes that answer on both families by
// way of their nodes, whose readiness, crashes, rolling updates and graceful ends
// the real controllers see and drive.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := ClusterForTest(t, ClusterConfig{Nodes: 2, Zones: []string{"east", "west"}})
	ctx := t.Context()
	if err := c.Apply(ctx, webManifest); err != nil {
		t.Fatal(err)
	}
	client := c.Rack.Client.Host
	pods := ready(t, c, "web", 3)
	for name, address := range pods {
		tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(address, 8080), Connections: 3}.Run(ctx, client)
		if err := tally.Err(); err != nil || tally.ByServer[name] != 3 || tally.Clients[c.Rack.Client.IPv4] != 3 {
			t.Errorf("%s at %s: %v; answers %v to %v", name, address, err, tally.ByServer, tally.Clients)
		}
		pod, err := c.Client().CoreV1().Pods("default").Get(ctx, name, meta.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tally = traffic.HTTPLoad{Target: netip.AddrPortFrom(netip.MustParseAddr(pod.Status.PodIPs[1].IP), 8080), Connections: 3}.Run(ctx, client)
		if err := tally.Err(); err != nil || tally.Clients[c.Rack.Client.IPv6] != 3 {
			t.Errorf("%s by IPv6: %v; clients %v", name, err, tally.Clients)
		}
	}
	if a, b := c.Nodes[0].Pods(), c.Nodes[1].Pods(); len(a)+len(b) != 3 || len(a) == 0 || len(b) == 0 {
		t.Errorf("pods %v on the first node and %v on the second, want them spread", a, b)
	}

	var one string
	for name := range pods {
		one = name
	}
	t.Run("kubectl exec and logs", func(t *testing.T) {
		out, err := c.Kubectl(ctx, "exec", one, "--", "/bin/sh", "-c", "hostname; exit 0")
		if err != nil || out != one+"\n" {
			t.Errorf("exec prints %q, %v", out, err)
		}
		if _, err := c.Kubectl(ctx, "exec", one, "--", "/bin/sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "command terminated with exit code 7") {
			t.Errorf("exec of what fails: %v", err)
		}
		if out, err := c.Kubectl(ctx, "logs", one); err != nil || out != "serving as "+one+"\n" {
			t.Errorf("logs print %q, %v", out, err)
		}
	})
	t.Run("unready and ready", func(t *testing.T) {
		tell(t, c, pods[one], "/unready")
		ready(t, c, "web", 2, one)
		tell(t, c, pods[one], "/ready")
		ready(t, c, "web", 3)
	})
	t.Run("crash", func(t *testing.T) {
		if err := c.Crash("default", one); err != nil {
			t.Fatal(err)
		}
		eventually(t, func(ctx context.Context) error {
			pod, err := c.Client().CoreV1().Pods("default").Get(ctx, one, meta.GetOptions{})
			if err != nil {
				return err
			}
			s := pod.Status.ContainerStatuses[0]
			if last := s.LastTerminationState.Terminated; s.RestartCount != 1 || !s.Ready || last == nil || last.ExitCode != 137 || last.Signal != 9 {
				return fmt.Errorf("status %+v", s)
			}
			return nil
		})
		ready(t, c, "web", 3)
	})
	t.Run("graceful end", func(t *testing.T) {
		pinger, err := traffic.StartPinger(ctx, client, traffic.PingerConfig{Target: netip.AddrPortFrom(pods[one], 8007), Interval: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Client().CoreV1().Pods("default").Delete(ctx, one, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		// The pod serves the connection it has while another takes its place.
		ready(t, c, "web", 3, one)
		if _, err := c.PodHost("default", one); err != nil {
			t.Error(err)
		}
		report, err := pinger.Stop(ctx)
		if err != nil {
			t.Errorf("the connection to a pod that ends: %v, %+v", err, report)
		}
		eventually(t, func(ctx context.Context) error {
			if _, err := c.PodHost("default", one); err == nil {
				return fmt.Errorf("%s is still there", one)
			}
			return nil
		})
	})
	t.Run("rolling update", func(t *testing.T) {
		before := ready(t, c, "web", 3)
		if _, err := c.Kubectl(ctx, "set", "env", "deployment/web", "VERSION=2"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=60s"); err != nil {
			t.Fatal(err)
		}
		ready(t, c, "web", 3, slices.Collect(maps.Keys(before))...)
	})
	t.Run("node failure", func(t *testing.T) {
		on := c.Nodes[1].Pods()
		if err := c.Nodes[1].Fail(); err != nil {
			t.Fatal(err)
		}
		if got := c.Nodes[1].Pods(); len(got) != 0 || len(on) == 0 {
			t.Errorf("pods of a dead node: %v; before %v", got, on)
		}
	})
	if t.Failed() {
		out, err := c.Kubectl(context.WithoutCancel(ctx), "get", "pods,endpointslices", "-o", "wide")
		t.Log(out, err)
	}
}

// tell asks a pod's server for a path.
func tell(t *testing.T, c *Cluster, pod netip.Addr, path string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		conn, err := c.Rack.Client.Dial(ctx, "tcp", netip.AddrPortFrom(pod, 8080).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			return err
		}
		answer := make([]byte, 64)
		n, err := conn.Read(answer)
		if err != nil || !strings.Contains(string(answer[:n]), " 200 ") {
			return errors.Join(err, fmt.Errorf("answer %q", answer[:n]))
		}
		return nil
	})
}
