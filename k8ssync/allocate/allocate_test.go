package allocate

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
	kubelab "fairlead/perf/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a real API server with our CRDs, and Services.
type world struct {
	config *rest.Config
	core   *kubernetes.Clientset
	ours   *v1alpha1.Client
}

// TestAPI starts one API server for all tests that need one. Each has a namespace
// and pools of its own.
func TestAPI(t *testing.T) {
	cp := kubelab.ForTest(t, kubelab.Config{})
	testNoCRDs(t, cp.REST())
	if err := cp.InstallCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{config: cp.REST()}
	var err error
	if w.core, err = kubernetes.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	if w.ours, err = v1alpha1.NewClient(w.config); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *world, string)
	}{
		{"life", testLife},
		{"shared", testShared},
		{"moving", testMoving},
		{"crash", testCrash},
		{"deleted", testDeletedReservation},
		{"leftovers", testLeftovers},
		{"operator", testOperator},
		{"lost-answers", testLostAnswers},
		{"foreign-claims", testForeignClaims},
		{"pool-status", testPoolStatus},
		{"policy", testPolicy},
		{"race", testRace},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := w.core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: test.name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			test.run(t, w, test.name)
			// Nothing stays for the next one.
			for _, r := range w.reservations(t) {
				if err := w.ours.Reservations().Delete(t.Context(), r.Name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// testNoCRDs: what an operator is told who has forgotten a step.
func testNoCRDs(t *testing.T, config *rest.Config) {
	client, err := v1alpha1.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Client: client, Owner: nobody, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const want = "there are no addresspools.fairlead.io: their CRD is not installed (fairlead k8s crds prints it): the server could not find the requested resource (get addresspools.fairlead.io)"
	if err := a.Sync(t.Context(), nil); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant %s", err, want)
	}
}

func (w *world) reservations(t *testing.T) []v1alpha1.AddressReservation {
	t.Helper()
	list, err := w.ours.Reservations().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// ledgerOf are the reservations in words, sorted.
func (w *world) ledgerOf(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, r := range w.reservations(t) {
		line := r.Spec.Address
		if r.Spec.Pool != "" {
			line += " of " + r.Spec.Pool
		}
		for _, h := range r.Spec.Holders {
			line += " " + h.Name
		}
		if f := r.Spec.ReservedFor; f != nil {
			line += " for " + f.Name
		}
		if r.Spec.Retain {
			line += " retained"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (w *world) expectLedger(t *testing.T, want ...string) {
	t.Helper()
	if got := w.ledgerOf(t); got != strings.Join(want, "\n") {
		t.Errorf("reservations:\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func aPool(name string, addresses ...string) kube.AddressPool {
	p := kube.AddressPool{Name: name, AutoAssign: true}
	for _, a := range addresses {
		r, err := ParseRange(a)
		if err != nil {
			panic(err)
		}
		p.Ranges = append(p.Ranges, r)
	}
	return p
}

// nobody says that no object is there.
func nobody(context.Context, kube.Key) (Owner, error) { return Owner{}, nil }

// allocator is one that has begun.
func (w *world) allocator(t *testing.T, change func(*Config), all ...Request) *Allocator {
	t.Helper()
	cfg := Config{
		Client: w.ours, Owner: nobody, Log: slog.New(slog.DiscardHandler),
		Pools: []kube.AddressPool{aPool("p", "192.0.2.0/29", "2001:db8::/125")},
	}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Sync(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	return a
}

func ask(namespace, name string, change ...func(*Request)) Request {
	r := Request{
		Key:      kube.Key{Kind: kube.Service, Namespace: namespace, Name: name},
		UID:      "uid-" + name,
		Families: []ledger.Family{ledger.IPv4},
		Ports:    []ledger.Port{{Protocol: "TCP", Port: 80}},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func dual(r *Request)   { r.Families = []ledger.Family{ledger.IPv4, ledger.IPv6} }
func retain(r *Request) { r.Options.Retain = true }
func held(addresses ...string) func(*Request) {
	return func(r *Request) {
		for _, a := range addresses {
			r.Held = append(r.Held, netip.MustParseAddr(a))
		}
	}
}
func wants(address string) func(*Request) {
	return func(r *Request) { r.Options.Addresses = []netip.Addr{netip.MustParseAddr(address)} }
}
func sharing(port uint16) func(*Request) {
	return func(r *Request) { r.Options.SharingKey, r.Ports = "k", []ledger.Port{{Protocol: "TCP", Port: port}} }
}

func (a *Allocator) expect(t *testing.T, r Request, want string) {
	t.Helper()
	got, err := a.Ensure(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(got.Addresses)
	for _, p := range got.Problems {
		text += fmt.Sprintf("\n%s %s: %s", p.Severity, p.Reason, p.Message)
	}
	if text != want {
		t.Errorf("%s gets\n%s\nwant\n%s", r.Key, text, want)
	}
}

func (a *Allocator) release(t *testing.T, r Request, keep ...string) {
	t.Helper()
	var kept []netip.Addr
	for _, k := range keep {
		kept = append(kept, netip.MustParseAddr(k))
	}
	if err := a.Release(t.Context(), r.Key, kept...); err != nil {
		t.Error(err)
	}
}

func testLife(t *testing.T, w *world, ns string) {
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "a", dual, retain), "[192.0.2.0 2001:db8::]")
	a.expect(t, ask(ns, "b"), "[192.0.2.1]")
	a.expect(t, ask(ns, "c", wants("192.0.2.1")), "[]\nWarning AddressTaken: 192.0.2.1 is held by service life/b")
	a.expect(t, ask(ns, "b", held("192.0.2.1")), "[192.0.2.1]")
	w.expectLedger(t, "192.0.2.0 of p a", "192.0.2.1 of p b", "2001:db8:: of p a")
	if h, ok := a.Holder(ask(ns, "b").Key, netip.MustParseAddr("192.0.2.1")); !ok || h.UID != "uid-b" {
		t.Errorf("holder %+v", h)
	}
	a.release(t, ask(ns, "a"))
	a.release(t, ask(ns, "b"))
	a.release(t, ask(ns, "b"))
	w.expectLedger(t, "192.0.2.0 of p for a retained", "2001:db8:: of p for a retained")

	// Another writer, after all that.
	b := w.allocator(t, nil)
	b.expect(t, ask(ns, "d", wants("192.0.2.0")), "[]\nWarning AddressReserved: 192.0.2.0 is reserved for service life/a")
	b.expect(t, ask(ns, "a", dual), "[192.0.2.0 2001:db8::]")
	b.release(t, ask(ns, "a"))
	w.expectLedger(t)
}

func testShared(t *testing.T, w *world, ns string) {
	var looks atomic.Int32
	a, b := w.allocator(t, func(c *Config) { c.Changed = func([]kube.Key) { looks.Add(1) } }), w.allocator(t, nil)
	a.expect(t, ask(ns, "a", sharing(80)), "[192.0.2.0]")
	a.expect(t, ask(ns, "a", sharing(81)), "[192.0.2.0]")
	if looks.Load() != 1 {
		t.Errorf("%d looks after a port has become free", looks.Load())
	}
	a.expect(t, ask(ns, "a", sharing(80), held("192.0.2.0")), "[192.0.2.0]")
	// b knows nothing of it, learns of it, and joins.
	b.expect(t, ask(ns, "b", sharing(443)), "[192.0.2.0]")
	b.expect(t, ask(ns, "c", sharing(443)), "[192.0.2.1]")
	a.expect(t, ask(ns, "d", sharing(8080)), "[192.0.2.0]")
	w.expectLedger(t, "192.0.2.0 of p a b d", "192.0.2.1 of p c")
	b.release(t, ask(ns, "a"))
	a.release(t, ask(ns, "b"))
	a.release(t, ask(ns, "d"))
	w.expectLedger(t, "192.0.2.1 of p c")

	// An older version is read while a claim is being written.
	address := netip.MustParseAddr("192.0.2.6")
	b.expect(t, ask(ns, "e", sharing(1), wants("192.0.2.6")), "[192.0.2.6]")
	if err := a.look(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	_, writes, _ := a.decide(ask(ns, "f", sharing(2), wants("192.0.2.6")))
	if err := a.look(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if err := a.doAll(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	a.expect(t, ask(ns, "g", sharing(3), wants("192.0.2.6")), "[192.0.2.6]")
	w.expectLedger(t, "192.0.2.1 of p c", "192.0.2.6 of p e f g")

	// All at once: each holder is there in the end.
	var group sync.WaitGroup
	for i := range 12 {
		writer := a
		if i%2 == 1 {
			writer = b
		}
		group.Go(func() {
			if _, err := writer.Ensure(t.Context(), ask(ns, fmt.Sprint("s", i), sharing(uint16(1000+i)), wants("192.0.2.7"))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, r := range w.reservations(t) {
		if r.Spec.Address == "192.0.2.7" && len(r.Spec.Holders) != 12 {
			t.Errorf("holders: %v", r.Spec.Holders)
		}
	}
}

func testMoving(t *testing.T, w *world, ns string) {
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "a"), "[192.0.2.0]")
	a.expect(t, ask(ns, "a", held("192.0.2.0"), wants("192.0.2.5")), "[192.0.2.5]")
	if got := fmt.Sprint(a.Holds(ask(ns, "a").Key)); got != "[192.0.2.0 192.0.2.5]" {
		t.Errorf("while it moves it holds %s", got)
	}
	w.expectLedger(t, "192.0.2.0 of p a", "192.0.2.5 of p a")
	a.release(t, ask(ns, "a"), "192.0.2.5")
	w.expectLedger(t, "192.0.2.5 of p a")
	// Its pool is gone.
	b := w.allocator(t, func(c *Config) { c.Pools = []kube.AddressPool{aPool("q", "198.51.100.0/29")} }, ask(ns, "a", held("192.0.2.5")))
	b.expect(t, ask(ns, "a", held("192.0.2.5")), "[192.0.2.5]\nWarning AddressOutsidePools: 192.0.2.5 is in no address pool any more; the service keeps it until it asks for another one")
	b.release(t, ask(ns, "a"))
}

// testCrash: whatever has been written when a writer dies, the next one goes on with
// it.
func testCrash(t *testing.T, w *world, ns string) {
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "a"), "[192.0.2.0]") // the status is never written
	a.expect(t, ask(ns, "b"), "[192.0.2.1]")
	a.expect(t, ask(ns, "b", held("192.0.2.1"), wants("192.0.2.6")), "[192.0.2.6]") // nor this one's new address
	a.expect(t, ask(ns, "c"), "[192.0.2.2]")                                        // is deleted while nobody writes

	b := w.allocator(t, nil, ask(ns, "b", held("192.0.2.1"), wants("192.0.2.6")), ask(ns, "a"), ask(ns, "d", held("192.0.2.3")))
	w.expectLedger(t, "192.0.2.0 of p a", "192.0.2.1 of p b", "192.0.2.3 of p d", "192.0.2.6 of p b")
	b.expect(t, ask(ns, "a"), "[192.0.2.0]")
	b.expect(t, ask(ns, "b", held("192.0.2.1"), wants("192.0.2.6")), "[192.0.2.6]")
	b.expect(t, ask(ns, "d", held("192.0.2.3")), "[192.0.2.3]")
	for _, name := range []string{"a", "b", "d"} {
		b.release(t, ask(ns, name))
	}
	w.expectLedger(t)
}

// testDeletedReservation: what a status records outlives its reservation.
func testDeletedReservation(t *testing.T, w *world, ns string) {
	var mu sync.Mutex
	var told []kube.Key
	a := w.allocator(t, func(c *Config) {
		c.Changed = func(keys []kube.Key) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, keys...)
		}
	})
	stop := w.follow(t, a)
	defer stop()
	a.expect(t, ask(ns, "a"), "[192.0.2.0]")
	if err := w.ours.Reservations().Delete(t.Context(), "192.0.2.0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the writer is told", func() error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(told, ask(ns, "a").Key) {
			return fmt.Errorf("told of %v", told)
		}
		return nil
	})
	a.expect(t, ask(ns, "b", wants("192.0.2.0")), "[]\nWarning AddressTaken: 192.0.2.0 is held by service deleted/a")
	a.expect(t, ask(ns, "a", held("192.0.2.0")), "[192.0.2.0]")
	w.expectLedger(t, "192.0.2.0 of p a")
	a.release(t, ask(ns, "a"))
	w.expectLedger(t)
}

// follow feeds an allocator with what informers see.
func (w *world) follow(t *testing.T, a *Allocator) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	reservations := cache.NewSharedInformer(w.ours.WatchReservations(), &v1alpha1.AddressReservation{}, 0)
	pools := cache.NewSharedInformer(w.ours.WatchPools(), &v1alpha1.AddressPool{}, 0)
	object := func(o any) any {
		if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
			return d.Obj
		}
		return o
	}
	for _, err := range []error{
		second(reservations.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(o any) { a.ReservationEvent(nil, o.(*v1alpha1.AddressReservation)) },
			UpdateFunc: func(o, n any) {
				a.ReservationEvent(o.(*v1alpha1.AddressReservation), n.(*v1alpha1.AddressReservation))
			},
			DeleteFunc: func(o any) { a.ReservationEvent(object(o).(*v1alpha1.AddressReservation), nil) },
		})),
		second(pools.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { a.PoolEvent(nil, o.(*v1alpha1.AddressPool)) },
			UpdateFunc: func(o, n any) { a.PoolEvent(o.(*v1alpha1.AddressPool), n.(*v1alpha1.AddressPool)) },
			DeleteFunc: func(o any) { a.PoolEvent(object(o).(*v1alpha1.AddressPool), nil) },
		})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, informer := range []cache.SharedInformer{reservations, pools} {
		group.Go(func() { informer.Run(ctx.Done()) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), reservations.HasSynced, pools.HasSynced) {
		t.Fatal("no sync")
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func second[T any](_ T, err error) error { return err }

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

// testLeftovers: what nobody wants any more is given back, and nothing else.
func testLeftovers(t *testing.T, w *world, ns string) {
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "gone"), "[192.0.2.0]")
	a.expect(t, ask(ns, "new"), "[192.0.2.1]") // made by another writer after the list
	a.expect(t, ask(ns, "kept", retain), "[192.0.2.2]")
	var asked []string
	owner := func(_ context.Context, key kube.Key) (Owner, error) {
		asked = append(asked, key.Name)
		return Owner{Wants: key.Name == "new"}, nil
	}
	b := w.allocator(t, func(c *Config) { c.Owner = owner })
	w.expectLedger(t, "192.0.2.1 of p new", "192.0.2.2 of p for kept retained")
	if !slices.Equal(asked, []string{"gone", "kept", "new"}) {
		t.Errorf("asked for %v", asked)
	}
	// What another writer leaves behind is found in time.
	a.expect(t, ask(ns, "left"), "[192.0.2.3]")
	if err := b.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	w.expectLedger(t, "192.0.2.1 of p new", "192.0.2.2 of p for kept retained")
	// When the API server cannot be asked, nothing is given back.
	failing := fmt.Errorf("no answer")
	c, err := New(Config{Client: w.ours, Log: slog.New(slog.DiscardHandler), Owner: func(context.Context, kube.Key) (Owner, error) { return Owner{}, failing }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Sync(t.Context(), nil); err == nil || err.Error() != "holder of addresses service leftovers/new: no answer" {
		t.Errorf("error %v", err)
	}
	w.expectLedger(t, "192.0.2.1 of p new", "192.0.2.2 of p for kept retained")
}

// testOperator: what operators reserve.
func testOperator(t *testing.T, w *world, ns string) {
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "first"), "[192.0.2.0]")
	for address, name := range map[string]string{"192.0.2.1": "", "192.0.2.2": "web"} {
		r := &v1alpha1.AddressReservation{ObjectMeta: metav1.ObjectMeta{Name: address}, Spec: v1alpha1.AddressReservationSpec{Address: address}}
		if name != "" {
			r.Spec.ReservedFor = &v1alpha1.ObjectReference{Namespace: ns, Name: name}
		}
		if _, err := w.ours.Reservations().Create(t.Context(), r, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// It learns of them when it meets them.
	a.expect(t, ask(ns, "second"), "[192.0.2.3]")
	a.expect(t, ask(ns, "web"), "[192.0.2.2]")
	w.expectLedger(t, "192.0.2.0 of p first", "192.0.2.1", "192.0.2.2 of p web for web", "192.0.2.3 of p second")
	a.release(t, ask(ns, "web"))
	a.release(t, ask(ns, "first"))
	a.release(t, ask(ns, "second"))
	w.expectLedger(t, "192.0.2.1", "192.0.2.2 of p for web")
}

// breaking loses answers: requests are carried out, and their sender is told of an
// error.
type breaking struct {
	http.RoundTripper
	left atomic.Int32 // of changes until one answer is lost
}

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil && r.Method != http.MethodGet && b.left.Add(-1) == 0 {
		answer.Body.Close()
		return nil, fmt.Errorf("the answer is lost")
	}
	return answer, err
}

func testLostAnswers(t *testing.T, w *world, ns string) {
	b := &breaking{}
	config := rest.CopyConfig(w.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		b.RoundTripper = next
		return b
	})
	client, err := v1alpha1.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	a := w.allocator(t, func(c *Config) { c.Client = client })
	const lost = "the answer is lost"
	for n := int32(1); n <= 2; n++ {
		b.left.Store(n)
		if _, err := a.Ensure(t.Context(), ask(ns, "a", dual)); err == nil || !strings.Contains(err.Error(), lost) {
			t.Errorf("error %v", err)
		}
	}
	a.expect(t, ask(ns, "a", dual), "[192.0.2.0 2001:db8::]")
	w.expectLedger(t, "192.0.2.0 of p a", "2001:db8:: of p a")
	b.left.Store(1)
	if err := a.Release(t.Context(), ask(ns, "a").Key); err == nil || !strings.Contains(err.Error(), lost) {
		t.Errorf("error %v", err)
	}
	a.release(t, ask(ns, "a"))
	w.expectLedger(t)
	if left := a.Holds(ask(ns, "a").Key); len(left) > 0 {
		t.Errorf("holds %v", left)
	}
	a.expect(t, ask(ns, "b", wants("192.0.2.0")), "[192.0.2.0]")
}

// testForeignClaims: what another writer may be about to write into a status is left
// alone for a while.
func testForeignClaims(t *testing.T, w *world, ns string) {
	now := time.Unix(1_000_000, 0)
	a := w.allocator(t, nil)
	a.expect(t, ask(ns, "s"), "[192.0.2.0]")
	b := w.allocator(t, func(c *Config) { c.Now = func() time.Time { return now } }, ask(ns, "s", held("192.0.2.0")))
	stop := w.follow(t, b)
	// a moves it, and is slow to write that into the status.
	a.expect(t, ask(ns, "s", held("192.0.2.0"), wants("192.0.2.4")), "[192.0.2.4]")
	eventually(t, "b sees the claim", func() error {
		if len(b.Holds(ask(ns, "s").Key)) != 2 {
			return fmt.Errorf("b knows of %v", b.Holds(ask(ns, "s").Key))
		}
		return nil
	})
	stop()
	b.release(t, ask(ns, "s"), "192.0.2.0")
	w.expectLedger(t, "192.0.2.0 of p s", "192.0.2.4 of p s")
	now = now.Add(Grace - time.Second)
	b.release(t, ask(ns, "s"), "192.0.2.0")
	w.expectLedger(t, "192.0.2.0 of p s", "192.0.2.4 of p s")
	// Claimed again meanwhile, which b does not know.
	a.cfg.Now = func() time.Time { return time.Now().Add(time.Hour) }
	a.expect(t, ask(ns, "s", held("192.0.2.0"), wants("192.0.2.4")), "[192.0.2.4]")
	now = now.Add(time.Minute)
	b.release(t, ask(ns, "s"), "192.0.2.0")
	w.expectLedger(t, "192.0.2.0 of p s", "192.0.2.4 of p s")
	now = now.Add(Grace + time.Second)
	b.release(t, ask(ns, "s"), "192.0.2.0")
	w.expectLedger(t, "192.0.2.0 of p s")
	// It is gone altogether: nothing to wait for.
	b.release(t, ask(ns, "s"))
	w.expectLedger(t)
}
