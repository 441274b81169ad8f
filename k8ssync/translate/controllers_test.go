package translate

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"fairlead/k8ssync/kube"
	kubelab "fairlead/perf/kube"
)

// controllers is a Service with two pods in a real API server, whose EndpointSlices
// the real controller writes. What a kubelet would say of the pods, the test says.
type controllers struct {
	t        *testing.T
	client   *kubernetes.Clientset
	settings kube.Settings
	method   kube.Method
}

func withControllers(t *testing.T) *controllers {
	control := kubelab.ForTest(t, kubelab.Config{
		Controllers:     true,
		ControllerFlags: []string{"--node-monitor-grace-period=1h", "--node-startup-grace-period=1h"}, // no kubelet is there to report
	})
	client, err := kubernetes.NewForConfig(control.REST())
	if err != nil {
		t.Fatal(err)
	}
	c := &controllers{t: t, client: client}
	c.node("n1", "east", "192.0.2.11")
	c.node("n2", "west", "192.0.2.12")
	c.pod("a", "n1", 8080, "198.18.128.2", "2001:db8:b0::2")
	c.pod("b", "n2", 9090, "198.18.128.3", "2001:db8:b0::3")
	s, err := client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Finalizers: []string{kube.Finalizer}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr(kube.Class), IPFamilyPolicy: ptr(corev1.IPFamilyPolicyRequireDualStack),
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	vips("203.0.113.7", "2001:db8:7::7")(s)
	if _, err := client.CoreV1().Services("default").Patch(t.Context(), s.Name, types.MergePatchType, c.status(s.Status), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *controllers) node(name, zone, address string) {
	c.t.Helper()
	n, err := c.client.CoreV1().Nodes().Create(c.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := c.client.CoreV1().Nodes().Patch(c.t.Context(), name, types.StrategicMergePatchType, c.status(n.Status), metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// pod makes a pod that calls its port http.
func (c *controllers) pod(name, node string, port int32, addresses ...string) {
	c.t.Helper()
	_, err := c.client.CoreV1().Pods("default").Create(c.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: "web", Image: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: addresses[0], Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	for _, a := range addresses {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: a})
	}
	c.podStatus(name, status)
}

func (c *controllers) podStatus(name string, status corev1.PodStatus) {
	c.t.Helper()
	if _, err := c.client.CoreV1().Pods("default").Patch(c.t.Context(), name, types.StrategicMergePatchType, c.status(status), metav1.PatchOptions{}, "status"); err != nil {
		c.t.Fatal(err)
	}
}

// status is a patch, which does not mind that controllers write, too.
func (c *controllers) status(v any) []byte {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"status": v})
	if err != nil {
		c.t.Fatal(err)
	}
	return patch
}

// readiness is what the kubelet finds by a probe.
func (c *controllers) readiness(pod string, status corev1.ConditionStatus) {
	c.t.Helper()
	c.podStatus(pod, corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}})
}

func (c *controllers) end(pod string, grace int64) {
	c.t.Helper()
	if err := c.client.CoreV1().Pods("default").Delete(c.t.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *controllers) patch(spec string) {
	c.t.Helper()
	if _, err := c.client.CoreV1().Services("default").Patch(c.t.Context(), "web", types.MergePatchType, []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// now translates what the API server has at the moment.
func (c *controllers) now() Output {
	c.t.Helper()
	in := Input{Settings: c.settings, Options: kube.Options{Method: c.method}}
	var err error
	if in.Service, err = c.client.CoreV1().Services("default").Get(c.t.Context(), "web", metav1.GetOptions{}); err != nil {
		c.t.Fatal(err)
	}
	all, err := c.client.DiscoveryV1().EndpointSlices("default").List(c.t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range all.Items {
		in.Slices = append(in.Slices, &all.Items[i])
	}
	nodes, err := c.client.CoreV1().Nodes().List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var list []*corev1.Node
	for i := range nodes.Items {
		list = append(list, &nodes.Items[i])
	}
	in.Nodes = NodesOf(list)
	return run(c.t, in)
}

// becomes waits until the IPv4 backends are these.
func (c *controllers) becomes(what, want string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	for {
		got := text(pool(c.t, c.now(), "tcp-80/ipv4"))
		if got == want {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s: backends are %q, want %q", what, got, want)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestWithRealControllers: what the EndpointSlice controller writes means what this
// package takes it for.
func TestWithRealControllers(t *testing.T) {
	c := withControllers(t)
	c.becomes("named ports that differ by pod", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")
	expect(t, c.now(), "tcp-80/ipv6", "a [2001:db8:b0::2]:8080*1, b [2001:db8:b0::3]:9090*1")

	c.settings.Zone = "east"
	c.becomes("no hints without trafficDistribution", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")
	for _, d := range []string{"PreferSameZone", "PreferClose", "PreferSameNode"} {
		c.patch(`{"trafficDistribution":"` + d + `"}`)
		c.becomes(d, "a 198.18.128.2:8080*1, b 198.18.128.3:9090*0")
	}
	c.settings.Zone = ""
	c.becomes("a balancer without a zone", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")
	c.patch(`{"trafficDistribution":null}`)

	c.readiness("b", corev1.ConditionFalse)
	c.becomes("b is not ready", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*0")
	c.patch(`{"publishNotReadyAddresses":true}`)
	c.becomes("publishNotReadyAddresses", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")
	c.patch(`{"publishNotReadyAddresses":false}`)
	c.becomes("b is not ready again", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*0")

	c.method = ""
	c.patch(`{"externalTrafficPolicy":"Local"}`)
	c.becomes("Local goes to nodes", "n1 192.0.2.11*1, n2 192.0.2.12*0")
	if out := c.now(); out.IPMode != kube.ModeVIP || whole(out).Pools[0].Check == nil || whole(out).Pools[0].Check.Port < 30000 {
		t.Errorf("ipMode %s, check %+v", out.IPMode, whole(out).Pools[0].Check)
	}
	c.patch(`{"externalTrafficPolicy":"Cluster"}`)
	c.readiness("b", corev1.ConditionTrue)
	c.becomes("b is ready", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")

	c.end("a", 300)
	c.becomes("a terminates", "a 198.18.128.2:8080*0, b 198.18.128.3:9090*1")
	c.end("b", 300)
	c.becomes("all terminate and serve", "a 198.18.128.2:8080*1, b 198.18.128.3:9090*1")
	c.readiness("a", corev1.ConditionFalse)
	c.becomes("a terminates and fails its probe", "a 198.18.128.2:8080*0, b 198.18.128.3:9090*1")
	c.end("a", 0)
	c.becomes("a is gone", "b 198.18.128.3:9090*1")
	c.end("b", 0)
	c.becomes("all are gone", "")
}
