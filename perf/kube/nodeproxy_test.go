package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/perf/lab/traffic"
)

const proxiedManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: lab/server, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  loadBalancerClass: example.com/none
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: any}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
`

// TestKubeProxy: the nodes' own balancer takes what is sent to a node's port and
// to a VIP that a Service's status names, and a node answers whether it has an
// endpoint.
func TestKubeProxy(t *testing.T) {
	t.Parallel()
	c := ClusterForTest(t, ClusterConfig{Nodes: 2, KubeProxy: true})
	ctx := t.Context()
	if err := c.Apply(ctx, proxiedManifest); err != nil {
		t.Fatal(err)
	}
	ready(t, c, "web", 1)
	with, without := c.Nodes[0], c.Nodes[1]
	if len(with.Pods()) == 0 {
		with, without = without, with
	}
	client := c.Rack.Client
	load := func(target netip.AddrPort) (*traffic.Tally, error) {
		tally := traffic.HTTPLoad{Target: target, Connections: 5}.Run(ctx, client.Host)
		return tally, tally.Err()
	}
	for _, n := range c.Nodes {
		for _, address := range []netip.Addr{n.Host.IPv4, n.Host.IPv6} {
			eventually(t, func(context.Context) error {
				_, err := load(netip.AddrPortFrom(address, 30080))
				return err
			})
		}
	}

	vips := []netip.Addr{c.Rack.VIP4(1), c.Rack.VIP6(1)}
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q,"ipMode":"VIP"},{"ip":%q,"ipMode":"VIP"}]}}}`, vips[0], vips[1])
	service, err := c.Client().CoreV1().Services("default").Patch(ctx, "web", types.MergePatchType, []byte(patch), meta.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	for i, vip := range vips {
		via, own := with.Host.IPv4, client.IPv4
		if i == 1 {
			via, own = with.Host.IPv6, client.IPv6
		}
		if err := client.AddRoute(whole(vip), via); err != nil {
			t.Fatal(err)
		}
		eventually(t, func(context.Context) error {
			tally, err := load(netip.AddrPortFrom(vip, 80))
			if err == nil && tally.Clients[own] != 5 {
				err = fmt.Errorf("the pod sees %v, want %s", tally.Clients, own)
			}
			return err
		})
	}
	for n, want := range map[*Node]int{with: http.StatusOK, without: http.StatusServiceUnavailable} {
		eventually(t, func(ctx context.Context) error { return health(ctx, n, service, want) })
	}
}

// health asks a node whether it has an endpoint of a Service.
func health(ctx context.Context, n *Node, service *core.Service, want int) error {
	transport := &http.Transport{DialContext: n.cluster.Rack.Client.Dial, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/healthz", n.Host.IPv4, service.Spec.HealthCheckNodePort), nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != want {
		return fmt.Errorf("%s answers %s, want %d", n.Name, answer.Status, want)
	}
	return nil
}
