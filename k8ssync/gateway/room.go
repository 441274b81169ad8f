package gateway

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/watch"
)

// RoomConfig is what a Room is made of.
type RoomConfig struct {
	Settings   kube.Settings
	Connection *watch.Connection
	Services   *watch.Objects[*corev1.Service] // all of them (watch.Services(true)); somebody else runs it
	Endpoints  Endpoints
	// Mark is told of Gateways whose group may be another one, when that was
	// learned, and whether something is gone because the API server's database was
	// put back to an earlier time. It is not to block. Optional.
	Mark func(key kube.Key, at time.Time, restored bool)
	Log  *slog.Logger     // optional
	Now  func() time.Time // optional
}

// Room follows the objects of the Gateway API and has a plan of what they mean. A
// cluster in which the API is not installed is one without such objects, until it
// is. Its methods may be called from any goroutine.
type Room struct {
	cfg     RoomConfig
	objects *objects
	client  rest.Interface
	wake    chan struct{} // holds at most one: there is news
	synced  chan struct{}

	mu       sync.Mutex
	news     bool
	since    time.Time // when the oldest of the news was learned
	restored bool      // by some of the news something is gone that nobody has deleted
	plan     *Plan
	services map[types.NamespacedName]bool // that routes name, whether there are such or not
	version  string
	watchers map[int]func()
	next     int
}

// look is how often it is looked whether the API server knows kinds that it did not.
const look = time.Second

// NewRoom prepares everything; nothing is asked of the API server before Run.
func NewRoom(cfg RoomConfig) (*Room, error) {
	if cfg.Connection == nil || cfg.Services == nil || cfg.Endpoints == nil {
		return nil, errors.New("gateway: a room needs a connection, Services and their endpoints")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Mark == nil {
		cfg.Mark = func(kube.Key, time.Time, bool) {}
	}
	o, err := newObjects(cfg.Connection)
	if err != nil {
		return nil, err
	}
	client, err := newClient(cfg.Connection)
	if err != nil {
		return nil, err
	}
	return &Room{cfg: cfg, objects: o, client: client, wake: make(chan struct{}, 1), synced: make(chan struct{}), plan: Resolve(Input{}), watchers: make(map[int]func())}, nil
}

// Run follows everything until ctx ends. It is called once.
func (r *Room) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.objects.run(ctx) })
	g.Go(func() error { r.follow(ctx); return nil })
	return g.Wait()
}

func (r *Room) follow(ctx context.Context) {
	for _, synced := range append(r.objects.synced(), r.cfg.Services.Synced()) {
		select {
		case <-synced:
		case <-ctx.Done():
			return
		}
	}
	defer r.objects.subscribe(r.changed)()
	defer r.cfg.Services.Subscribe(r.serviceChanged)()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	served := r.objects.served()
	r.resolve(served)
	close(r.synced)
	r.cfg.Log.Info("the objects of the Gateway API are known", "gateways", len(r.Keys()), "release", r.objects.bundle())
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			r.resolve(served)
		case <-ticker.C:
			if now := r.objects.served(); !maps.Equal(now, served) {
				// Whoever deletes a definition deletes its objects first. Those that there
				// are copies of have gone with a database.
				lost := slices.ContainsFunc(slices.Collect(maps.Keys(served)), func(k gatewayv1.Kind) bool { return !now[k] })
				served = now
				r.cfg.Log.Info("the API server serves other kinds of the Gateway API than before", "kinds", slices.Sorted(maps.Keys(served)))
				r.changed(lost)
			}
		}
	}
}

// changed notes that there is news. restored: something is gone because the API
// server's database was put back.
func (r *Room) changed(restored bool) {
	r.mu.Lock()
	if !r.news {
		r.news, r.since = true, r.cfg.Now()
	}
	r.restored = r.restored || restored
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// serviceChanged looks whether a route depends on what has changed of a Service.
func (r *Room) serviceChanged(e watch.Event[*corev1.Service]) {
	name := nameOf(e.Object())
	r.mu.Lock()
	named := r.services[name] || name == types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "kubernetes"}
	r.mu.Unlock()
	if named && (e.Old == nil || e.New == nil || !equality.Semantic.DeepEqual(e.Old.Spec, e.New.Spec)) {
		r.changed(e.Restored && e.New == nil)
	}
}

// resolve makes a new plan and marks every Gateway that is in the old one or the new.
func (r *Room) resolve(served map[gatewayv1.Kind]bool) {
	r.mu.Lock()
	at, restored := r.since, r.restored
	r.news, r.restored = false, false
	r.mu.Unlock()
	// What comes in from here on is news again.
	in := r.input(served)
	version := ""
	for _, gw := range in.Gateways {
		version = report.Later(version, gw.ResourceVersion)
	}
	plan := Resolve(in)

	r.mu.Lock()
	old := r.plan
	r.plan, r.services = plan, plan.named()
	r.mu.Unlock()
	for _, key := range union(old.order, plan.order) {
		r.cfg.Mark(key, at, restored)
	}
	r.mu.Lock()
	r.version = report.Later(r.version, version)
	told := slices.Collect(maps.Values(r.watchers))
	r.mu.Unlock()
	for _, f := range told {
		f()
	}
}

// input is what a plan is made of, by the copies that the node has.
func (r *Room) input(served map[gatewayv1.Kind]bool) Input {
	o := r.objects
	return Input{
		Settings: r.cfg.Settings, Classes: o.classes.List(), Gateways: o.gateways.List(),
		TCPRoutes: o.tcp.List(), UDPRoutes: o.udp.List(), Grants: o.grants.List(),
		Bundle: o.bundle(), Served: served, Namespace: o.namespace,
		Service: func(n types.NamespacedName) *corev1.Service {
			svc, _ := r.cfg.Services.Get(n.Namespace, n.Name)
			return svc
		},
		Endpoints: r.cfg.Endpoints,
		Options: func(annotations map[string]string) (kube.Options, []kube.Problem) {
			return options.ParseAnnotations(annotations, r.cfg.Settings.Flavors)
		},
	}
}

// union are the keys of two sorted lists, each once.
func union(a, b []kube.Key) []kube.Key {
	out := slices.Concat(a, b)
	slices.SortFunc(out, kube.Key.Compare)
	return slices.Compact(out)
}

// named are the Services that backendRefs name, whether they can be followed or not.
func (p *Plan) named() map[types.NamespacedName]bool {
	out := make(map[types.NamespacedName]bool)
	for _, r := range p.routes {
		for _, b := range r.backends {
			name := types.NamespacedName{Namespace: r.key.Namespace, Name: string(b.Name)}
			if b.Namespace != nil {
				name.Namespace = string(*b.Namespace)
			}
			out[name] = true
		}
	}
	return out
}

// Synced is closed when there is a plan of all objects.
func (r *Room) Synced() <-chan struct{} { return r.synced }

// Plan is the plan at the moment.
func (r *Room) Plan() *Plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plan
}

// Keys are the Gateways of ours, sorted.
func (r *Room) Keys() []kube.Key { return r.Plan().Keys() }

// Has reports whether there is a copy of a Gateway, whoever's it is.
func (r *Room) Has(key kube.Key) bool {
	_, there := r.objects.gateways.Get(key.Namespace, key.Name)
	return there
}

// Names asks the API server, not the copies, which Gateways there are, of ours and of
// others. Where the Gateway API is not installed there are none.
func (r *Room) Names(ctx context.Context) ([]kube.Key, error) {
	names, err := r.objects.gateways.Names(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	keys := make([]kube.Key, 0, len(names))
	for n := range names {
		keys = append(keys, kube.Key{Kind: kube.Gateway, Namespace: n.Namespace, Name: n.Name})
	}
	return keys, nil
}

// Groups are what a Gateway puts in force.
func (r *Room) Groups(key kube.Key) ([]model.Group, []kube.Problem) { return r.Plan().Groups(key) }

// GatewaysOf are the Gateways whose group depends on the endpoints of a Service.
func (r *Room) GatewaysOf(service types.NamespacedName) []kube.Key {
	return r.Plan().Gateways(service)
}

// Version is the resourceVersion of Gateways up to which all marks have been made.
func (r *Room) Version() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// Watch has f called after every new plan. f is not to block.
func (r *Room) Watch(f func()) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.next
	r.next++
	r.watchers[id] = f
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, id)
	}
}
