package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/watch"
	kubelab "fairlead/perf/kube"
)

// definitions are the CustomResourceDefinitions of the Gateway API's standard
// channel, from its module.
func definitions(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("where the Gateway API's module is: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "config/crd/standard/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions: %v", err)
	}
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return strings.Join(all, "\n---\n")
}

// documented are files with the manifests of the documentation.
func documented(t *testing.T) (files []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/kubernetes-gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "\n```yaml\n")[1:]
	for i, block := range blocks {
		manifest, _, closed := strings.Cut(block, "\n```")
		if !closed {
			t.Fatal("a block of YAML does not end")
		}
		file := filepath.Join(t.TempDir(), fmt.Sprintf("%d.yaml", i))
		if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		t.Fatal("the documentation has no manifests")
	}
	return files
}

// book is the allocation of addresses of a test: the first free one of a list.
type book struct {
	mu    sync.Mutex
	pool  []netip.Addr
	holds map[kube.Key][]netip.Addr
}

func newBook(addresses ...string) *book {
	l := &book{holds: make(map[kube.Key][]netip.Addr)}
	for _, a := range addresses {
		l.pool = append(l.pool, netip.MustParseAddr(a))
	}
	return l
}

func (l *book) Ensure(_ context.Context, r allocate.Request) (allocate.Assignment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(r.Held) > 0 && len(l.holds[r.Key]) == 0 {
		l.holds[r.Key] = r.Held
	}
	held := l.holds[r.Key]
	if r.Options.Hold || len(held) > 0 && !slices.ContainsFunc(r.Options.Addresses, func(a netip.Addr) bool { return !slices.Contains(held, a) }) {
		return allocate.Assignment{Addresses: held}, nil
	}
	taken := make(map[netip.Addr]bool)
	for key, addresses := range l.holds {
		for _, a := range addresses {
			taken[a] = key != r.Key
		}
	}
	var got []netip.Addr
	for _, family := range r.Families {
		i := slices.IndexFunc(l.pool, func(a netip.Addr) bool {
			asked := slices.IndexFunc(r.Options.Addresses, func(b netip.Addr) bool { return b.Is4() == a.Is4() })
			return ledgerFamily(familyOf(a.Is4())) == family && !taken[a] && (asked < 0 || r.Options.Addresses[asked] == a)
		})
		if i < 0 {
			return allocate.Assignment{Addresses: held, Problems: []kube.Problem{{Severity: kube.Warning, Reason: "None", Message: fmt.Sprintf("no address of IPv%d for %v", family, r.Options.Addresses)}}}, nil
		}
		if got = append(got, l.pool[i]); r.One {
			break
		}
	}
	l.holds[r.Key] = got
	return allocate.Assignment{Addresses: got}, nil
}

func (l *book) Release(_ context.Context, key kube.Key, keep ...netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.holds, key); len(keep) > 0 {
		l.holds[key] = keep
	}
	return nil
}

func (l *book) Holds(key kube.Key) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds[key]
}

func (l *book) held() map[kube.Key][]netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.holds)
}

// site is a real API server with a room and a writer.
type site struct {
	t      *testing.T
	plane  *kubelab.ControlPlane
	room   *Room
	ledger *book

	mu    sync.Mutex
	marks map[kube.Key]int
	told  []string
}

func newSite(t *testing.T, addresses ...string) *site {
	t.Helper()
	s := &site{t: t, plane: kubelab.ForTest(t, kubelab.Config{}), ledger: newBook(addresses...), marks: make(map[kube.Key]int)}
	conn, err := watch.Connect(watch.Config{REST: s.plane.REST()})
	if err != nil {
		t.Fatal(err)
	}
	services, err := watch.New(conn, watch.Services(true))
	if err != nil {
		t.Fatal(err)
	}
	s.room, err = NewRoom(RoomConfig{Connection: conn, Services: services,
		Endpoints: func(svc *corev1.Service, port corev1.ServicePort, family corev1.IPFamily, _ kube.Options) ([]model.Backend, []kube.Problem) {
			return nil, nil
		},
		Mark: func(key kube.Key, _ time.Time, _ bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.marks[key]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(WriterConfig{Room: s.room, Addresses: s.ledger, Tell: func(o runtime.Object, p kube.Problem) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told = append(s.told, p.Reason+": "+p.Message)
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = services.Run(ctx) })
	running.Go(func() { _ = s.room.Run(ctx) })
	running.Go(func() { w.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		conn.Close()
	})
	return s
}

func (s *site) apply(manifests string) {
	s.t.Helper()
	if err := s.plane.Apply(s.t.Context(), manifests); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) kubectl(args ...string) string {
	s.t.Helper()
	out, err := s.plane.Kubectl(s.t.Context(), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// get reads an object from the API server.
func get[T any](s *site, kind, namespace, name string) *T {
	s.t.Helper()
	out := new(T)
	args := []string{"get", kind, name, "-o", "json"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	if err := json.Unmarshal([]byte(s.kubectl(args...)), out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// eventually waits until check has no complaint.
func (s *site) eventually(what string, check func() error) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// says waits until conditions of an object say something, of its generation.
func (s *site) says(what string, read func() ([]metav1.Condition, int64), want map[string]string) {
	s.t.Helper()
	s.eventually(what, func() error {
		conditions, generation := read()
		have := told(conditions)
		for kind, text := range want {
			if have[kind] != text {
				return fmt.Errorf("%s is %q, want %q", kind, have[kind], text)
			}
		}
		for _, c := range conditions {
			if c.ObservedGeneration != generation {
				return fmt.Errorf("%s is of generation %d, the object of %d", c.Type, c.ObservedGeneration, generation)
			}
		}
		return nil
	})
}

func (s *site) gatewaySays(namespace, name string, want map[string]string) {
	s.t.Helper()
	s.says("Gateway "+name, func() ([]metav1.Condition, int64) {
		gw := get[gatewayv1.Gateway](s, "gateway", namespace, name)
		return gw.Status.Conditions, gw.Generation
	}, want)
}

func (s *site) routeSays(kind, namespace, name string, want map[string]string) {
	s.t.Helper()
	s.says(kind+" "+name, func() ([]metav1.Condition, int64) {
		r := get[gatewayv1.TCPRoute](s, kind, namespace, name)
		for _, p := range r.Status.Parents {
			if p.ControllerName == ControllerName {
				return p.Conditions, r.Generation
			}
		}
		return nil, r.Generation
	}, want)
}

// TestServer has a room and a writer go by a real API server: definitions that are
// installed late, statuses, addresses, grants that come and go, what is deleted.
func TestServer(t *testing.T) {
	s := newSite(t, "192.0.2.1", "192.0.2.2", "2001:db8::80")
	select {
	case <-s.room.Synced():
	case <-time.After(30 * time.Second):
		t.Fatal("the room waits for definitions that are not installed")
	}
	if keys := s.room.Keys(); len(keys) != 0 {
		t.Fatalf("there are Gateways %v", keys)
	}

	if requests, err := s.room.Requests(t.Context()); err != nil || len(requests) != 0 {
		t.Errorf("requests %v, error %v, where the API is not installed", requests, err)
	}
	s.apply(definitions(t))
	s.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	for _, block := range documented(t) {
		if _, err := s.plane.Kubectl(t.Context(), "apply", "--dry-run=server", "-f", block); err != nil {
			t.Errorf("docs/kubernetes-gateway.md: %v", err)
		}
	}
	s.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.io/gateway}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: default}
spec:
  gatewayClassName: fairlead
  listeners:
  - {name: tcp, protocol: TCP, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: web}}}}}
  - {name: udp, protocol: UDP, port: 53}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: default}
spec: {ports: [{port: 80, protocol: TCP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: web, namespace: apps}
spec:
  parentRefs: [{name: front, namespace: default}]
  rules: [{backendRefs: [{name: api, namespace: default, port: 80}]}]
`)
	class := func() ([]metav1.Condition, int64) {
		c := get[gatewayv1.GatewayClass](s, "gatewayclass", "", "fairlead")
		return c.Status.Conditions, c.Generation
	}
	s.says("class", class, map[string]string{
		"Accepted":         "True Accepted: Gateways of this class are served",
		"SupportedVersion": "True SupportedVersion: release v1.6.3 of the Gateway API is installed",
	})
	s.gatewaySays("default", "front", map[string]string{
		"Accepted":   "True Accepted: all listeners are valid",
		"Programmed": "True Programmed: addresses are assigned",
	})
	gw := get[gatewayv1.Gateway](s, "gateway", "default", "front")
	if len(gw.Status.Addresses) != 1 || gw.Status.Addresses[0].Value != "192.0.2.1" || *gw.Status.Addresses[0].Type != gatewayv1.IPAddressType {
		t.Errorf("addresses %+v", gw.Status.Addresses)
	}
	if !slices.Contains(gw.Finalizers, Finalizer) {
		t.Error("a Gateway with an address has no finalizer")
	}
	if out := s.kubectl("get", "gateway", "front"); !strings.Contains(out, "192.0.2.1") || !strings.Contains(out, "True") {
		t.Errorf("kubectl get gateway says\n%s", out)
	}
	c := get[gatewayv1.GatewayClass](s, "gatewayclass", "", "fairlead")
	if !slices.Contains(c.Finalizers, gatewayv1.GatewayClassFinalizerGatewaysExist) {
		t.Error("a class with a Gateway has no finalizer")
	}

	t.Run("namespace labels", func(t *testing.T) {
		s.routeSays("tcproute", "apps", "web", map[string]string{"Accepted": "False NotAllowedByListeners: no TCPRoute in namespace apps is allowed by listener tcp, udp"})
		s.kubectl("label", "namespace", "apps", "team=web")
		s.routeSays("tcproute", "apps", "web", map[string]string{"Accepted": "True Accepted: attached to listener tcp"})
	})
	t.Run("grants", func(t *testing.T) {
		refused := map[string]string{"ResolvedRefs": "False RefNotPermitted: backendRefs[0]: no ReferenceGrant in namespace default lets a TCPRoute of namespace apps refer to Service api"}
		s.routeSays("tcproute", "apps", "web", refused)
		s.apply(`{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: apps, namespace: default}, spec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: apps}], to: [{group: "", kind: Service}]}}`)
		s.routeSays("tcproute", "apps", "web", map[string]string{"ResolvedRefs": "True ResolvedRefs: all backendRefs are resolved"})
		if keys := s.room.GatewaysOf(types.NamespacedName{Namespace: "default", Name: "api"}); len(keys) != 1 || keys[0].Name != "front" {
			t.Errorf("Gateways %v depend on the Service", keys)
		}
		s.kubectl("delete", "referencegrant", "apps", "-n", "default")
		s.routeSays("tcproute", "apps", "web", refused)
	})
	t.Run("a Service that comes and goes", func(t *testing.T) {
		s.apply(`{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {name: dns, namespace: default}, spec: {parentRefs: [{name: front}], rules: [{backendRefs: [{name: dns, port: 53}]}]}}`)
		s.routeSays("udproute", "default", "dns", map[string]string{
			"Accepted":     "True Accepted: attached to listener udp",
			"ResolvedRefs": "False BackendNotFound: backendRefs[0]: there is no Service default/dns"})
		s.apply(`{apiVersion: v1, kind: Service, metadata: {name: dns, namespace: default}, spec: {ports: [{port: 53, protocol: UDP}]}}`)
		s.routeSays("udproute", "default", "dns", map[string]string{"ResolvedRefs": "True ResolvedRefs: all backendRefs are resolved"})
		s.kubectl("delete", "service", "dns")
		s.routeSays("udproute", "default", "dns", map[string]string{"ResolvedRefs": "False BackendNotFound: backendRefs[0]: there is no Service default/dns"})
	})
	t.Run("what others write stays", func(t *testing.T) {
		s.kubectl("patch", "tcproute", "web", "-n", "apps", "--subresource=status", "--type=json", "-p",
			`[{"op":"add","path":"/status/parents/0","value":{"controllerName":"example.com/gateway","parentRef":{"name":"theirs"},"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"theirs","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}]`)
		s.kubectl("patch", "tcproute", "web", "-n", "apps", "--type=merge", "-p", `{"spec":{"parentRefs":[{"name":"front","namespace":"default","sectionName":"tcp"}]}}`)
		s.routeSays("tcproute", "apps", "web", map[string]string{"Accepted": "True Accepted: attached to listener tcp"})
		r := get[gatewayv1.TCPRoute](s, "tcproute", "apps", "web")
		if len(r.Status.Parents) != 2 || r.Status.Parents[0].ControllerName != "example.com/gateway" || r.Status.Parents[0].Conditions[0].Message != "theirs" {
			t.Errorf("parents %+v", r.Status.Parents)
		}
	})
	t.Run("an address that is asked for", func(t *testing.T) {
		s.apply(`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: fixed, namespace: default}, spec: {gatewayClassName: fairlead, addresses: [{type: IPAddress, value: 192.0.2.99}], listeners: [{name: tcp, protocol: TCP, port: 80}]}}`)
		s.gatewaySays("default", "fixed", map[string]string{
			"Accepted":   "True Accepted: all listeners are valid",
			"Programmed": "False AddressNotUsable: no address of IPv4 for [192.0.2.99]"})
		s.kubectl("patch", "gateway", "fixed", "--type=merge", "-p", `{"spec":{"addresses":[{"type":"IPAddress","value":"192.0.2.2"},{"type":"IPAddress"}]}}`)
		s.gatewaySays("default", "fixed", map[string]string{"Programmed": "True Programmed: addresses are assigned"})
		if out := s.kubectl("get", "gateway", "fixed", "-o", "jsonpath={.status.addresses[*].value}"); out != "192.0.2.2 2001:db8::80" {
			t.Errorf("addresses %q", out)
		}
	})
	t.Run("an invalid Gateway keeps its address", func(t *testing.T) {
		s.kubectl("patch", "gateway", "fixed", "--type=merge", "-p", `{"spec":{"addresses":[{"type":"Hostname","value":"lb.example.com"}]}}`)
		s.gatewaySays("default", "fixed", map[string]string{"Accepted": "False UnsupportedAddress: spec.addresses[0]: type Hostname is not supported; IPAddress is"})
		if held := s.ledger.held()[gwKey("default/fixed")]; len(held) != 2 {
			t.Errorf("it holds %v", held)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Contains(s.told, "UnsupportedAddress: spec.addresses[0]: type Hostname is not supported; IPAddress is") {
			t.Errorf("Events: %v", s.told)
		}
	})
	t.Run("what the API server says of requests", func(t *testing.T) {
		requests, err := s.room.Requests(t.Context())
		if err != nil || len(requests) != 2 || requests[0].Key != gwKey("default/fixed") || len(requests[0].Held) != 2 || requests[1].Key != gwKey("default/front") {
			t.Errorf("requests %+v, error %v", requests, err)
		}
		for name, want := range map[string]bool{"default/front": true, "default/nix": false} {
			if got, err := s.room.Wants(t.Context(), gwKey(name)); got != want || err != nil {
				t.Errorf("Gateway %s is to have addresses: %t, error %v", name, got, err)
			}
		}
	})
	t.Run("deletion gives addresses back", func(t *testing.T) {
		s.kubectl("delete", "gatewayclass", "fairlead", "--wait=false")
		s.kubectl("delete", "gateway", "front", "fixed")
		if held := s.ledger.held(); len(held) != 0 {
			t.Errorf("addresses are held by %v", held)
		}
		s.eventually("the class is deleted with the last Gateway", func() error {
			if out := s.kubectl("get", "gatewayclass", "--ignore-not-found", "fairlead"); out != "" {
				return fmt.Errorf("it is there: %s", out)
			}
			return nil
		})
		s.eventually("the route is told of no parent of ours any more", func() error {
			if r := get[gatewayv1.TCPRoute](s, "tcproute", "apps", "web"); len(r.Status.Parents) != 1 || r.Status.Parents[0].ControllerName == ControllerName {
				return fmt.Errorf("parents %+v", r.Status.Parents)
			}
			return nil
		})
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks[gwKey("default/front")] == 0 || s.room.Version() == "" {
		t.Errorf("marks %v, version %q", s.marks, s.room.Version())
	}
}
