package writer_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/v1alpha1"
)

// book is what a node knows of who holds which address, for as long as it writes:
// a real allocator, and somebody who watches what it is told to give back.
type book struct {
	*allocate.Allocator
	rig *rig

	mu    sync.RWMutex // held while it begins
	begun bool
}

func (n *node) newBook() *book {
	b := &book{rig: n.rig}
	var err error
	b.Allocator, err = allocate.New(allocate.Config{
		Client: n.ours, Pools: []kube.AddressPool{n.pool}, Log: n.log, Grace: testGrace,
		Owner: func(ctx context.Context, key kube.Key) (allocate.Owner, error) {
			list, err := n.client.CoreV1().Services(key.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + key.Name})
			if err != nil || len(list.Items) == 0 {
				return allocate.Owner{}, err
			}
			return allocate.Owner{Wants: n.read(&list.Items[0]).Ours && list.Items[0].DeletionTimestamp == nil}, nil
		},
		Changed: func(keys []kube.Key) {
			for _, key := range keys {
				n.writer.Touch(key)
			}
			n.writer.TouchUnserved()
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// hear takes over what happens to reservations.
func (b *book) hear(was, is *v1alpha1.AddressReservation) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.begun {
		b.ReservationEvent(was, is)
	}
}

// now is the book of the node's present term; a writer asks it for everything.
func (n *node) now() *book {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.book
}

// Sync implements writer.Addresses.
func (n *node) Sync(ctx context.Context, all []allocate.Request) error {
	b := n.now()
	if err := n.failing(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.Allocator.Sync(ctx, all); err != nil {
		return err
	}
	b.begun = true
	return nil
}

// Ensure implements writer.Addresses.
func (n *node) Ensure(ctx context.Context, r allocate.Request) (allocate.Assignment, error) {
	if err := n.failing(); err != nil {
		return allocate.Assignment{}, err
	}
	return n.now().Ensure(ctx, r)
}

// Holds implements writer.Addresses.
func (n *node) Holds(key kube.Key) []netip.Addr { return n.now().Holds(key) }

// Release implements writer.Addresses. It complains when a node serves what is given
// back.
func (n *node) Release(ctx context.Context, key kube.Key, keep ...netip.Addr) error {
	if err := n.failing(); err != nil {
		return err
	}
	for _, a := range n.Holds(key) {
		if slices.Contains(keep, a) {
			continue
		}
		for _, other := range n.rig.nodes {
			if by, is := other.serving(a); is && by == key {
				n.rig.complain(fmt.Sprintf("%s of %s, which %s serves", a, key, other.name))
			}
		}
	}
	return n.now().Release(ctx, key, keep...)
}

func (r *rig) complain(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.early = append(r.early, what)
}

func (r *rig) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = err
}

func (r *rig) failing() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// follow has the node hear of reservations.
func (n *node) follow(ctx context.Context) (wait func()) {
	informer := cache.NewSharedIndexInformer(n.ours.WatchReservations(), &v1alpha1.AddressReservation{}, 0, nil)
	tell := func(was, is any) {
		b := n.now()
		if b == nil {
			return
		}
		if last, gone := was.(cache.DeletedFinalStateUnknown); gone {
			was = last.Obj
		}
		old, _ := was.(*v1alpha1.AddressReservation)
		now, _ := is.(*v1alpha1.AddressReservation)
		b.hear(old, now)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { tell(nil, o) }, UpdateFunc: func(was, is any) { tell(was, is) }, DeleteFunc: func(o any) { tell(o, nil) },
	}); err != nil {
		n.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	return func() { <-done }
}

// reserved is who holds which address of the rig, as the API server has it.
func (r *rig) reserved() map[netip.Addr]string {
	r.t.Helper()
	list, err := r.ours.Reservations().List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[netip.Addr]string{}
	for i := range list.Items {
		for _, h := range list.Items[i].Spec.Holders {
			if h.Namespace == r.namespace {
				out[netip.MustParseAddr(list.Items[i].Spec.Address)] += h.Name
			}
		}
	}
	return out
}

// holds are the addresses that are reserved for a Service.
func (r *rig) holds(name string) (out []string) {
	r.t.Helper()
	for a, holder := range r.reserved() {
		if holder == name {
			out = append(out, a.String())
		}
	}
	slices.Sort(out)
	return out
}

// check compares reservations with what the statuses say: each address that is
// reserved is in exactly one status, and no other is in one.
func (r *rig) check() {
	r.t.Helper()
	list, err := r.user.CoreV1().Services(r.namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	reserved, owner := r.reserved(), map[netip.Addr]string{}
	for i := range list.Items {
		svc := &list.Items[i]
		if !r.read(svc).Ours {
			continue
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			a := netip.MustParseAddr(in.IP)
			if other, taken := owner[a]; taken {
				r.t.Errorf("%s is in the status of %s and of %s", a, other, svc.Name)
			}
			owner[a] = svc.Name
			if reserved[a] != svc.Name {
				r.t.Errorf("%s is in the status of %s and reserved for %q", a, svc.Name, reserved[a])
			}
		}
	}
	for a, name := range reserved {
		if owner[a] != name {
			r.t.Errorf("%s is reserved for %s, whose status has it not", a, name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, what := range r.early {
		r.t.Errorf("given back too early: %s", what)
	}
}
