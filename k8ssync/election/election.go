// Package election finds out which node of Fairlead writes to Kubernetes. The
// lock is a Lease there: the API server arbitrates what is written to it. Who
// should stand for it first, and who is known to be dead, may be said by those who
// know more than the Lease does; it makes a change of hands quick, and nothing
// depends on it. Nor does anything that is written depend on there being only one
// writer: addresses are reserved one by one.
package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// The times of an election. They are those of Kubernetes' own controllers.
const (
	DefaultDuration = 15 * time.Second // a Lease that nobody has renewed for so long is free
	DefaultDeadline = 10 * time.Second // a leader that could not renew for so long stops to write
	DefaultRetry    = 2 * time.Second  // between two looks, and two renewals
)

// Config is what an election is made of.
type Config struct {
	Client          client.LeasesGetter
	Namespace, Name string // of the Lease; its namespace has to be there
	// Node is this node's name. The Lease is held by node and process, so that
	// two nodes that were given the same name by mistake do not both hold it.
	Node string
	// Preferred is who should stand for a Lease that is free; others wait for some
	// rounds then. "": anybody. nil: anybody, always.
	Preferred func() string
	// Gone reports whether a node is known not to run any more. Its Lease is free
	// as soon as it misses a renewal, and so is that of a process that ran on this
	// node before. nil: nothing is known of any.
	Gone func(node string) bool
	// Watch has f called when the answers of Preferred or Gone may have changed;
	// nil: never.
	Watch func(f func()) (stop func())

	Duration, Deadline, Retry time.Duration // 0: the default
	Log                       *slog.Logger
}

// Election is one node's part in it.
type Election struct {
	cfg Config
	id  string // of this process

	mu       sync.Mutex
	seen     record
	since    time.Time // when seen was seen first, by this node's own clock
	freeFrom time.Time // when the Lease was found to be free; zero: it is not
	leading  bool
	err      error // of the last look
}

// record is what a Lease says.
type record struct {
	holder  string
	renewed time.Time
	version string
	lasts   time.Duration
}

// New makes a node's part in an election.
func New(cfg Config) (*Election, error) {
	if cfg.Namespace == "" || cfg.Name == "" || cfg.Node == "" {
		return nil, fmt.Errorf("election: the Lease %q in namespace %q for node %q: all three names are needed", cfg.Name, cfg.Namespace, cfg.Node)
	}
	for _, d := range []struct {
		is *time.Duration
		or time.Duration
	}{{&cfg.Duration, DefaultDuration}, {&cfg.Deadline, DefaultDeadline}, {&cfg.Retry, DefaultRetry}} {
		if *d.is == 0 {
			*d.is = d.or
		}
	}
	if cfg.Retry <= 0 || cfg.Deadline <= cfg.Retry || cfg.Duration <= cfg.Deadline || cfg.Duration < time.Second {
		return nil, fmt.Errorf("election: a Lease of %s, given up after %s, renewed every %s: each has to be greater than the next, and the first a second at least", cfg.Duration, cfg.Deadline, cfg.Retry)
	}
	return &Election{cfg: cfg, id: fmt.Sprintf("%s_%08x", cfg.Node, rand.Uint32())}, nil
}

// nodeOf is the node of a holder.
func nodeOf(holder string) string {
	if i := strings.LastIndexByte(holder, '_'); i >= 0 {
		return holder[:i]
	}
	return holder
}

// Status is how an election stands, as this node knows it.
type Status struct {
	Leader  string // the node that holds the Lease; "": none, or none is known
	Leading bool   // it is this process
	Since   time.Time
	Error   string // why the Lease cannot be read or written; "": it can
}

// Status is how it stands.
func (e *Election) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Leading: e.leading, Since: e.since}
	if e.seen.holder != "" && time.Since(e.since) <= e.seen.lasts {
		s.Leader = nodeOf(e.seen.holder)
	}
	if e.err != nil {
		s.Error = e.err.Error()
	}
	return s
}

// Leader is the node that holds the Lease, as far as this one knows; "": none.
func (e *Election) Leader() string { return e.Status().Leader }

// Run stands for the Lease, again and again, until ctx ends. Whenever this node
// holds it, lead is called, with a context that ends when it does not any more;
// lead is to return soon then. When lead returns by itself, the Lease is given
// up. It is given up, too, when ctx ends, so that another node follows at once.
func (e *Election) Run(ctx context.Context, lead func(context.Context)) {
	wake := make(chan struct{}, 1)
	if e.cfg.Watch != nil {
		defer e.cfg.Watch(func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})()
	}
	for {
		lease := e.acquire(ctx, wake)
		if lease == nil {
			return
		}
		e.lead(ctx, lease, lead)
		if !sleep(ctx, e.jitter(), nil) { // others are first
			return
		}
	}
}

// jitter is a retry interval that differs, so that nodes do not look all at once.
func (e *Election) jitter() time.Duration {
	return e.cfg.Retry + time.Duration(rand.Int64N(int64(e.cfg.Retry)/5+1))
}

// sleep waits, and reports whether ctx still runs. Something on wake ends it early.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-wake:
	}
	return ctx.Err() == nil
}

// acquire looks at the Lease until it is this node's; nil: ctx has ended.
func (e *Election) acquire(ctx context.Context, wake <-chan struct{}) *coordinationv1.Lease {
	for ctx.Err() == nil {
		lease, err := e.attempt(ctx)
		e.tell(ctx, err)
		if lease != nil {
			return lease
		}
		if !sleep(ctx, e.jitter(), wake) {
			return nil
		}
		if !sleep(ctx, e.cfg.Retry/10, nil) { // however often nodes come and go
			return nil
		}
	}
	return nil
}

// tell keeps and logs what went wrong, once for the same thing.
func (e *Election) tell(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	before := e.err
	e.err = err
	e.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		e.cfg.Log.Warn("the election of the node that writes to Kubernetes cannot go on", "error", err)
	case err == nil && before != nil:
		e.cfg.Log.Info("the election of the node that writes to Kubernetes goes on")
	}
}

// request bounds one request, so that a server that does not answer cannot keep a
// leader from finding out that its time is over.
func (e *Election) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, (e.cfg.Deadline+e.cfg.Retry)/2)
}

// attempt looks at the Lease once, and takes it if it may.
func (e *Election) attempt(ctx context.Context) (*coordinationv1.Lease, error) {
	ctx, cancel := e.request(ctx)
	defer cancel()
	leases := e.cfg.Client.Leases(e.cfg.Namespace)
	lease, err := leases.Get(ctx, e.cfg.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		e.observe(record{})
		if !e.may() {
			return nil, nil
		}
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: e.cfg.Namespace, Name: e.cfg.Name}}
		e.fill(lease, true)
		lease, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	case err != nil:
		return nil, fmt.Errorf("lease %s/%s: %w", e.cfg.Namespace, e.cfg.Name, err)
	default:
		e.observe(recordOf(lease))
		if !e.may() {
			return nil, nil
		}
		e.fill(lease, true)
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return nil, nil // somebody else was faster
	case err != nil:
		return nil, fmt.Errorf("lease %s/%s: %w", e.cfg.Namespace, e.cfg.Name, err)
	}
	e.observe(recordOf(lease))
	return lease, nil
}

func recordOf(l *coordinationv1.Lease) record {
	r := record{version: l.ResourceVersion}
	if l.Spec.HolderIdentity != nil {
		r.holder = *l.Spec.HolderIdentity
	}
	if l.Spec.RenewTime != nil {
		r.renewed = l.Spec.RenewTime.Time
	}
	if l.Spec.LeaseDurationSeconds != nil {
		r.lasts = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	return r
}

// observe notes what the Lease says. How old it is goes by when this node has seen
// it change: clocks of nodes may differ as they like.
func (e *Election) observe(r record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r != e.seen || e.since.IsZero() {
		e.seen, e.since = r, time.Now()
	}
}

// patience is for how many rounds others wait for the one that is preferred.
const patience = 3

// may reports whether this node may take the Lease that it has seen.
func (e *Election) may() bool {
	e.mu.Lock()
	seen, age := e.seen, time.Since(e.since)
	e.mu.Unlock()
	free := seen.holder == "" || age > seen.lasts
	if node := nodeOf(seen.holder); !free && age > e.cfg.Retry*3/2 {
		// A node that is cut off from the others and not from the API server
		// renews, and keeps it; so does another process on this node.
		free = node == e.cfg.Node || e.cfg.Gone != nil && e.cfg.Gone(node)
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !free {
		e.freeFrom = time.Time{}
		return false
	}
	if e.freeFrom.IsZero() {
		e.freeFrom = now
	}
	if e.cfg.Preferred == nil {
		return true
	}
	first := e.cfg.Preferred()
	return first == "" || first == e.cfg.Node || now.Sub(e.freeFrom) > patience*e.cfg.Retry
}

// fill makes the Lease this process's.
func (e *Election) fill(l *coordinationv1.Lease, takes bool) {
	now := metav1.NowMicro()
	seconds := int32((e.cfg.Duration + time.Second - 1) / time.Second)
	l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &seconds, &now
	if !takes {
		return
	}
	transitions := int32(0)
	if l.Spec.LeaseTransitions != nil {
		transitions = *l.Spec.LeaseTransitions + 1
	}
	id := e.id
	l.Spec.HolderIdentity, l.Spec.AcquireTime, l.Spec.LeaseTransitions = &id, &now, &transitions
}

var errLost = errors.New("another node holds the Lease")
