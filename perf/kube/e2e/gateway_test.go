package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/perf/lab/traffic"
)

// gatewayKinds are the definitions that this test needs, by the plural of their kinds.
var gatewayKinds = []string{"gatewayclasses", "gateways", "tcproutes", "udproutes", "referencegrants"}

// installGatewayAPI makes the Gateway API known to the API server.
func (w *world) installGatewayAPI() {
	w.t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	w.must(err)
	for _, kind := range gatewayKinds {
		file := filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard", "gateway.networking.k8s.io_"+kind+".yaml")
		w.kubectl("apply", "--server-side", "-f", file)
	}
	w.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

// plainService is a Service that pods are named by, and no more.
func plainService(namespace, name string, ports ...corev1.ServicePort) *corev1.Service {
	s := newService(namespace, name, ports...)
	s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
	return s
}

// gatewayVIPs waits until a Gateway has so many addresses.
func (w *world) gatewayVIPs(namespace, name string, n int) (all []netip.Addr) {
	w.t.Helper()
	w.until(fmt.Sprintf("gateway %s/%s has %d addresses", namespace, name, n), func() string {
		out := w.kubectl("get", "gateway", "-n", namespace, name, "-o", "json")
		var gateway struct {
			Status struct{ Addresses []struct{ Value string } }
		}
		w.must(json.Unmarshal([]byte(out), &gateway))
		all = nil
		for _, a := range gateway.Status.Addresses {
			vip, err := netip.ParseAddr(a.Value)
			w.must(err)
			all = append(all, vip)
		}
		if len(all) != n {
			return out
		}
		return ""
	})
	return all
}

// TestGateway has a Gateway with a TCP and a UDP listener, whose routes spread over two
// Services by weight, by way of a ReferenceGrant, and changes them under traffic. The
// definitions of the Gateway API are installed after the node has started.
func TestGateway(t *testing.T) {
	t.Parallel()
	// Nothing is looked at just because time has passed.
	w := startWorld(t, worldConfig{options: "resync = \"24h\"\n"})
	w.namespace("edge")
	w.namespace("apps")
	w.installGatewayAPI()
	b := w.rack.Backends
	for i, name := range []string{"blue", "green"} {
		s := w.create(plainService("apps", name, webPort(), namePort()))
		w.endpoints(s, ready(b[i]))
	}
	manifest := func(blue, green int) string {
		return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.io/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: edge, name: front}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: web, protocol: TCP, port: 80}
  - {name: name, protocol: UDP, port: 53}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {namespace: apps, name: edge}
spec:
  from:
  - {group: gateway.networking.k8s.io, kind: TCPRoute, namespace: edge}
  - {group: gateway.networking.k8s.io, kind: UDPRoute, namespace: edge}
  to: [{group: "", kind: Service}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {namespace: edge, name: web}
spec:
  parentRefs: [{name: front, sectionName: web}]
  rules:
  - backendRefs:
    - {namespace: apps, name: blue, port: 80, weight: %[1]d}
    - {namespace: apps, name: green, port: 80, weight: %[2]d}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {namespace: edge, name: name}
spec:
  parentRefs: [{name: front, sectionName: name}]
  rules:
  - backendRefs:
    - {namespace: apps, name: blue, port: 53, weight: %[1]d}
    - {namespace: apps, name: green, port: 53, weight: %[2]d}
`, blue, green)
	}
	w.must(w.api.Apply(w.ctx, manifest(3, 1)))
	vip := w.gatewayVIPs("edge", "front", 1)[0]
	// Three of four go to blue: of 400, 300 with a standard deviation of 9.
	thirds := func(tally *traffic.Tally) {
		t.Helper()
		if got := tally.ByServer[b[0].Name]; got < 240 || got > 360 {
			t.Errorf("of 400, %s answered %d, want some 300", b[0].Name, got)
		}
	}
	w.untilServed(vip, "tcp 80", 2)
	w.untilServed(vip, "udp 53", 2)
	thirds(w.web(vip, 400))
	thirds(w.ask(vip, 400))

	load := w.load(vip)
	w.must(w.api.Apply(w.ctx, manifest(0, 1)))
	w.until("green alone answers", func() string {
		if tally := w.web(vip, 20); tally.ByServer[b[1].Name] != 20 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
	// Endpoints of a route's Service are followed.
	green := newService("apps", "green", webPort(), namePort())
	green.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	w.endpoints(green, ready(b[1]), ready(b[2]))
	w.until("both endpoints of green answer", func() string {
		if tally := w.web(vip, 40); len(tally.ByServer) != 2 || tally.ByServer[b[0].Name] > 0 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
	load.goOn(20)
	load.end()
	// Without the grant, nothing is let through.
	w.kubectl("delete", "referencegrant", "-n", "apps", "edge")
	w.until("the route reaches nobody", func() string {
		one := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 1, Timeout: 300 * time.Millisecond}
		if tally := one.Run(w.ctx, w.rack.Client.Host); tally.Failed() == 0 {
			return fmt.Sprint(tally.ByServer)
		}
		return ""
	})
	w.must(w.api.Apply(w.ctx, manifest(1, 1)))
	w.untilServed(vip, "tcp 80", 3)
	w.web(vip, 40)
	if now := w.gatewayVIPs("edge", "front", 1); !slices.Equal(now, []netip.Addr{vip}) {
		t.Errorf("addresses %v, want %s as before", now, vip)
	}
	w.waitsForAddress()
	w.kubectl("delete", "gateway", "-n", "edge", "front")
	w.untilServed(vip, "tcp 80", -1)
	w.until("no address is reserved", func() string {
		if left := w.reserved(); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	w.balance("service_not_found", "service_empty", "backend_gone", "flow_not_found", "tcp_not_syn")
}

// waitsForAddress: a Gateway and a Service that ask for an address that the other kind
// has get it as soon as it is given back.
func (w *world) waitsForAddress() {
	w.t.Helper()
	vip := w.rack.VIP4(70)
	asking := func(name string) *corev1.Service {
		return annotated(newService("edge", name, port("web", corev1.ProtocolTCP, 81, httpPort)), "fairlead.io/addresses", vip.String())
	}
	gateway := func(name string) {
		w.must(w.api.Apply(w.ctx, fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: edge, name: %s}
spec:
  gatewayClassName: fairlead
  addresses: [{type: IPAddress, value: %s}]
  listeners: [{name: web, protocol: TCP, port: 81}]
`, name, vip)))
	}
	first := w.create(asking("first"))
	w.assigned(first, 1)
	gateway("waits")
	w.until("the Gateway is told that the address is taken", func() string {
		out := w.kubectl("get", "gateway", "-n", "edge", "waits", "-o", `jsonpath={.status.conditions[?(@.type=="Programmed")]}`)
		if strings.Contains(out, `"reason":"AddressNotUsable"`) && strings.Contains(out, vip.String()) {
			return ""
		}
		return out
	})
	w.remove(first)
	if got := w.gatewayVIPs("edge", "waits", 1)[0]; got != vip {
		w.t.Errorf("the Gateway has %s, want %s", got, vip)
	}
	second := w.create(asking("second"))
	w.until("the Service is told that the address is taken", func() string {
		for _, c := range w.read(second).Status.Conditions {
			if c.Status == metav1.ConditionFalse && strings.Contains(c.Message, vip.String()) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", w.read(second).Status)
	})
	w.kubectl("delete", "gateway", "-n", "edge", "waits")
	if got := w.assigned(second, 1)[0]; got != vip {
		w.t.Errorf("the Service has %s, want %s", got, vip)
	}
	w.remove(second)
	// A Gateway whose finalizer somebody takes off gives its address back all the same.
	gateway("torn")
	w.gatewayVIPs("edge", "torn", 1)
	third := w.create(asking("third"))
	w.kubectl("delete", "gateway", "-n", "edge", "torn", "--wait=false")
	// It fails when the finalizer was quicker.
	_, _ = w.api.Kubectl(w.ctx, "patch", "gateway", "-n", "edge", "torn", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	w.assigned(third, 1)
	w.remove(third)
}
