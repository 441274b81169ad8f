package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// Addresses are who holds which address: what the Services' writer uses as well.
// Nothing is asked before all that hold addresses are known to it.
type Addresses interface {
	// Ensure has a Gateway hold addresses. It keeps what it has as long as that can
	// be; what it has to leave stays reserved for it until Release.
	Ensure(ctx context.Context, r allocate.Request) (allocate.Assignment, error)
	// Release has a Gateway hold nothing any more but what is to be kept. One that
	// holds nothing is fine.
	Release(ctx context.Context, key kube.Key, keep ...netip.Addr) error
	// Holds are the addresses that are reserved for a Gateway.
	Holds(key kube.Key) []netip.Addr
}

// WriterConfig is what a Writer is made of.
type WriterConfig struct {
	Room      *Room
	Addresses Addresses
	Fellows   kube.Fellows // nil: it is not known what is in force where
	// Tell makes an Event of a problem. Optional.
	Tell func(object runtime.Object, problem kube.Problem)
	// Patience is how long nodes that have no connection, or are slow, are waited for
	// before an address is free; 0: DefaultPatience.
	Patience time.Duration
	// Failed is called when something could not be written. Optional.
	Failed func()
	// Resync is between looks at everything although nothing has changed; 0:
	// DefaultResync.
	Resync time.Duration
	Log    *slog.Logger     // optional
	Now    func() time.Time // optional
}

// Writer writes what the Gateway API's objects are told, on the elected node: the
// statuses of GatewayClasses, Gateways and routes, and the finalizers of Gateways.
type Writer struct {
	cfg  WriterConfig
	room chan struct{} // holds at most one: there may be addresses for those that got none
	wake chan struct{} // likewise: something is to be looked at
}

// NewWriter prepares a writer.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	if cfg.Room == nil || cfg.Addresses == nil {
		return nil, errors.New("gateway: a writer needs a room and addresses")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if cfg.Tell == nil {
		cfg.Tell = func(runtime.Object, kube.Problem) {}
	}
	if cfg.Failed == nil {
		cfg.Failed = func() {}
	}
	if cfg.Resync == 0 {
		cfg.Resync = DefaultResync
	}
	return &Writer{cfg: cfg, room: make(chan struct{}, 1), wake: make(chan struct{}, 1)}, nil
}

// The times of the writer.
const (
	DefaultPatience = 15 * time.Second // nodes are waited for before an address is free
	DefaultResync   = 10 * time.Minute

	retry       = time.Second      // until something that failed is tried again
	callTimeout = 10 * time.Second // of one request
	vanishedFor = 2 * time.Second  // nodes are given to see that a Gateway has gone without waiting for us
)

// Touch says that something about Gateways' addresses may have changed.
func (w *Writer) Touch() { raise(w.wake) }

// TouchUnserved says that there may be addresses for those that got none: a pool has
// changed, or another object has given some back.
func (w *Writer) TouchUnserved() { raise(w.room) }

func raise(flag chan struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}

// term is what a writer knows while it is the elected one.
type term struct {
	*Writer
	sum      report.Sum
	written  map[string]string                   // by object: the resourceVersion that the last write was made upon
	inForce  map[kube.Key]standing               // by Gateway
	why      map[kube.Key]Addressing             // by Gateway: why it has no address, or not those that it asks for
	told     map[string]map[toldProblem]struct{} // by object: problems that Events have been made of
	leaving  map[kube.Key]time.Time              // since when Gateways are being let go of
	known    map[kube.Key]bool                   // Gateways that there are, or whose addresses are still to be given back
	problems int                                 // objects that are to be tried again
}

type toldProblem struct{ reason, message string }

// standing is what a Gateway puts in force, and since when.
type standing struct {
	generation int64
	addresses  string
	version    string // resourceVersion by which it did first
}

// Run writes until ctx ends. It may be called again after it has returned, but not
// before. The room must be running.
func (w *Writer) Run(ctx context.Context) {
	select {
	case <-w.cfg.Room.Synced():
	case <-ctx.Done():
		return
	}
	t := &term{Writer: w, written: map[string]string{}, inForce: map[kube.Key]standing{}, why: map[kube.Key]Addressing{},
		told: map[string]map[toldProblem]struct{}{}, leaving: map[kube.Key]time.Time{}, known: map[kube.Key]bool{}}
	defer w.cfg.Room.Watch(w.Touch)()
	if w.cfg.Fellows != nil {
		defer w.cfg.Fellows.Watch(w.Touch)()
	}
	for ctx.Err() == nil {
		pause := w.cfg.Resync
		if t.all(ctx); t.problems > 0 || len(t.leaving) > 0 {
			pause = retry
		}
		t.rest(ctx, pause)
	}
}

// rest waits until there is something to do.
func (t *term) rest(ctx context.Context, longest time.Duration) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
			return
		case <-timer.C:
			return
		case <-t.room:
			if t.unserved() {
				return
			}
		}
	}
}

// unserved reports whether a Gateway has not got the addresses that it asks for.
func (t *term) unserved() bool {
	for _, why := range t.why {
		if why != (Addressing{}) {
			return true
		}
	}
	return false
}

// all brings every object to what it is to be.
func (t *term) all(ctx context.Context) {
	t.problems = 0
	if t.cfg.Fellows != nil {
		t.sum = report.Of(t.cfg.Fellows)
	}
	plan := t.cfg.Room.Plan()
	m := Moment{Now: metav1.NewTime(t.cfg.Now()), Addressing: func(k kube.Key) Addressing { return t.why[k] }, Progress: t.progress(plan)}
	for _, name := range plan.Classes() {
		t.try(ctx, "GatewayClass "+name, func(ctx context.Context) error { return t.class(ctx, plan, name, m) })
	}
	for _, gw := range plan.in.Gateways {
		key := KeyOf(gw)
		t.try(ctx, key.String(), func(ctx context.Context) error { return t.gateway(ctx, plan, key, gw, m) })
	}
	for _, key := range plan.sequence {
		t.try(ctx, key.String(), func(ctx context.Context) error { return t.route(ctx, plan, key, m) })
	}
	t.forget(ctx, plan)
}

// try does one thing within its time. What fails is tried again later.
func (t *term) try(ctx context.Context, what string, f func(ctx context.Context) error) {
	if ctx.Err() != nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := f(bounded); err != nil && ctx.Err() == nil {
		t.problems++
		if !isConflict(err) {
			t.cfg.Failed()
			t.cfg.Log.Warn("what the Gateway API is to be told could not be written", "object", what, "error", err)
		}
	}
}

// forget drops what is remembered of objects that are no more.
func (t *term) forget(ctx context.Context, plan *Plan) {
	there := make(map[kube.Key]bool)
	objects := make(map[string]bool)
	for _, name := range plan.Classes() {
		objects["GatewayClass "+name] = true
	}
	for _, gw := range plan.in.Gateways {
		key := KeyOf(gw)
		there[key], objects[key.String()] = true, true
		t.known[key] = true
	}
	for key := range plan.routes {
		objects[key.String()] = true
	}
	for key := range t.known {
		if !there[key] {
			t.try(ctx, key.String(), func(ctx context.Context) error { return t.vanished(ctx, key) })
		}
	}
	gone := func(k kube.Key) bool { return !there[k] }
	maps.DeleteFunc(t.inForce, func(k kube.Key, _ standing) bool { return gone(k) })
	maps.DeleteFunc(t.why, func(k kube.Key, _ Addressing) bool { return gone(k) })
	maps.DeleteFunc(t.leaving, func(k kube.Key, _ time.Time) bool { return gone(k) && !t.known[k] })
	maps.DeleteFunc(t.written, func(k string, _ string) bool { return !objects[k] })
	maps.DeleteFunc(t.told, func(k string, _ map[toldProblem]struct{}) bool { return !objects[k] })
}

// tell makes Events of problems that have not been told yet.
func (t *term) tell(object runtime.Object, id string, problems []kube.Problem) {
	now := make(map[toldProblem]struct{}, len(problems))
	for _, p := range problems {
		one := toldProblem{p.Reason, p.Message}
		if _, before := t.told[id][one]; !before {
			t.cfg.Tell(object, p)
		}
		now[one] = struct{}{}
	}
	t.told[id] = now
}

// fresh reports whether the copy of an object is newer than the one that the last
// write was made upon: what was written has been seen, or something else has.
func (t *term) fresh(id, version string) bool { return t.written[id] != version }

// progress says where a Gateway is in force.
func (t *term) progress(plan *Plan) func(kube.Key) Progress {
	return func(key kube.Key) Progress {
		if t.cfg.Fellows == nil {
			return Progress{}
		}
		g := plan.gateways[key]
		s := standing{generation: g.object.Generation, addresses: fmt.Sprint(recorded(g.object)), version: g.object.ResourceVersion}
		if before, known := t.inForce[key]; known && before.generation == s.generation && before.addresses == s.addresses {
			s = before
		}
		t.inForce[key] = s
		p := t.sum.Programmed(key, s.version)
		out := Progress{Nodes: p.On, Of: p.Of, Settled: p.Settled()}
		for _, m := range p.Missing {
			out.Why = append(out.Why, m.String())
		}
		return out
	}
}
