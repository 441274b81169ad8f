package rbac

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	manifests "fairlead/configs/kubernetes"
	"fairlead/controlplane/model"
	"fairlead/k8ssync"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/setup"
	"fairlead/k8ssync/v1alpha1"
	lab "fairlead/perf/kube"
)

const (
	namespace = "fairlead-system"
	account   = "system:serviceaccount:" + namespace + ":fairlead"
	policy    = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: [\"" + account + "\"]\n"
)

// lists has the API server give no list by a watch, as those before 1.32 do not: what
// is watched is listed first then.
const lists = "--feature-gates=WatchList=false"

// sink takes everything.
type sink struct{}

func (s *sink) Replace([]model.Group) (map[string]error, error)          { return nil, nil }
func (s *sink) Change([]model.Group, []string) (map[string]error, error) { return nil, nil }

// world is a cluster in which Fairlead has the shipped roles.
type world struct {
	t       *testing.T
	ctx     context.Context
	control *lab.ControlPlane
	rules   []setup.Rule
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, control: lab.ForTest(t, lab.Config{Controllers: true, Audit: policy, APIFlags: []string{lists}})}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	w.kubectl("apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard"))
	for _, name := range []string{"namespace.yaml", "crds/addresspools.yaml", "crds/addressreservations.yaml", "rbac.yaml", "policy.yaml"} {
		text, err := manifests.FS.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "rbac.yaml" {
			if w.rules, err = setup.Rules(text); err != nil {
				t.Fatal(err)
			}
		}
		w.apply(string(text))
	}
	w.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return w
}

func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.control.Kubectl(w.ctx, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) apply(text string) {
	w.t.Helper()
	if err := w.control.Apply(w.ctx, text); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits until kubectl prints something that is right.
func (w *world) eventually(what string, right func(string) bool, args ...string) {
	w.t.Helper()
	for {
		out, err := w.control.Kubectl(w.ctx, args...)
		if err == nil && right(out) {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("%s: %v: %s", what, err, out)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func is(want string) func(string) bool { return func(got string) bool { return got == want } }

// run is a node of Fairlead until stop is called.
func (w *world) run() (stop func()) {
	w.t.Helper()
	cfg, err := w.control.Account(w.ctx, namespace, "fairlead")
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := k8ssync.New(k8ssync.Config{
		Settings: kube.Settings{
			Enabled: true, Class: kube.Class, Method: kube.Pods, LocalMethod: kube.Nodes, NodesVia: model.IPIP, Gateway: true,
			LeaseNamespace: namespace, LeaseName: "fairlead", Resync: 10 * time.Minute,
		},
		Sink: &sink{}, Fellows: report.NewAlone("lb1"), REST: cfg, Log: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// request is what the audit log has of one.
type request struct {
	Verb      string `json:"verb"`
	ObjectRef struct {
		Resource, Namespace, Name, APIGroup, Subresource string
	} `json:"objectRef"`
	ResponseStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"responseStatus"`
}

// asked are all requests of the service account so far.
func (w *world) asked() (out []request) {
	w.t.Helper()
	f, err := os.Open(w.control.AuditLog())
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the last line may not be complete
			out = append(out, r)
		}
	}
	if err := lines.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// rare is the one rule whose use is a matter of luck: a pool is read again when its
// status could not be written because somebody else has written the pool in between.
const rare = "get addresspools.fairlead.io"

// unused are the rules that no request has needed.
func (w *world) unused() (out []setup.Rule) {
	used := map[setup.Rule]bool{}
	for _, r := range w.asked() {
		o := &r.ObjectRef
		for _, name := range []string{"", o.Name} {
			for _, namespaced := range []bool{false, true} {
				used[setup.Rule{Verb: r.Verb, Group: o.APIGroup, Resource: o.Resource, Subresource: o.Subresource, Name: name, Namespaced: namespaced}] = true
			}
		}
	}
	for _, r := range w.rules {
		if !used[r] && r.String() != rare {
			out = append(out, r)
		}
	}
	return out
}

const services = `
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: default, annotations: {fairlead.io/sharing-key: k}}
spec: {type: %[3]s, %[4]sipFamilyPolicy: PreferDualStack, ports: [{name: p, port: %[2]d, protocol: TCP}], selector: {app: web}}
`

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

// TestRoles runs a node with the shipped roles and nothing else through all that
// nodes do, and fails on what it may not do, and on what it may do and never does.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	stop := w.run()
	defer func() { stop() }()
	const pool = "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: p, labels: {n: \"%d\"}}\nspec: {addresses: [192.0.2.0/28, 2001:db8:1::/120]}\n"
	w.apply(fmt.Sprintf(pool, 0))
	assigned := func(name string) {
		w.t.Helper()
		w.eventually(name+" has an address", func(s string) bool { return strings.HasPrefix(s, "192.0.2.") }, "get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}
	w.apply(fmt.Sprintf(services, "web", 80, "LoadBalancer", class))
	assigned("web")
	w.apply(fmt.Sprintf(services, "other", 8080, "LoadBalancer", class)) // shares the address
	assigned("other")

	w.apply(gateways)
	w.eventually("the Gateway has an address", func(s string) bool { return strings.HasPrefix(s, "192.0.2.") }, "get", "gateway", "edge", "-o", "jsonpath={.status.addresses[0].value}")
	w.eventually("the routes are taken", is("True"), "get", "udproute", "udp", "-o", "jsonpath={.status.parents[0].conditions[?(@.type==\"Accepted\")].status}")

	stop() // and another process takes over, and finds what is left of a crash
	w.apply(leftovers)
	stop = w.run()
	w.eventually("what was left is taken back", func(s string) bool {
		return !strings.Contains(s, "192.0.2.9\n") && !strings.Contains(s, "192.0.2.10\n")
	}, "get", "addressreservations", "-o", "name")
	objects, err := v1alpha1.NewClient(w.control.REST())
	if err != nil {
		t.Fatal(err)
	}
	w.apply("apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: q}\nspec: {addresses: [198.18.0.0/24]}\n")
	w.eventually("the admission policy knows the new pool", func(s string) bool { return strings.Contains(s, "198.18.0.0/24") }, "-n", namespace, "get", "configmap", "fairlead-addresses", "-o", "yaml")
	for round := 1; len(w.unused()) > 0 && round <= 6 && w.ctx.Err() == nil; round++ {
		// A Service changes its type, and back, while somebody else writes its
		// reservation all the time, so that there are conflicts.
		busy, idle := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(idle)
			for i := 0; ; i++ {
				select {
				case <-busy:
					return
				default:
				}
				label := fmt.Appendf(nil, `{"metadata":{"labels":{"i":"%d"}}}`, i)
				if _, err := objects.Reservations().Patch(w.ctx, "192.0.2.0", types.MergePatchType, label, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
					t.Error(err)
					return
				}
			}
		}()
		w.apply(fmt.Sprintf(services, "web", 80, "ClusterIP", ""))
		w.eventually("web is let go", is(""), "get", "service", "web", "-o", "jsonpath={.metadata.finalizers[*]}")
		w.apply(fmt.Sprintf(services, "web", 80, "LoadBalancer", class))
		assigned("web")
		close(busy)
		<-idle
	}
	w.kubectl("delete", "service/web", "service/other", "gateway/edge", "gateway/theirs", "gatewayclass/fairlead")
	w.eventually("all is given back", is(""), "get", "addressreservations", "-o", "name")
	stop()

	seen := map[string]bool{}
	for _, r := range w.asked() {
		if text := fmt.Sprintf("%s %s.%s/%s %s", r.Verb, r.ObjectRef.Resource, r.ObjectRef.APIGroup, r.ObjectRef.Subresource, r.ObjectRef.Name); r.ResponseStatus.Code == 403 && !seen[text] {
			seen[text] = true
			t.Errorf("was refused: %s: %s", text, r.ResponseStatus.Message)
		}
	}
	for _, r := range w.unused() {
		t.Errorf("may, and never does: %s", r)
	}
}
