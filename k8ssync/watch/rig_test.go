package watch

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairlead/perf/kube"
)

// plane is the control plane that the tests share. Those that stop it do not run in
// parallel with others.
var plane *kube.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(kube.Main(m, kube.Config{}, func(c *kube.ControlPlane) error {
		plane = c
		return nil
	}))
}

// admin writes what the tests are about.
func admin(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(plane.REST())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// namespace makes one for the test.
func namespace(t *testing.T) string {
	t.Helper()
	ns, err := admin(t).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "watch-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// lines is a log that can be read while it is written.
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

func connect(t *testing.T, cfg *rest.Config) (*Connection, *lines) {
	t.Helper()
	out := &lines{}
	c, err := Connect(Config{REST: cfg, UserAgent: "fairlead/test", Log: slog.New(slog.NewTextHandler(out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, out
}

// run follows objects until the end of the test.
func run[T Object](t *testing.T, o *Objects[T]) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func follow[T Object](t *testing.T, c *Connection, r Resource[T]) *Objects[T] {
	t.Helper()
	o, err := New(c, r)
	if err != nil {
		t.Fatal(err)
	}
	run(t, o)
	return o
}

// servicesIn are those of one namespace.
func servicesIn(ns string) Resource[*corev1.Service] {
	r := Services(true)
	r.Namespace = ns
	return r
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func service(ns, name string, annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Annotations: annotations},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func create(t *testing.T, svc *corev1.Service) *corev1.Service {
	t.Helper()
	out, err := admin(t).CoreV1().Services(svc.Namespace).Create(t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func remove(t *testing.T, ns, name string) {
	t.Helper()
	if err := admin(t).CoreV1().Services(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

// through sends requests by a function, to change what an API server is asked.
type through func(*http.Request) (*http.Response, error)

func (f through) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// between has f between a client and the API server.
func between(t *testing.T, cfg *rest.Config, f func(next http.RoundTripper, r *http.Request) (*http.Response, error)) *rest.Config {
	t.Helper()
	next, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{Host: cfg.Host, Transport: through(func(r *http.Request) (*http.Response, error) { return f(next, r) })}
}

func kind(t *testing.T, c *Connection, name string) KindStatus {
	t.Helper()
	for _, k := range c.Status().Kinds {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("%q is not followed: %+v", name, c.Status())
	return KindStatus{}
}

func testLog(out *lines) *slog.Logger { return slog.New(slog.NewTextHandler(out, nil)) }

// otherPlane is a control plane that knows nothing of what was done on the first.
func otherPlane(t *testing.T) *kube.ControlPlane { return kube.ForTest(t, kube.Config{}) }

// switched asks the second API server as soon as it is told to: the same address,
// and another database behind it.
func switched(t *testing.T, first, second *rest.Config, to *atomic.Bool) *rest.Config {
	t.Helper()
	other, err := rest.TransportFor(second)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(second.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(other) })
	return between(t, first, func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if !to.Load() {
			return next.RoundTrip(r)
		}
		r = r.Clone(r.Context())
		r.URL.Host, r.Host = at.Host, ""
		return other.RoundTrip(r)
	})
}
