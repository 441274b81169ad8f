package rbac

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/setup"
	"fairlead/k8ssync/v1alpha1"
)

const services = `
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: default, annotations: {fairlead.io/sharing-key: k}}
spec: {type: %[3]s, %[4]sipFamilyPolicy: PreferDualStack, ports: [{name: p, port: %[2]d, protocol: TCP}], selector: {app: web}}
`

const gatewayGroup = "gateway.networking.k8s.io"

const class = "loadBalancerClass: fairlead.io/lb, "

const gateways = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.io/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: default}
spec:
  gatewayClassName: fairlead
  listeners: [{name: tcp, port: 81, protocol: TCP}, {name: udp, port: 82, protocol: UDP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp, namespace: default}
spec: {parentRefs: [{name: edge, sectionName: tcp}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: udp, namespace: default}
spec: {parentRefs: [{name: edge, sectionName: udp}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`

// leftovers are reservations of objects that do not want them: of a Service that is
// no more, and of a Gateway that is another's.
const leftovers = `
apiVersion: fairlead.io/v1alpha1
kind: AddressReservation
metadata: {name: 192.0.2.9}
spec: {address: 192.0.2.9, pool: p, holders: [{kind: Service, namespace: default, name: ghost}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: theirs}
spec: {controllerName: example.com/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: theirs, namespace: default}
spec: {gatewayClassName: theirs, listeners: [{name: tcp, port: 81, protocol: TCP}]}
---
apiVersion: fairlead.io/v1alpha1
kind: AddressReservation
metadata: {name: 192.0.2.10}
spec: {address: 192.0.2.10, pool: p, holders: [{kind: Gateway, namespace: default, name: theirs}]}
`

// TestRoles runs a node, `fairlead run` with the service account's token, through all
// that nodes do: first with the shipped roles, then with those that the chart makes
// with everything optional the other way round. It fails on what the node may not do,
// and on what it may do and never does.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	rules := w.grant(w.shipped("rbac.yaml"))
	w.everything(rules)
	w.refused(w.asked())
	for _, r := range unused(rules, w.asked()) {
		t.Errorf("may, and never does: %s", r)
	}
	w.options(rules)
}

// everything has a node do all that a node does.
func (w *world) everything(rules []setup.Rule) {
	w.run("")
	const pool = "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: p}\nspec: {addresses: [192.0.2.0/28, 2001:db8:1::/120]}\n"
	w.apply(pool)
	w.apply(fmt.Sprintf(services, "web", 80, "LoadBalancer", class))
	w.assigned("web")
	w.apply(fmt.Sprintf(services, "other", 8080, "LoadBalancer", class)) // shares the address
	w.assigned("other")

	w.apply(gateways)
	w.eventually("the Gateway has an address", begins("192.0.2."), "get", "gateway", "edge", "-o", "jsonpath={.status.addresses[0].value}")
	w.eventually("the routes are taken", is("True"), "get", "udproute", "udp", "-o", "jsonpath={.status.parents[0].conditions[?(@.type==\"Accepted\")].status}")

	w.stop() // and another process takes over, and finds what is left of a crash
	w.apply(leftovers)
	w.run("")
	w.eventually("what was left is taken back", func(s string) bool {
		return !strings.Contains(s, "192.0.2.9\n") && !strings.Contains(s, "192.0.2.10\n")
	}, "get", "addressreservations", "-o", "name")
	w.apply("apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: q}\nspec: {addresses: [198.51.100.0/24]}\n")
	w.eventually("the admission policy knows the new pool", func(s string) bool { return strings.Contains(s, "198.51.100.0/24") }, "-n", namespace, "get", "configmap", "fairlead-addresses", "-o", "yaml")
	for round := 1; len(unused(rules, w.asked())) > 0 && round <= 6 && w.ctx.Err() == nil; round++ {
		w.contend()
	}
	w.kubectl("delete", "service/web", "service/other", "gateway/edge", "gateway/theirs", "gatewayclass/fairlead")
	w.eventually("all is given back", is(""), "get", "addressreservations", "-o", "name")
	w.stop()
}

// contend has a Service change its type, and back, while somebody else writes its
// reservation all the time, so that there are conflicts.
func (w *world) contend() {
	objects, err := v1alpha1.NewClient(w.control.REST())
	w.must(err)
	enough, idle := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(idle)
		for i := 0; ; i++ {
			select {
			case <-enough:
				return
			default:
			}
			label := fmt.Appendf(nil, `{"metadata":{"labels":{"i":"%d"}}}`, i)
			if _, err := objects.Reservations().Patch(w.ctx, "192.0.2.0", types.MergePatchType, label, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
				w.t.Error(err)
				return
			}
		}
	}()
	defer func() { close(enough); <-idle }()
	w.apply(fmt.Sprintf(services, "web", 80, "ClusterIP", ""))
	w.eventually("web is let go", is(""), "get", "service", "web", "-o", "jsonpath={.metadata.finalizers[*]}")
	w.apply(fmt.Sprintf(services, "web", 80, "LoadBalancer", class))
	w.assigned("web")
}

// options has a node read weights of pods and serve no Gateways, with the roles that
// the chart makes for that, and demands that these have what is needed and not what
// is not.
func (w *world) options(shipped []setup.Rule) {
	before := len(w.asked())
	for _, r := range w.asked() {
		if r.ObjectRef.Resource == "pods" {
			w.t.Errorf("without pod_weights it has asked for pods: %s", &r)
		}
	}
	rules := w.grant(w.rendered("kubernetes.podWeights=true,kubernetes.gateway=false"))
	w.until(true, "watch", "pods")
	w.until(false, "patch", "gateways.gateway.networking.k8s.io")
	var added []setup.Rule
	for _, r := range rules {
		if !slices.Contains(shipped, r) {
			added = append(added, r)
		}
	}
	if got := fmt.Sprint(added); got != "[list pods watch pods]" {
		w.t.Errorf("with pod weights the chart gives %s more", got)
	}
	for _, r := range shipped {
		if ofGateways := strings.HasSuffix(r.Group, gatewayGroup) || strings.HasSuffix(r.Name, gatewayGroup); ofGateways == slices.Contains(rules, r) {
			w.t.Errorf("without the Gateway API: given %s: %v", r, !ofGateways)
		}
	}
	w.run("pod_weights = true\ngateway = false\n")
	w.apply(fmt.Sprintf(services, "weighted", 80, "LoadBalancer", class))
	w.assigned("weighted")
	w.measures(`fairlead_kubernetes_writer 1`, `fairlead_kubernetes_unserved 0`, `fairlead_kubernetes_unprogrammed 0`,
		`fairlead_kubernetes_pool_addresses{family="ipv4",pool="p",state="assigned"} 1`, `fairlead_kubernetes_pool_addresses{family="ipv4",pool="p",state="free"} 15`,
		`fairlead_kubernetes_pool_addresses{family="ipv6",pool="p",state="assigned"} 1`, `fairlead_kubernetes_pool_addresses{family="ipv4",pool="q",state="free"} 256`)
	w.kubectl("delete", "service/weighted")
	w.stop()
	requests := w.asked()[before:]
	w.refused(requests)
	for _, r := range unused(added, requests) {
		w.t.Errorf("with pod_weights it may, and never does: %s", r)
	}
	for _, r := range requests {
		if r.ObjectRef.APIGroup == gatewayGroup || r.ObjectRef.Resource == "customresourcedefinitions" {
			w.t.Errorf("without the Gateway API it has asked for it: %s", &r)
		}
	}
}
