package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests.
const patience = 60 * time.Second

func clientFor(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually polls cond until it is nil.
func eventually(t *testing.T, cond func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := cond(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", patience, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestControllers: the real controller makes EndpointSlices of a Service and of a
// pod that somebody says is ready, and of both families.
func TestControllers(t *testing.T) {
	t.Parallel()
	control := ForTest(t, Config{Controllers: true})
	client := clientFor(t, control.REST())
	ctx := t.Context()

	dual := core.IPFamilyPolicyRequireDualStack
	service, err := client.CoreV1().Services("default").Create(ctx, &core.Service{
		ObjectMeta: meta.ObjectMeta{Name: "web"},
		Spec: core.ServiceSpec{
			Type: core.ServiceTypeLoadBalancer, IPFamilyPolicy: &dual, Selector: map[string]string{"app": "web"},
			Ports: []core.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := service.Spec.ClusterIPs; len(got) != 2 {
		t.Errorf("cluster addresses %v, want one of each family", got)
	}

	if _, err := client.CoreV1().Nodes().Create(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{Name: "n1"}}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := client.CoreV1().Pods("default").Create(ctx, &core.Pod{
		ObjectMeta: meta.ObjectMeta{Name: "web-1", Labels: map[string]string{"app": "web"}},
		Spec: core.PodSpec{NodeName: "n1", Containers: []core.Container{{
			Name: "web", Image: "web", Ports: []core.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status = core.PodStatus{
		Phase: core.PodRunning, PodIP: "198.18.128.2", PodIPs: []core.PodIP{{IP: "198.18.128.2"}, {IP: "2001:db8:b0::2"}},
		Conditions: []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue}},
	}
	if _, err := client.CoreV1().Pods("default").UpdateStatus(ctx, pod, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		slices, err := client.DiscoveryV1().EndpointSlices("default").List(ctx, meta.ListOptions{LabelSelector: discovery.LabelServiceName + "=web"})
		if err != nil {
			return err
		}
		var got []string
		for _, s := range slices.Items {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready {
					got = append(got, fmt.Sprintf("%s port %d", e.Addresses[0], *s.Ports[0].Port))
				}
			}
		}
		if all := strings.Join(got, ", "); !strings.Contains(all, "198.18.128.2 port 8080") || !strings.Contains(all, "2001:db8:b0::2 port 8080") {
			return fmt.Errorf("ready endpoints: %s", all)
		}
		return nil
	})

	out, err := control.Kubectl(ctx, "get", "service", "web")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "LoadBalancer") || !strings.Contains(out, "<pending>") {
		t.Errorf("kubectl sees:\n%s", out)
	}
	version, err := control.Kubectl(ctx, "version")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(version) {
		if strings.Contains(line, "Version:") && !strings.Contains(line, "Kustomize") && !strings.Contains(line, "v1.36.3") {
			t.Errorf("version: %s", line)
		}
	}
	if _, err := control.Kubectl(ctx, "get", "service", "none"); err == nil || !strings.Contains(err.Error(), `services "none" not found`) {
		t.Errorf("kubectl's complaint: %v", err)
	}
}

// TestUsers: a user may do what a role says and nothing else, a service account
// is known by its token, and the audit log tells who has done what.
func TestUsers(t *testing.T) {
	t.Parallel()
	const policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: [somebody]\n"
	control := ForTest(t, Config{Audit: policy, Controllers: true})
	ctx := t.Context()
	if err := control.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: one}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: one}\n"); err != nil {
		t.Fatal(err)
	}
	admin := clientFor(t, control.REST())
	if _, err := admin.RbacV1().Roles("one").Create(ctx, &rbac.Role{
		ObjectMeta: meta.ObjectMeta{Name: "reader"},
		Rules:      []rbac.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services"}, Verbs: []string{"list"}}},
	}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RbacV1().RoleBindings("one").Create(ctx, &rbac.RoleBinding{
		ObjectMeta: meta.ObjectMeta{Name: "readers"}, RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: "reader"},
		Subjects: []rbac.Subject{{Kind: rbac.GroupKind, APIGroup: rbac.GroupName, Name: "readers"}, {Kind: rbac.ServiceAccountKind, Namespace: "one", Name: "robot"}},
	}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	somebody, err := control.User("somebody", "readers")
	if err != nil {
		t.Fatal(err)
	}
	robot, err := control.Account(ctx, "one", "robot")
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]*rest.Config{"user": somebody, "account": robot} {
		client := clientFor(t, cfg)
		eventually(t, func(ctx context.Context) error { // the authorizer learns of a role by a watch
			_, err := client.CoreV1().Services("one").List(ctx, meta.ListOptions{})
			return err
		})
		if _, err := client.CoreV1().Pods("one").List(ctx, meta.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s lists pods: %v, want it forbidden", name, err)
		}
	}
	log, err := os.ReadFile(control.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), `"username":"somebody"`); n < 2 || strings.Contains(string(log), "robot") {
		t.Errorf("the audit log has %d requests of somebody; it is:\n%s", n, log)
	}
}

// TestFaults: a killed API server comes back with its data, and a proxy cuts,
// refuses and freezes connections.
func TestFaults(t *testing.T) {
	t.Parallel()
	control := ForTest(t, Config{})
	ctx := t.Context()
	proxy, err := control.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := clientFor(t, proxy.REST(control.REST()))
	direct := clientFor(t, control.REST())
	configMap := func(name string) *core.ConfigMap { return &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name}} }
	maps := client.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("a"), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	watch, err := maps.Watch(ctx, meta.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	event := func() string {
		select {
		case e, open := <-watch.ResultChan():
			if !open {
				return "closed"
			}
			return string(e.Type) + " " + e.Object.(*core.ConfigMap).Name
		case <-time.After(patience):
			return "nothing"
		}
	}
	if got := event(); got != "ADDED a" {
		t.Fatalf("watch: %s", got)
	}
	proxy.Freeze()
	if _, err := direct.CoreV1().ConfigMaps("default").Create(ctx, configMap("b"), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := maps.Get(short, "a", meta.GetOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen proxy answers: %v", err)
	}
	proxy.Forward()
	if got := event(); got != "ADDED b" {
		t.Errorf("watch after frost: %s", got)
	}
	proxy.Cut()
	if got := event(); got != "closed" {
		t.Errorf("watch that was cut: %s", got)
	}
	if _, err := maps.Get(ctx, "a", meta.GetOptions{}); err != nil {
		t.Errorf("a new connection after a cut: %v", err)
	}
	proxy.Refuse()
	// Clients try again for ten seconds, so how this fails depends on when.
	short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := maps.Get(short, "a", meta.GetOptions{}); err == nil {
		t.Error("a refusing proxy serves")
	}
	proxy.Forward()

	if err := control.StopAPI(); err != nil {
		t.Fatal(err)
	}
	short, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := direct.CoreV1().ConfigMaps("default").Get(short, "a", meta.GetOptions{}); err == nil {
		t.Error("a killed API server answers")
	}
	if err := control.StartAPI(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "b", meta.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := control.StartAPI(ctx); err == nil || err.Error() != "kube-apiserver has been started already" {
		t.Errorf("a second start: %v", err)
	}
}

// TestRefusedConfig: what cannot be started is refused with its reason, and
// leaves nothing.
func TestRefusedConfig(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Config{Address: loneAddress}); err == nil || err.Error() != "control plane: a host needs an address, and an address its host" {
		t.Errorf("an address without a host: %v", err)
	}
	_, err := Start(t.Context(), Config{APIFlags: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "it has ended before it was ready") || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("a wrong flag: %v", err)
	}
}
