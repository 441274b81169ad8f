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
	Log    *slog.Logger     // optional
	Now    func() time.Time // optional
}

// Writer writes what the Gateway API's objects are told, on the elected node: the
// statuses of GatewayClasses, Gateways and routes, and the finalizers of Gateways.
type Writer struct{ cfg WriterConfig }

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
	return &Writer{cfg: cfg}, nil
}

// DefaultPatience is how long nodes are waited for before an address is free.
const DefaultPatience = 15 * time.Second

// Times of the writer.
const (
	retry       = time.Second      // until something that failed is tried again
	resync      = 10 * time.Minute // between looks at everything although nothing has changed
	callTimeout = 10 * time.Second // of one request
)

// term is what a writer knows while it is the elected one.
type term struct {
	*Writer
	sum      report.Sum
	written  map[string]string                   // by object: the resourceVersion that the last write was made upon
	inForce  map[kube.Key]standing               // by Gateway
	why      map[kube.Key]Addressing             // by Gateway: why it has no address, or not those that it asks for
	told     map[string]map[toldProblem]struct{} // by object: problems that Events have been made of
	leaving  map[kube.Key]time.Time              // since when Gateways are being let go of
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
		told: map[string]map[toldProblem]struct{}{}, leaving: map[kube.Key]time.Time{}}
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	defer w.cfg.Room.Watch(poke)()
	if w.cfg.Fellows != nil {
		defer w.cfg.Fellows.Watch(poke)()
	}
	for {
		pause := resync
		if t.all(ctx); t.problems > 0 || len(t.leaving) > 0 {
			pause = retry
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
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
	t.forget(plan)
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
func (t *term) forget(plan *Plan) {
	there := make(map[kube.Key]bool)
	objects := make(map[string]bool)
	for _, name := range plan.Classes() {
		objects["GatewayClass "+name] = true
	}
	for _, gw := range plan.in.Gateways {
		there[KeyOf(gw)], objects[KeyOf(gw).String()] = true, true
	}
	for key := range plan.routes {
		objects[key.String()] = true
	}
	gone := func(k kube.Key) bool { return !there[k] }
	maps.DeleteFunc(t.inForce, func(k kube.Key, _ standing) bool { return gone(k) })
	maps.DeleteFunc(t.why, func(k kube.Key, _ Addressing) bool { return gone(k) })
	maps.DeleteFunc(t.leaving, func(k kube.Key, _ time.Time) bool { return gone(k) })
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
