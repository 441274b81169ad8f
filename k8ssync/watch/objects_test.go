package watch

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/kube"
)

// history is what a subscriber is told.
type history struct {
	mu     sync.Mutex
	events []string
}

func (h *history) add(e Event[*corev1.Service]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what := "change "
	switch {
	case e.Old == nil:
		what = "add "
	case e.New == nil:
		what = "delete "
	}
	if e.Relisted {
		what = "relisted " + what
	}
	h.events = append(h.events, what+e.Object().Name)
}

func (h *history) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.events, ", ")
}

func TestObjectsFollowTheAPIServer(t *testing.T) {
	ns := namespace(t)
	create(t, service(ns, "a", map[string]string{lastApplied: "{}", "keep": "me"}))
	c, _ := connect(t, plane.REST())
	o, err := New(c, servicesIn(ns))
	if err != nil {
		t.Fatal(err)
	}
	var early, late history
	o.Subscribe(early.add)
	if o.Version() != "" || c.Connected() {
		t.Error("something is known before anybody was asked")
	}
	run(t, o)
	<-o.Synced()
	until(t, "connected", c.Connected)
	stop := o.Subscribe(late.add)
	a, there := o.Get(ns, "a")
	if !there || a.Annotations["keep"] != "me" || a.Annotations[lastApplied] != "" || a.ManagedFields != nil {
		t.Errorf("the copy is %+v", a)
	}
	b := create(t, service(ns, "b", nil))
	until(t, "b is known", func() bool { _, there := o.Get(ns, "b"); return there })
	if earlier(o.Version(), b.ResourceVersion) {
		t.Errorf("version %s, though b has %s", o.Version(), b.ResourceVersion)
	}
	b.Labels = map[string]string{"x": "y"}
	if _, err := admin(t).CoreV1().Services(ns).Update(t.Context(), b, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	remove(t, ns, "a")
	until(t, "a is gone", func() bool { return o.Len() == 1 })
	want := "add a, add b, change b, delete a"
	until(t, want, func() bool { return early.String() == want })
	if late.String() != want {
		t.Errorf("who came later was told: %s", late.String())
	}
	stop()
	remove(t, ns, "b")
	until(t, "b is gone", func() bool { return o.Len() == 0 })
	if late.String() != want {
		t.Errorf("who has left was told: %s", late.String())
	}
	names, err := o.Names(t.Context())
	if err != nil || len(names) != 0 {
		t.Error(names, err)
	}
}

func TestNamesAreThoseOfTheAPIServer(t *testing.T) {
	ns := namespace(t)
	c, _ := connect(t, plane.REST())
	o, err := New(c, servicesIn(ns))
	if err != nil {
		t.Fatal(err)
	}
	create(t, service(ns, "a", nil))
	create(t, service(ns, "b", nil))
	names, err := o.Names(t.Context())
	if err != nil || len(names) != 2 || !names[types.NamespacedName{Namespace: ns, Name: "a"}] {
		t.Error(names, err)
	}
}

// Only Services that may have an address are kept when no routes are followed.
func TestServicesThatAreNotOursAreNotKept(t *testing.T) {
	ns := namespace(t)
	r := Services(false)
	r.Namespace = ns
	c, _ := connect(t, plane.REST())
	o := follow(t, c, r)
	var h history
	o.Subscribe(h.add)
	<-o.Synced()
	plain := service(ns, "plain", nil)
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	create(t, plain)
	svc := create(t, service(ns, "web", nil))
	until(t, "web is known", func() bool { return o.Len() == 1 })
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Finalizers = []string{kube.Finalizer}
	svc, err := admin(t).CoreV1().Services(ns).Update(t.Context(), svc, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the other type", func() bool {
		s, there := o.Get(ns, "web")
		return there && s.Spec.Type == corev1.ServiceTypeClusterIP
	})
	svc.Finalizers = nil
	if _, err := admin(t).CoreV1().Services(ns).Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "web is let go", func() bool { return o.Len() == 0 })
	if want := "add web, change web, delete web"; h.String() != want {
		t.Errorf("told: %s, want %s", h.String(), want)
	}
}

func TestSlicesAreFoundByServiceAndPod(t *testing.T) {
	ns := namespace(t)
	r := Slices(false, true)
	r.Namespace = ns
	c, _ := connect(t, plane.REST())
	o := follow(t, c, r)
	<-o.Synced()
	client := admin(t).DiscoveryV1().EndpointSlices(ns)
	make := func(name string, labels map[string]string) {
		host, node, ready := "host", "node-1", true
		_, err := client.Create(t.Context(), &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{LastChange: "2026-01-02T03:04:05Z", "other": "x"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"198.18.0.1"}, Hostname: &host, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: "pod-1", UID: "u"},
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	make("of-nobody", nil)
	make("headless", map[string]string{discoveryv1.LabelServiceName: "none", corev1.IsHeadlessService: ""})
	make("web-1", map[string]string{discoveryv1.LabelServiceName: "web"})
	until(t, "the slice is known", func() bool { return o.Len() == 1 })
	for _, found := range [][]*discoveryv1.EndpointSlice{o.By(ByService, ns+"/web"), o.By(ByPod, ns+"/pod-1")} {
		if len(found) != 1 || found[0].Name != "web-1" {
			t.Fatalf("found %v", found)
		}
	}
	s, _ := o.Get(ns, "web-1")
	e := s.Endpoints[0]
	if ServiceOf(s) != "web" || len(s.Annotations) != 1 || e.Hostname != nil || *e.NodeName != "node-1" || e.TargetRef.UID != "" || e.TargetRef.Name != "pod-1" {
		t.Errorf("the copy is %+v", s)
	}
	if found := o.By("no such index", "x"); found != nil {
		t.Errorf("found %v", found)
	}
}

func TestNodesChangeWhenSomethingThatMattersDoes(t *testing.T) {
	c, _ := connect(t, plane.REST())
	r := Nodes()
	r.Fields = "metadata.name=watched"
	o := follow(t, c, r)
	var events atomic.Int32
	o.Subscribe(func(Event[*corev1.Node]) { events.Add(1) })
	<-o.Synced()
	client := admin(t).CoreV1().Nodes()
	n, err := client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "watched"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: "DiskPressure", Status: "False"}}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"a"}}}
	if n, err = client.UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "ready is known", func() bool {
		n, there := o.Get("", "watched")
		return there && len(n.Status.Conditions) == 1 && n.Status.Images == nil
	})
	before := events.Load()
	n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
	n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{"b"}})
	if n, err = client.UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the heartbeat has arrived", func() bool { return !earlier(o.Version(), n.ResourceVersion) })
	if now := events.Load(); now != before {
		t.Errorf("a heartbeat was told of")
	}
	n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	if _, err := client.Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the taint is told of", func() bool { return events.Load() > before })
}

func TestPodsAreKeptWhenTheyHaveAWeight(t *testing.T) {
	ns := namespace(t)
	c, _ := connect(t, plane.REST())
	r := Pods()
	r.Namespace = ns
	o := follow(t, c, r)
	<-o.Synced()
	client := admin(t).CoreV1().Pods(ns)
	if _, err := admin(t).CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, annotations := range map[string]map[string]string{"plain": {"a": "b"}, "heavy": {PodWeight: "7", "a": "b"}} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Labels: map[string]string{"l": "m"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}
		if _, err := client.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the pod with a weight is known", func() bool { return o.Len() == 1 })
	p, there := o.Get(ns, "heavy")
	if !there || len(p.Annotations) != 1 || p.Annotations[PodWeight] != "7" || p.Labels != nil {
		t.Errorf("the copy is %+v", p)
	}
	if slices.ContainsFunc(o.List(), func(p *metav1.PartialObjectMetadata) bool { return p.Name == "plain" }) {
		t.Error("a pod without a weight is kept")
	}
}

// A watch from a version that the API server has forgotten is begun anew, and what
// has happened meanwhile is found out.
func TestWatchThatIsTooOldIsListedAnew(t *testing.T) {
	ns := namespace(t)
	var asked atomic.Bool
	cfg := between(t, plane.REST(), func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		q := r.URL.Query()
		switch {
		case q.Get("watch") == "":
		case q.Get("sendInitialEvents") != "":
			q.Set("timeoutSeconds", "1") // the API server ends it
		case asked.CompareAndSwap(false, true):
			remove(t, ns, "a")
			create(t, service(ns, "b", nil))
			q.Set("resourceVersion", "1")
		}
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
		return next.RoundTrip(r)
	})
	create(t, service(ns, "a", nil))
	c, _ := connect(t, cfg)
	o := follow(t, c, servicesIn(ns))
	var h history
	o.Subscribe(h.add)
	until(t, "b is known, and a is not", func() bool { _, there := o.Get(ns, "b"); return there && o.Len() == 1 })
	if !asked.Load() {
		t.Error("the API server was never asked for a version that is too old")
	}
	if want := "add a, relisted add b, relisted delete a"; h.String() != want {
		t.Errorf("told: %s, want %s", h.String(), want)
	}
	until(t, "connected", c.Connected)
}
