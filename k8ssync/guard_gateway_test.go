package k8ssync

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead/k8ssync/gateway"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/translate"
	kubelab "fairlead/perf/kube"
)

// installGatewayAPI makes the Gateway API known to an API server.
func installGatewayAPI(t *testing.T, plane *kubelab.ControlPlane) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"apply", "--server-side"}
	for _, kind := range []string{"gatewayclasses", "gateways", "tcproutes", "udproutes", "referencegrants"} {
		args = append(args, "-f", filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard", "gateway.networking.k8s.io_"+kind+".yaml"))
	}
	kubectl(t, plane, args...)
	kubectl(t, plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

func kubectl(t *testing.T, plane *kubelab.ControlPlane, args ...string) {
	t.Helper()
	if out, err := plane.Kubectl(t.Context(), args...); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// routed has a Gateway with an address and a route to a Service with one endpoint.
func (w *world) routed(plane *kubelab.ControlPlane, name string, n int) {
	w.t.Helper()
	if err := plane.Apply(w.t.Context(), fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {namespace: %[1]s, name: %[2]s}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: %[3]s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: %[1]s, name: %[2]s, finalizers: [%[4]s]}
spec:
  gatewayClassName: fairlead
  listeners: [{name: web, protocol: TCP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {namespace: %[1]s, name: %[2]s}
spec:
  parentRefs: [{name: %[2]s}]
  rules: [{backendRefs: [{name: %[2]s, port: 80}]}]
`, w.ns, name, gateway.ControllerName, gateway.Finalizer)); err != nil {
		w.t.Fatal(err)
	}
	w.endpoints(name, "198.18.0.1")
	kubectl(w.t, plane, "patch", "gateway", "-n", w.ns, name, "--subresource=status", "--type=merge", "-p",
		fmt.Sprintf(`{"status":{"addresses":[{"type":"IPAddress","value":%q}]}}`, w.vip(n)))
}

// Gateways that an API server has forgotten stay in force, too: those whose kind it
// does not even know any more, and those whose route alone is missing. What somebody
// deletes is removed at once.
func TestGatewaysThatKubernetesForgetsStayForAWhile(t *testing.T) {
	first, second := kubelab.ForTest(t, kubelab.Config{}), kubelab.ForTest(t, kubelab.Config{})
	installGatewayAPI(t, first)
	w := newWorldOf(t, first)
	for i, name := range []string{"one", "two", "deleted"} {
		w.routed(first, name, i+1)
	}
	// Its database is to be older.
	for i := range 400 {
		if _, err := w.client.CoreV1().ConfigMaps(w.ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cfg, stop, turn := eitherOf(t, first, second)
	var ahead atomic.Int64
	sink := newMemory()
	s := w.start(sink, func(c *Config) {
		c.Settings.Gateway, c.REST = true, cfg
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	group := func(name string) string {
		return translate.GroupName(kube.Key{Kind: kube.Gateway, Namespace: w.ns, Name: name}, corev1.IPv4Protocol)
	}
	const in = "198.18.0.1:8080*1"
	w.until("in force", func() bool {
		return sink.backends(group("one")) == in && sink.backends(group("two")) == in && sink.backends(group("deleted")) == in
	})
	kubectl(t, first, "patch", "gateway", "-n", w.ns, "deleted", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	kubectl(t, first, "delete", "gateway", "-n", w.ns, "deleted")
	w.until("what somebody deletes is removed", func() bool { return sink.backends(group("deleted")) == "none" })
	kubectl(t, first, "delete", "tcproute", "-n", w.ns, "two")
	w.until("a route that somebody deletes is followed", func() bool { return sink.backends(group("two")) == "" })
	w.routed(first, "two", 2)
	w.until("in force again", func() bool { return sink.backends(group("two")) == in })

	// An empty database.
	stop()
	w.until("away", func() bool { return !s.Status().Connection.Connected })
	turn()
	w.until("held", func() bool { return s.Status().Connection.Connected && len(s.Status().Held) == 2 })
	installGatewayAPI(t, second)
	// One of the two is restored, without its route.
	other, err := kubernetes.NewForConfig(second.REST())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.client = other
	w.routed(second, "two", 2)
	w.until("it is held no longer", func() bool { return len(s.Status().Held) == 1 })
	if sink.backends(group("one")) != in || sink.backends(group("two")) != in {
		t.Errorf("in force: %s, %s", sink.backends(group("one")), sink.backends(group("two")))
	}
	// What is told of later may be held anew, so time goes on and on.
	w.until("what is still missing is removed", func() bool {
		ahead.Add(int64(holdFor))
		return sink.backends(group("one")) == "none" && sink.backends(group("two")) == in && len(s.Status().Held) == 0
	})
}
