package writer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/v1alpha1"
	"fairlead/k8ssync/writer"
)

// rig is a class of Services, the nodes that serve it, and who holds what of it.
type rig struct {
	t         *testing.T
	class     string
	namespace string
	user      kubernetes.Interface // whoever makes Services
	ours      *v1alpha1.Client
	pool      kube.AddressPool
	club      *club
	nodes     []*node

	mu      sync.Mutex
	early   []string // addresses that were given back while a node served them
	failure error    // of all that is asked of who holds which address
}

// testGrace is how long what another writer has claimed is left alone.
const testGrace = 2 * time.Second

// node is one of Fairlead: it has copies of all Services, serves what their status
// says, and writes when a test has it do so.
type node struct {
	*rig
	name    string
	client  kubernetes.Interface
	ours    *v1alpha1.Client
	log     *slog.Logger
	fellows kube.Fellows
	faults  *faults
	writer  *writer.Writer
	store   cache.Store

	mu      sync.Mutex
	serves  map[kube.Key][]netip.Addr
	through string
	frozen  bool // sees nothing new
	refuses map[string]string
	book    *book // nil before it has written
	stop    func()
}

func newRig(t *testing.T, names ...string) *rig { return newRigOf(t, 1000, names...) }

// newRigOf makes a rig with a pool of so many addresses of IPv4.
func newRigOf(t *testing.T, size int, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, club: &club{reports: map[string][]byte{}, watches: map[int]func(){}}}
	r.user, r.ours, _ = newClient(t)
	ns, err := r.user.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "writer-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.namespace, r.class = ns.Name, ns.Name+".test/lb"
	first := netip.MustParseAddr("198.18.64.1")
	last := first
	for range size - 1 {
		last = last.Next()
	}
	r.pool = kube.AddressPool{Name: ns.Name, AutoAssign: true, Ranges: []kube.Range{
		{First: first, Last: last}, {First: netip.MustParseAddr("2001:db8:64::1"), Last: netip.MustParseAddr("2001:db8:64::ffff")},
	}}
	t.Cleanup(r.clean)
	for _, name := range names {
		r.node(name)
	}
	return r
}

// clean removes the Services, which the writers of other tests are not to see.
func (r *rig) clean() {
	ctx, services := context.Background(), r.user.CoreV1().Services(r.namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	for i := range list.Items {
		name := list.Items[i].Name
		_, err1 := services.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		err2 := services.Delete(ctx, name, metav1.DeleteOptions{})
		if err := errors.Join(err1, err2); err != nil && !apierrors.IsNotFound(err1) && !apierrors.IsNotFound(err2) {
			r.t.Error(err)
		}
	}
	reservations, err := r.ours.Reservations().List(ctx, metav1.ListOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	for i := range reservations.Items {
		if err := r.ours.Reservations().Delete(ctx, reservations.Items[i].Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			r.t.Error(err)
		}
	}
}

// newClient is a client whose requests a test can have fail.
func newClient(t *testing.T) (kubernetes.Interface, *v1alpha1.Client, *faults) {
	t.Helper()
	f := &faults{}
	cfg := rest.CopyConfig(control.REST())
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { f.next = rt; return f })
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpClient.CloseIdleConnections)
	set, err := kubernetes.NewForConfigAndClient(cfg, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := v1alpha1.NewClientFor(cfg, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	return set, ours, f
}

// node adds a node, which has seen everything when it returns.
func (r *rig) node(name string) *node {
	r.t.Helper()
	client, ours, faults := newClient(r.t)
	watching, _, _ := newClient(r.t)
	n := &node{rig: r, name: name, client: client, ours: ours, faults: faults, fellows: r.club.as(name), log: slog.New(slog.NewTextHandler(r.t.Output(), nil)).With("node", name), serves: map[kube.Key][]netip.Addr{}}
	factory := informers.NewSharedInformerFactory(watching, 0)
	informer := factory.Core().V1().Services().Informer()
	n.store = informer.GetStore()
	var err error
	n.writer, err = writer.New(writer.Config{
		Client: client, Addresses: n, Fellows: n.fellows, Log: n.log,
		Service: func(namespace, name string) *corev1.Service {
			o, is, _ := n.store.GetByKey(namespace + "/" + name)
			if !is {
				return nil
			}
			return o.(*corev1.Service)
		},
		Keys: func() []kube.Key {
			var out []kube.Key
			for _, o := range n.store.List() {
				out = append(out, keyOf(o.(*corev1.Service)))
			}
			return out
		},
		Namespace: func(string) map[string]string { return nil },
		Read:      r.read,
		Withdraw:  3 * time.Second, Patience: time.Second, Hold: 500 * time.Millisecond,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { n.see(o.(*corev1.Service), false) },
		UpdateFunc: func(_, o any) { n.see(o.(*corev1.Service), false) },
		DeleteFunc: func(o any) {
			if last, is := o.(cache.DeletedFinalStateUnknown); is {
				o = last.Obj
			}
			n.see(o.(*corev1.Service), true)
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory.StartWithContext(ctx)
	wait := n.follow(ctx)
	r.t.Cleanup(func() {
		n.resign()
		cancel()
		wait()
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(r.t.Context().Done(), handler.HasSynced) {
		r.t.Fatal("the node has no copies")
	}
	r.nodes = append(r.nodes, n)
	n.tell()
	return n
}

func keyOf(svc *corev1.Service) kube.Key {
	return kube.Key{Kind: kube.Service, Namespace: svc.Namespace, Name: svc.Name}
}

// read is what the rooms that read Services do, for what tests ask for: by
// annotations "test/...".
func (r *rig) read(svc *corev1.Service) writer.Reading {
	out := writer.Reading{
		Ours: svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass != nil && *svc.Spec.LoadBalancerClass == r.class ||
			svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass == nil && svc.Labels["test/ours"] == r.label(),
		IPMode: kube.ModeProxy,
	}
	if svc.Annotations["test/vip"] != "" {
		out.IPMode = kube.ModeVIP
	}
	if a, err := netip.ParseAddr(svc.Annotations["test/address"]); err == nil {
		out.Options.Addresses = []netip.Addr{a}
	}
	if p := svc.Annotations["test/problem"]; p != "" {
		out.Problems = []kube.Problem{{Severity: kube.Warning, Reason: "BadAnnotation", Message: p}}
	}
	for _, p := range svc.Spec.Ports {
		if svc.Annotations["test/unserved"] == fmt.Sprint(p.Port) {
			out.Ports = append(out.Ports, writer.PortError{Port: p.Port, Protocol: p.Protocol, Reason: "fairlead.io/NoRoom", Message: fmt.Sprintf("port %d has no room", p.Port)})
		}
	}
	return out
}

// see takes what Kubernetes says of a Service.
func (n *node) see(svc *corev1.Service, gone bool) {
	n.mu.Lock()
	if !n.frozen {
		key := keyOf(svc)
		delete(n.serves, key)
		if r := n.read(svc); r.Ours && !gone && slices.Contains(svc.Finalizers, kube.Finalizer) {
			for _, i := range svc.Status.LoadBalancer.Ingress {
				n.serves[key] = append(n.serves[key], netip.MustParseAddr(i.IP))
			}
		}
		n.through = report.Later(n.through, svc.ResourceVersion)
	}
	n.mu.Unlock()
	n.tell()
	n.writer.Touch(keyOf(svc))
}

// tell reports how far the node has come.
func (n *node) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := report.Report{Connected: !n.frozen, Synced: true, Services: n.through, Groups: len(n.serves), Refused: maps.Clone(n.refuses)}
	if n.frozen {
		r.Error = "cut off"
	}
	if err := n.fellows.Publish(r.Encode()); err != nil {
		n.t.Error(err)
	}
}

// cutOff has a node see nothing new, or again.
func (n *node) cutOff(is bool) {
	n.mu.Lock()
	n.frozen = is
	n.mu.Unlock()
	if !is {
		for _, o := range n.store.List() {
			n.see(o.(*corev1.Service), false)
		}
	}
	n.tell()
}

func (n *node) serving(a netip.Addr) (kube.Key, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, addrs := range n.serves {
		if slices.Contains(addrs, a) {
			return key, true
		}
	}
	return kube.Key{}, false
}

// write has the node write until it resigns.
func (n *node) write() {
	ctx, cancel := context.WithCancel(context.Background())
	b := n.newBook()
	n.mu.Lock()
	n.book = b
	n.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.writer.Run(ctx)
	}()
	n.mu.Lock()
	n.stop = func() { cancel(); <-done }
	n.mu.Unlock()
}

func (n *node) resign() {
	n.mu.Lock()
	stop := n.stop
	n.stop = nil
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// create makes a Service of the class.
func (r *rig) create(name string, change func(*corev1.Service)) *corev1.Service {
	r.t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &r.class,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
	if change != nil {
		change(svc)
	}
	svc, err := r.user.CoreV1().Services(r.namespace).Create(r.t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return svc
}

// get is a Service as the API server has it; nil: there is none.
func (r *rig) get(name string) *corev1.Service {
	r.t.Helper()
	list, err := r.user.CoreV1().Services(r.namespace).List(r.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(list.Items) == 0 {
		return nil
	}
	return &list.Items[0]
}

func (r *rig) patch(name, patch string, subresources ...string) {
	r.t.Helper()
	if _, err := r.user.CoreV1().Services(r.namespace).Patch(r.t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) delete(name string) {
	r.t.Helper()
	if err := r.user.CoreV1().Services(r.namespace).Delete(r.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// addresses are those of a Service's status.
func (r *rig) addresses(name string) []string {
	r.t.Helper()
	var out []string
	if svc := r.get(name); svc != nil {
		for _, i := range svc.Status.LoadBalancer.Ingress {
			out = append(out, i.IP)
		}
	}
	return out
}

// settled waits until a Service has an address and is in force everywhere.
func (r *rig) settled(name string) *corev1.Service {
	r.t.Helper()
	r.eventually(name+" is served", func() bool { return status(r.get(name), writer.ConditionProgrammed) == metav1.ConditionTrue })
	return r.get(name)
}

// gone waits until a Service has gone.
func (r *rig) gone(name string) {
	r.t.Helper()
	r.eventually(name+" has gone", func() bool { return r.get(name) == nil })
}

func condition(svc *corev1.Service, what string) metav1.Condition {
	if svc != nil {
		for _, c := range svc.Status.Conditions {
			if c.Type == what {
				return c
			}
		}
	}
	return metav1.Condition{}
}

func status(svc *corev1.Service, what string) metav1.ConditionStatus {
	return condition(svc, what).Status
}

func (r *rig) eventually(what string, f func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// faults are what happens to a node's requests that write.
type faults struct {
	next   http.RoundTripper
	writes atomic.Int64
	all    atomic.Int64

	mu     sync.Mutex
	before int64 // this write, and all requests after it, are not sent; 0: none
	after  int64 // of this write the answer is lost, and so are all requests after it
	down   bool
	onDown func()
}

func (f *faults) set(before, after int64, onDown func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes.Store(0)
	f.before, f.after, f.down, f.onDown = before, after, false, onDown
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	f.all.Add(1)
	n := int64(0)
	if r.Method != http.MethodGet && !strings.Contains(r.URL.Path, "/events.k8s.io/") {
		n = f.writes.Add(1)
	}
	f.mu.Lock()
	died := false
	if n != 0 && n == f.before {
		f.down, died = true, true
	}
	down, after, onDown := f.down, f.after, f.onDown
	f.mu.Unlock()
	if died && onDown != nil {
		go onDown()
	}
	if down {
		return nil, fmt.Errorf("the test has this node cut off")
	}
	resp, err := f.next.RoundTrip(r)
	if n != 0 && n == after && err == nil {
		resp.Body.Close()
		f.mu.Lock()
		f.down = true
		f.mu.Unlock()
		if onDown != nil {
			go onDown()
		}
		return nil, fmt.Errorf("the test has lost the answer")
	}
	return resp, err
}

// club are the nodes' fellows.
type club struct {
	mu      sync.Mutex
	live    []string
	reports map[string][]byte
	watches map[int]func()
	next    int
}

type membership struct {
	*club
	name string
}

func (c *club) as(name string) kube.Fellows {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.live, name) {
		c.live = append(c.live, name)
		slices.Sort(c.live)
	}
	return membership{c, name}
}

func (c *club) leave(name string) {
	c.mu.Lock()
	c.live = slices.DeleteFunc(c.live, func(n string) bool { return n == name })
	c.mu.Unlock()
	c.tell()
}

func (c *club) tell() {
	c.mu.Lock()
	calls := slices.Collect(maps.Values(c.watches))
	c.mu.Unlock()
	for _, f := range calls {
		f()
	}
}

func (m membership) Self() string { return m.name }

func (m membership) Live() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.live)
}

func (m membership) Publish(b []byte) error {
	m.mu.Lock()
	m.reports[m.name] = b
	m.mu.Unlock()
	m.tell()
	return nil
}

func (m membership) Reports() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]byte{}
	for _, name := range m.live {
		if b := m.reports[name]; b != nil {
			out[name] = b
		}
	}
	return out
}

func (m membership) Watch(f func()) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.next
	m.next++
	m.watches[id] = f
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches, id)
	}
}
