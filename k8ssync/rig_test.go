package k8ssync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/translate"
	kubelab "fairlead/perf/kube"
)

// plane is the control plane that the tests share.
var plane *kubelab.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(kubelab.Main(m, kubelab.Config{}, func(c *kubelab.ControlPlane) error {
		plane = c
		return nil
	}))
}

// memory is a sink that keeps what it is given.
type memory struct {
	mu       sync.Mutex
	groups   map[string]model.Group
	calls    []string
	changes  int // calls of Change
	fail     error
	refuse   map[string]error // groups that are not taken
	rejected map[string]error
}

func newMemory(names ...string) *memory {
	m := &memory{groups: map[string]model.Group{}, refuse: map[string]error{}, rejected: map[string]error{}}
	for _, name := range names {
		m.groups[name] = model.Group{Name: name}
	}
	return m
}

// Replace implements kube.Sink.
func (m *memory) Replace(groups []model.Group) (map[string]error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, fmt.Sprintf("replace %d", len(groups)))
	if m.fail != nil {
		return nil, m.fail
	}
	m.groups = map[string]model.Group{}
	return m.take(groups), nil
}

// Change implements kube.Sink.
func (m *memory) Change(set []model.Group, remove []string) (map[string]error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	if m.fail != nil {
		return nil, m.fail
	}
	for _, name := range remove {
		delete(m.groups, name)
		delete(m.rejected, name)
	}
	return m.take(set), nil
}

func (m *memory) take(groups []model.Group) map[string]error {
	for _, g := range groups {
		if why := m.refuse[g.Name]; why != nil {
			m.rejected[g.Name] = why
			continue
		}
		m.groups[g.Name] = g
		delete(m.rejected, g.Name)
	}
	return maps.Clone(m.rejected)
}

// Groups implements remembers.
func (m *memory) Groups() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.groups))
}

func (m *memory) with(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// backends are the addresses of all backends of a group, "none" when it is not there.
func (m *memory) backends(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, there := m.groups[name]
	if !there {
		return "none"
	}
	var list []string
	for _, p := range g.Pools {
		for _, b := range p.Backends {
			list = append(list, fmt.Sprintf("%s*%d", b.Endpoint(), b.Weight))
		}
	}
	return strings.Join(list, " ")
}

func (m *memory) vips(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for _, s := range m.groups[name].Services {
		list = append(list, s.VIP.String())
	}
	return strings.Join(list, " ")
}

type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// world is a namespace of Kubernetes and what a test does in it.
type world struct {
	t      *testing.T
	client kubernetes.Interface
	ns     string
	class  string // of its Services, and nobody else's
	net    int
}

var worlds struct {
	sync.Mutex
	n int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, plane)
}

// newWorldOf is a world in a control plane of the test's own.
func newWorldOf(t *testing.T, plane *kubelab.ControlPlane) *world {
	t.Helper()
	client, err := kubernetes.NewForConfig(plane.REST())
	if err != nil {
		t.Fatal(err)
	}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "sync-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	worlds.Lock()
	defer worlds.Unlock()
	worlds.n++
	return &world{t: t, client: client, ns: ns.Name, class: "fairlead.io/" + ns.Name, net: worlds.n}
}

func (w *world) settings() kube.Settings {
	return kube.Settings{
		Enabled: true, Class: w.class, Method: kube.Pods, LocalMethod: kube.Nodes, NodesVia: model.IPIP,
		LeaseNamespace: w.ns, LeaseName: "fairlead", Resync: 10 * time.Minute,
	}
}

// started is a Sync that runs.
type started struct {
	*Sync
	log  *lines
	stop func() // waits until it has ended
	seen struct {
		sync.Mutex
		list []Observation
	}
}

// start runs a Sync until the end of the test, or until stop.
func (w *world) start(sink kube.Sink, change func(*Config)) *started {
	w.t.Helper()
	st := &started{log: &lines{}}
	cfg := Config{
		Settings: w.settings(), Sink: sink, Fellows: report.NewAlone("node"), REST: plane.REST(), Log: slog.New(slog.NewTextHandler(st.log, nil)),
		Observe: func(o Observation) {
			st.seen.Lock()
			defer st.seen.Unlock()
			st.seen.list = append(st.seen.list, o)
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if st.Sync, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := st.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	var once sync.Once
	st.stop = func() { once.Do(func() { cancel(); wg.Wait() }) }
	w.t.Cleanup(func() {
		st.stop()
		if w.t.Failed() {
			w.t.Log(st.log)
		}
	})
	return st
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			w.t.Fatal("never: " + what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *world) group(name string) string {
	return translate.GroupName(kube.Key{Kind: kube.Service, Namespace: w.ns, Name: name}, corev1.IPv4Protocol)
}

// vip is the nth address of the world.
func (w *world) vip(n int) string { return fmt.Sprintf("203.0.113.%d", w.net*16+n) }

// service makes a Service, as its user does.
func (w *world) service(name string) *corev1.Service {
	w.t.Helper()
	svc, err := w.client.CoreV1().Services(w.ns).Create(w.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{kube.Finalizer}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return svc
}

// status gives a Service an address, as the writer does.
func (w *world) status(name, vip string) {
	w.t.Helper()
	ingress := []map[string]string{{"ip": vip, "ipMode": "Proxy"}}
	if vip == "" {
		ingress = nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": ingress}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.client.CoreV1().Services(w.ns).Patch(w.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		w.t.Fatal(err)
	}
}

// gone deletes a Service and lets go of it.
func (w *world) gone(name string) {
	w.t.Helper()
	services := w.client.CoreV1().Services(w.ns)
	if _, err := services.Patch(w.t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		w.t.Fatal(err)
	}
	if err := services.Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) slice(service string, addresses ...string) *discoveryv1.EndpointSlice {
	port, name, protocol := int32(8080), "", corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().UTC().Format(time.RFC3339Nano)},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
		Endpoints: []discoveryv1.Endpoint{},
	}
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: w.ns, Name: fmt.Sprintf("%s-pod-%d", service, i)},
		})
	}
	return s
}

// endpoints makes these the endpoints of a Service.
func (w *world) endpoints(service string, addresses ...string) {
	w.t.Helper()
	slices := w.client.DiscoveryV1().EndpointSlices(w.ns)
	s := w.slice(service, addresses...)
	_, err := slices.Update(w.t.Context(), s, metav1.UpdateOptions{})
	if err != nil {
		_, err = slices.Create(w.t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// web makes a Service that is complete.
func (w *world) web(name string, n int) {
	w.t.Helper()
	w.service(name)
	w.endpoints(name, "198.18.0.1")
	w.status(name, w.vip(n))
}

var errBroken = errors.New("the data process does not answer")

func restThrough(p *kubelab.Proxy) *rest.Config { return p.REST(plane.REST()) }
