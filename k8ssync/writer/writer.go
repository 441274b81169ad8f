// Package writer is what one node of Fairlead writes to Kubernetes on behalf of
// all: the finalizer, the status and the conditions of Services, and Events about
// them. It gives addresses to Services, and takes them back when no node serves
// them any more.
//
// The order of what is written is what makes it safe to be killed anywhere. To
// give: the finalizer, the reservation of the address, the status. To take: the
// status, then nothing until the nodes have stopped to serve the address, the
// reservation, the finalizer. Each step can be done again, and whoever comes next
// does so.
package writer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// FieldManager is whom Kubernetes has down for the fields that are written here.
const FieldManager = "fairlead"

// The times of the writer.
const (
	DefaultWithdraw = 15 * time.Second // nodes are waited for before an address is free
	DefaultPatience = 10 * time.Second // nodes are waited for before the condition names them
	DefaultHold     = 10 * time.Second // nodes have been the same for so long before all conditions are looked at
	DefaultResync   = 10 * time.Minute

	workers  = 8
	spread   = 10 * time.Millisecond // between two objects that are looked at although nothing of them has changed
	stale    = 10 * time.Second      // a cache that has not seen for so long what was written is not believed
	remind   = 30 * time.Minute      // between two Events of the same thing
	pageSize = 500                   // objects in one answer of the first look at everything
)

// Reading is what a Service says, as all rooms read it.
type Reading struct {
	// Ours: it is a LoadBalancer of our class. Whether it is being deleted does not
	// matter.
	Ours    bool
	Options kube.Options
	IPMode  kube.IPMode
	// Problems are those of what it says and, where the node knows, of how it can
	// be served.
	Problems []kube.Problem
	// Ports are those that are not served.
	Ports []PortError
}

// PortError is a port of a Service that is not served, and why.
type PortError struct {
	Port     int32
	Protocol corev1.Protocol
	Reason   string // CamelCase, or with a domain before it: what Kubernetes has in a port's error
	Message  string // a sentence
}

// Config is what a writer is made of.
type Config struct {
	Client kubernetes.Interface
	// Service is the node's copy of a Service, nil when there is none. What it
	// returns is not changed.
	Service func(namespace, name string) *corev1.Service
	// Keys are those of all Services that the node has a copy of.
	Keys func() []kube.Key
	// Namespace are the labels of a namespace.
	Namespace func(name string) map[string]string
	// Read reads a Service.
	Read func(*corev1.Service) Reading
	// Addresses are who holds which.
	Addresses Addresses
	// Others are what objects that are not Services ask for; nil: there are none.
	// They are read from the API server, and not from copies.
	Others func(context.Context) ([]Request, error)
	// Earlier are classes whose Services were served before the present one: what they
	// hold is taken back. It asks the API server. nil: there are none.
	Earlier func(context.Context) ([]string, error)
	Fellows kube.Fellows
	// Failed is called when something could not be written; nil: nobody wants to know.
	Failed func()
	Log    *slog.Logger

	Withdraw, Patience, Hold, Resync time.Duration // 0: the default
}

// Writer writes while it runs. Its methods may be called at any time.
type Writer struct {
	cfg Config

	term atomic.Pointer[term] // nil: this node does not write
}

// New makes a writer.
func New(cfg Config) (*Writer, error) {
	if cfg.Client == nil || cfg.Service == nil || cfg.Keys == nil || cfg.Namespace == nil || cfg.Read == nil || cfg.Addresses == nil || cfg.Fellows == nil || cfg.Log == nil {
		return nil, fmt.Errorf("writer: a part of its configuration is missing")
	}
	for _, d := range []struct {
		is *time.Duration
		or time.Duration
	}{{&cfg.Withdraw, DefaultWithdraw}, {&cfg.Patience, DefaultPatience}, {&cfg.Hold, DefaultHold}, {&cfg.Resync, DefaultResync}} {
		if *d.is == 0 {
			*d.is = d.or
		}
	}
	if cfg.Failed == nil {
		cfg.Failed = func() {}
	}
	return &Writer{cfg: cfg}, nil
}

// term is the time during which this node writes, without a break.
type term struct {
	cfg    Config
	queue  workqueue.TypedRateLimitingInterface[kube.Key]
	events *Events
	sum    atomic.Pointer[report.Sum]
	// earlier are classes that were served before; they do not change during a term.
	earlier []string

	mu       sync.Mutex
	objects  map[kube.Key]*object
	waiting  map[kube.Key]bool // for nodes
	unserved map[kube.Key]bool // have not got the addresses that they ask for
	partly   map[kube.Key]bool // have addresses and are not in force on all nodes
}

// object is what is known of a Service beyond what the node's copy says. It is
// used by whoever works on its key.
type object struct {
	uid types.UID
	// version is of what was written or read last: a copy that is older is not
	// gone by.
	version string
	behind  time.Time // since when the copy is older; zero: it is not
	// finalizer says that this is known to be ours: the name is shared by all
	// providers.
	finalizer bool
	// inForce is the version since which nodes have nothing new to do, by what of
	// it they go by.
	inForce string
	print   uint64
	since   time.Time
	// asked is what was recorded of it at its addresses last.
	asked uint64
	// taking is the version since which its status has not the addresses any more
	// that are to be given back.
	taking      string
	takingSince time.Time
}

// Touch says that something about an object may have changed.
func (w *Writer) Touch(key kube.Key) {
	if t := w.term.Load(); t != nil && key.Kind == kube.Service {
		t.queue.Add(key)
	}
}

// TouchLater is Touch for what changes often and rarely means anything here: within
// a second.
func (w *Writer) TouchLater(key kube.Key) {
	if t := w.term.Load(); t != nil && key.Kind == kube.Service {
		t.queue.AddAfter(key, time.Second)
	}
}

// TouchUnserved says that there may be addresses for those that got none: a pool
// has changed, or another kind of object has given some back.
func (w *Writer) TouchUnserved() {
	if t := w.term.Load(); t != nil {
		t.touchUnserved()
	}
}

// TouchAll says that everything is to be looked at, such as after a change of
// pools or namespaces.
func (w *Writer) TouchAll() {
	if t := w.term.Load(); t != nil {
		t.touchAll()
	}
}

// Behind is how many Services have not got all of the addresses that they ask for, and
// how many of the others are not in force on all nodes.
func (w *Writer) Behind() (unserved, unprogrammed int) {
	t := w.term.Load()
	if t == nil {
		return 0, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.unserved), len(t.partly)
}

func (t *term) touchUnserved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.unserved {
		t.queue.Add(key)
	}
}

// touchAll looks at everything, slowly enough not to keep others waiting.
func (t *term) touchAll() {
	seen := map[kube.Key]bool{}
	n := 0
	add := func(key kube.Key) {
		if !seen[key] {
			seen[key] = true
			t.queue.AddAfter(key, time.Duration(n)*spread)
			n++
		}
	}
	for _, key := range t.cfg.Keys() {
		add(key)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.objects {
		add(key)
	}
}

// Run writes until ctx ends. It is called while this node is elected, after its
// copies of Kubernetes' objects are complete. Nothing is assigned before all
// objects have been read from the API server and their addresses adopted.
func (w *Writer) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &term{
		cfg: w.cfg,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[kube.Key](50*time.Millisecond, 30*time.Second)),
		objects: map[kube.Key]*object{}, waiting: map[kube.Key]bool{}, unserved: map[kube.Key]bool{}, partly: map[kube.Key]bool{},
	}
	defer t.queue.ShutDown()
	t.events = NewEvents(w.cfg.Client, nil, w.cfg.Log)
	defer t.events.Close()
	if !t.begin(ctx) {
		return
	}
	w.term.Store(t)
	defer w.term.Store(nil)
	t.touchAll() // what came while nobody listened

	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { t.followNodes(ctx) })
	all.Go(func() { t.resync(ctx) })
	for range workers {
		all.Go(func() {
			for t.work(ctx) {
			}
		})
	}
	<-ctx.Done()
	t.queue.ShutDown()
}

// resync looks at everything from time to time, whatever happened.
func (t *term) resync(ctx context.Context) {
	ticker := time.NewTicker(t.cfg.Resync)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.touchAll()
		}
	}
}

// work does one thing that waits to be done, and reports whether there may be more.
func (t *term) work(ctx context.Context) bool {
	key, shut := t.queue.Get()
	if shut {
		return false
	}
	defer t.queue.Done(key)
	if ctx.Err() != nil {
		return false
	}
	again, err := t.service(ctx, key)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		if !isConflict(err) {
			t.cfg.Failed()
			t.cfg.Log.Warn("an object of Kubernetes is not as it should be, and is tried again", "object", key.String(), "error", err)
		}
		t.queue.AddRateLimited(key)
	default:
		t.queue.Forget(key)
		if again > 0 {
			t.queue.AddAfter(key, again)
		}
	}
	return true
}

// object is what is known of a key; made when there is nothing.
func (t *term) object(key kube.Key) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.objects[key]
	if o == nil {
		o = &object{}
		t.objects[key] = o
	}
	return o
}

// forget drops what is known of a key that there is nothing to do for.
func (t *term) forget(key kube.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.objects, key)
	delete(t.waiting, key)
	delete(t.unserved, key)
	delete(t.partly, key)
}

// wait notes whether a key waits for nodes.
func (t *term) wait(key kube.Key, is bool) { t.mark(t.waiting, key, is) }

func (t *term) mark(set map[kube.Key]bool, key kube.Key, is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if is {
		set[key] = true
		return
	}
	delete(set, key)
}
