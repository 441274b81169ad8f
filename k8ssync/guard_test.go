package k8ssync

import (
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"fairlead/controlplane/model"
	kubelab "fairlead/perf/kube"
)

// eitherOf is a way to an API server that ends with stop, and leads after turn to
// another one, as to the same one with another database.
func eitherOf(t *testing.T, first, second *kubelab.ControlPlane) (cfg *rest.Config, stop, turn func()) {
	t.Helper()
	proxy, err := first.NewProxy(nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	var other atomic.Bool
	at, err := url.Parse(second.REST().Host)
	if err != nil {
		t.Fatal(err)
	}
	next, err := rest.TransportFor(second.REST())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(next) })
	cfg = proxy.REST(first.REST())
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return through(func(r *http.Request) (*http.Response, error) {
			if !other.Load() {
				return rt.RoundTrip(r)
			}
			r = r.Clone(r.Context())
			r.URL.Host, r.Host = at.Host, ""
			return next.RoundTrip(r)
		})
	})
	return cfg, proxy.Refuse, func() { other.Store(true) }
}

// What an API server has forgotten whose database was put back stays in force, and
// ends when it is still missing later.
func TestWhatKubernetesForgetsStaysForAWhile(t *testing.T) {
	w := newWorld(t)
	w.web("web", 1)
	w.web("other", 2)
	second := kubelab.ForTest(t, kubelab.Config{})
	cfg, stop, turn := eitherOf(t, plane, second)
	var ahead atomic.Int64
	sink := newMemory()
	s := w.start(sink, func(c *Config) {
		c.REST = cfg
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	w.until("in step", s.Synced)
	stop()
	w.until("away", func() bool { return !s.Status().Connection.Connected })
	turn()
	w.until("held", func() bool { return len(s.Status().Held) == 2 })
	if got := sink.Groups(); len(got) != 2 || sink.backends(w.group("web")) != "198.18.0.1:8080*1" {
		t.Errorf("groups %v, backends %s", got, sink.backends(w.group("web")))
	}
	w.until("connected", func() bool { return s.Status().Connection.Connected })
	ahead.Store(int64(holdFor))
	w.until("removed", func() bool { return len(sink.Groups()) == 0 && len(s.Status().Held) == 0 })
}

// A node that starts and finds most of what it remembers missing keeps it for a
// while; what is there is in force at once.
func TestWhatTheDiskRemembersAndKubernetesDoesNot(t *testing.T) {
	w := newWorld(t)
	w.web("web", 1)
	var ahead atomic.Int64
	sink := newMemory(w.group("a"), w.group("b"), w.group("c"), w.group("web"))
	s := w.start(sink, func(c *Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	w.until("in step", s.Synced)
	if st := s.Status(); len(st.Held) != 3 || len(sink.Groups()) != 4 || sink.vips(w.group("web")) != w.vip(1) {
		t.Errorf("status %+v, groups %v", st, sink.Groups())
	}
	w.service("a")
	w.status("a", w.vip(3))
	w.until("it is there again", func() bool { return sink.vips(w.group("a")) == w.vip(3) && len(s.Status().Held) == 2 })
	ahead.Store(int64(holdFor))
	w.until("given up", func() bool { return len(sink.Groups()) == 2 && len(s.Status().Held) == 0 })
}

// What is held gives way to what wants its place.
func TestWhatIsHeldGivesWay(t *testing.T) {
	w := newWorld(t)
	sink := newMemory(w.group("a"), w.group("b"), w.group("c"))
	s := w.start(sink, nil)
	w.until("in step", s.Synced)
	if len(s.Status().Held) != 3 {
		t.Fatalf("status %+v", s.Status())
	}
	// What is refused for another reason says nothing about them.
	sink.with(func() { sink.refuse[w.group("broken")] = errBroken })
	w.web("broken", 2)
	w.until("refused", func() bool { return len(s.Status().Refused) == 1 })
	clash := &model.ClashError{Rival: w.group("b") + "/tcp-80/198.18.0.1", Message: "b has it"}
	sink.with(func() { sink.refuse[w.group("web")] = clash })
	w.web("web", 1)
	w.until("given up", func() bool { return len(s.Status().Held) == 2 })
	w.until("removed", func() bool { return len(sink.Groups()) == 2 })
	if got := sink.Groups(); slices.Contains(got, w.group("b")) {
		t.Errorf("what is in the way is still in force: %v", got)
	}
}
