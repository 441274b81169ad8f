package k8ssync

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// Before everything has been seen, what the node remembers stays.
func TestNothingChangesBeforeEverythingIsKnown(t *testing.T) {
	w := newWorld(t)
	w.web("web", 1)
	proxy, err := plane.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	cfg := restThrough(proxy)
	held := make(chan struct{})
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return through(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "endpointslices") {
				select {
				case <-held:
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			return rt.RoundTrip(r)
		})
	})
	sink := newMemory(w.group("old"))
	s := w.start(sink, func(c *Config) { c.REST = cfg })
	w.until("Services are known", s.Objects().Services.HasSynced)
	sink.with(func() {
		if len(sink.calls) != 0 || sink.changes != 0 {
			t.Errorf("the sink was called: %v", sink.calls)
		}
	})
	if s.Synced() || !s.Status().Synced.IsZero() {
		t.Error("in step before everything is known")
	}
	close(held)
	w.until("in force", s.Synced)
	if got := sink.backends(w.group("web")); got != "198.18.0.1:8080*1" {
		t.Errorf("backends %s", got)
	}
	if got := sink.Groups(); len(got) != 1 {
		t.Errorf("groups %v", got)
	}
	sink.with(func() {
		if len(sink.calls) != 1 || sink.calls[0] != "replace 1" {
			t.Errorf("calls %v", sink.calls)
		}
	})
	st := s.Status()
	if !st.Connection.Connected || st.Groups != 1 || st.Services == "" || len(st.Refused) != 0 {
		t.Errorf("status %+v", st)
	}
}

type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestChangesComeIntoForce(t *testing.T) {
	w := newWorld(t)
	sink := newMemory()
	s := w.start(sink, nil)
	w.until("in step", s.Synced)
	group := w.group("web")

	w.service("web")
	w.endpoints("web", "198.18.0.1")
	if sink.backends(group) != "none" {
		t.Error("in force without an address")
	}
	w.status("web", w.vip(1))
	w.until("in force", func() bool { return sink.backends(group) == "198.18.0.1:8080*1" })
	w.endpoints("web", "198.18.0.1", "198.18.0.2")
	w.until("two backends", func() bool { return sink.backends(group) == "198.18.0.1:8080*1 198.18.0.2:8080*1" })
	w.status("web", w.vip(2))
	w.until("the other address", func() bool { return sink.vips(group) == w.vip(2) })
	w.status("web", "")
	w.until("not in force without an address", func() bool { return sink.backends(group) == "none" })
	w.status("web", w.vip(2))
	w.until("in force again", func() bool { return sink.vips(group) == w.vip(2) })
	svc, err := w.client.CoreV1().Services(w.ns).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.until("not in force with another type", func() bool { return sink.backends(group) == "none" })
	w.until("the version of that", func() bool { return report.Reached(s.Status().Services, svc.ResourceVersion) })
	w.gone("web")

	s.seen.Lock()
	defer s.seen.Unlock()
	triggered := 0
	for _, o := range s.seen.list {
		if o.Key.Name != "web" || o.Event <= 0 {
			t.Errorf("observation %+v", o)
		}
		if o.Trigger > 0 {
			triggered++
		}
	}
	if len(s.seen.list) < 6 || triggered == 0 {
		t.Errorf("observations %+v", s.seen.list)
	}
}

// In whatever order the parts of a Service come, the same is in force.
func TestObjectsInEveryOrder(t *testing.T) {
	w := newWorld(t)
	sink := newMemory()
	s := w.start(sink, nil)
	w.until("in step", s.Synced)
	steps := map[byte]func(name string, n int){
		's': func(name string, n int) { w.service(name) },
		'e': func(name string, n int) { w.endpoints(name, "198.18.0.1") },
		'v': func(name string, n int) { w.status(name, w.vip(n)) },
	}
	for i, order := range []string{"sev", "sve", "esv"} {
		name := "web-" + order
		for _, step := range []byte(order) {
			steps[step](name, i+1)
			if step != order[len(order)-1] {
				continue
			}
			w.until(name, func() bool {
				return sink.backends(w.group(name)) == "198.18.0.1:8080*1" && sink.vips(w.group(name)) == w.vip(i+1)
			})
		}
	}
}

// A Service that is deleted and made again under its name is another one.
func TestServiceMadeAgain(t *testing.T) {
	w := newWorld(t)
	sink := newMemory()
	s := w.start(sink, nil)
	w.until("in step", s.Synced)
	w.web("web", 1)
	w.until("in force", func() bool { return sink.vips(w.group("web")) == w.vip(1) })
	w.gone("web")
	w.service("web")
	w.status("web", w.vip(2))
	w.until("the new one is in force", func() bool { return sink.vips(w.group("web")) == w.vip(2) })
}

func TestAPIServerThatDies(t *testing.T) {
	w := newWorld(t)
	sink := newMemory()
	s := w.start(sink, nil)
	w.until("in step", s.Synced)
	w.web("web", 1)
	w.web("other", 2)
	w.until("in force", func() bool { return len(sink.Groups()) == 2 })
	w.until("this node leads", func() bool { return s.Writer().Leading })
	if err := plane.StopAPI(); err != nil {
		t.Fatal(err)
	}
	w.until("away", func() bool { return !s.Status().Connection.Connected })
	var before int
	sink.with(func() { before = sink.changes })
	second := newMemory(sink.Groups()...)
	restarted := w.start(second, nil) // a node that starts meanwhile
	w.until("it has found nobody", func() bool { return restarted.Status().Connection.Error != "" })
	if got := second.Groups(); len(got) != 2 || restarted.Synced() {
		t.Errorf("groups %v", got)
	}
	if err := plane.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until("connected", func() bool { return s.Status().Connection.Connected })
	sink.with(func() {
		if sink.changes != before || len(sink.groups) != 2 {
			t.Errorf("%d changes, %d before", sink.changes, before)
		}
	})
	w.endpoints("web", "198.18.0.7")
	w.gone("other")
	for _, sink := range []*memory{sink, second} {
		w.until("changed", func() bool { return sink.backends(w.group("web")) == "198.18.0.7:8080*1" && len(sink.Groups()) == 1 })
	}
}

func TestWatchThatIsDropped(t *testing.T) {
	w := newWorld(t)
	proxy, err := plane.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	sink := newMemory()
	s := w.start(sink, func(c *Config) { c.REST = restThrough(proxy) })
	w.until("in step", s.Synced)
	w.web("web", 1)
	for _, address := range []string{"198.18.0.3", "198.18.0.4", "198.18.0.5"} {
		proxy.Cut()
		w.endpoints("web", address)
		w.until(address, func() bool { return sink.backends(w.group("web")) == address+":8080*1" })
	}
	proxy.Refuse()
	w.until("away", func() bool { return !s.Status().Connection.Connected })
	w.gone("web") // nobody sees it
	proxy.Forward()
	w.until("removed", func() bool { return len(sink.Groups()) == 0 })
}

// What the sink does not take is tried again, and what it refuses is told.
func TestSinkThatFails(t *testing.T) {
	w := newWorld(t)
	w.web("web", 1)
	sink := newMemory(w.group("old"))
	sink.fail = errBroken
	s := w.start(sink, nil)
	w.until("it fails", func() bool { return s.Status().Failing == errBroken.Error() })
	if s.Synced() || s.Status().Pending == 0 || len(sink.Groups()) != 1 {
		t.Errorf("status %+v, groups %v", s.Status(), sink.Groups())
	}
	refusal := errors.New("VIP is taken by the file")
	sink.with(func() { sink.fail, sink.refuse[w.group("web")] = nil, refusal })
	w.until("in step", s.Synced)
	st := s.Status()
	if st.Failing != "" || len(st.Refused) != 1 || st.Refused[w.group("web")].Why != refusal {
		t.Errorf("status %+v", st)
	}
	sink.with(func() { sink.fail = errBroken })
	w.web("other", 2)
	w.until("it fails", func() bool { return s.Status().Failing == errBroken.Error() })
	sink.with(func() { sink.fail = nil; clear(sink.refuse) })
	w.until("in force", func() bool { return sink.vips(w.group("other")) == w.vip(2) })
	w.endpoints("web", "198.18.0.9")
	w.until("not refused", func() bool {
		return len(s.Status().Refused) == 0 && sink.backends(w.group("web")) == "198.18.0.9:8080*1"
	})
}

func TestWeightsOfPods(t *testing.T) {
	w := newWorld(t)
	sink := newMemory()
	s := w.start(sink, func(c *Config) { c.Settings.PodWeights = true })
	w.until("in step", s.Synced)
	w.web("web", 1)
	w.until("in force", func() bool { return sink.backends(w.group("web")) == "198.18.0.1:8080*1" })
	if _, err := w.client.CoreV1().ServiceAccounts(w.ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.CoreV1().Pods(w.ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-pod-0", Annotations: map[string]string{kube.Domain + "/weight": "5"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("weighted", func() bool { return sink.backends(w.group("web")) == "198.18.0.1:8080*5" })
}

// A permission that is missing keeps the node from being in step, and is named.
func TestPermissionsThatAreMissing(t *testing.T) {
	w := newWorld(t)
	user, err := plane.User("powerless")
	if err != nil {
		t.Fatal(err)
	}
	sink := newMemory(w.group("old"))
	s := w.start(sink, func(c *Config) { c.REST = user })
	w.until("refused", func() bool {
		n := 0
		for _, k := range s.Status().Connection.Kinds {
			if k.Code == http.StatusForbidden && k.Rule != "" {
				n++
			}
		}
		return n == 3
	})
	if s.Synced() || len(sink.Groups()) != 1 {
		t.Error("the sink was touched")
	}
}

func TestConfigThatIsIncomplete(t *testing.T) {
	for want, cfg := range map[string]Config{
		"k8ssync: there is nothing to put what Kubernetes wants in force": {},
		"k8ssync: who the nodes of Fairlead are is not known":             {Sink: newMemory()},
	} {
		if _, err := New(cfg); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// Without the objects of the Gateway API, Services are served all the same.
func TestGatewayAPIThatIsNotInstalled(t *testing.T) {
	w := newWorld(t)
	w.web("web", 1)
	sink := newMemory()
	s := w.start(sink, func(c *Config) { c.Settings.Gateway = true })
	w.until("in step", s.Synced)
	if got := sink.backends(w.group("web")); got != "198.18.0.1:8080*1" {
		t.Errorf("backends %s", got)
	}
	if st := s.Status(); !st.Connection.Connected {
		t.Errorf("status %+v", st)
	}
	if _, err := w.client.CoreV1().Services(w.ns).Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "inner"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("Services of other types are known", func() bool { _, there := s.Objects().Services.Get(w.ns, "inner"); return there })
	sum := s.Reports()
	for _, key := range s.Keys() {
		if key.Namespace != w.ns {
			continue
		}
		o, there := s.Describe(key, &sum)
		if !there || key.Name != "web" || o.Method != kube.Pods || o.Ready != 1 || o.Draining != 0 || o.Nodes != 1 || len(o.Addresses) != 1 || o.Ports[0] != "tcp/80" || len(o.Problems) != 0 {
			t.Errorf("%+v", o)
		}
	}
	w.until("the API server's version is known", func() bool { return strings.HasPrefix(s.Version(), "v1.") })
}
