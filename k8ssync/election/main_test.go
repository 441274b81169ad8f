package election_test

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	lab "fairlead/perf/kube"
)

// control is the control plane that all tests of the package share: each has a
// Lease of its own.
var control *lab.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(lab.Main(m, lab.Config{}, func(c *lab.ControlPlane) error {
		control = c
		return nil
	}))
}

// client is a client of the API server whose connection can be cut.
func client(t *testing.T, cfg *rest.Config) (kubernetes.Interface, *cut) {
	t.Helper()
	c := &cut{}
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { c.next = rt; return c })
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(httpClient.CloseIdleConnections)
	set, err := kubernetes.NewForConfigAndClient(cfg, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	return set, c
}

// cut is a way to the API server that a test cuts.
type cut struct {
	next http.RoundTripper

	mu  sync.Mutex
	off bool
}

func (c *cut) set(off bool) {
	c.mu.Lock()
	c.off = off
	c.mu.Unlock()
}

func (c *cut) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	off := c.off
	c.mu.Unlock()
	if off {
		return nil, fmt.Errorf("the test has cut the way to %s", r.URL.Path)
	}
	return c.next.RoundTrip(r)
}

// namespace is a namespace of the test's own.
func namespace(t *testing.T) string {
	t.Helper()
	set, _ := client(t, control.REST())
	ns, err := set.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "election-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
