package allocate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
)

// seen is a reservation object in the last version that is known of it.
type seen struct {
	object *v1alpha1.AddressReservation
	own    bool      // this version was written here
	at     time.Time // when this version was first seen
}

// errRaced: the object is not what it was taken for any more. Look again.
var errRaced = errors.New("a reservation has changed meanwhile")

// newer is whether a version of an object comes after another one.
func newer(a, than string) bool {
	order, err := resourceversion.CompareResourceVersion(a, than)
	return err != nil || order > 0
}

// observe takes over what an object says that was written elsewhere, or here. It
// returns the objects that are no holders any more. The lock is held.
func (a *Allocator) observe(o *v1alpha1.AddressReservation, own bool) []kube.Key {
	r, err := recorded(o)
	if err != nil {
		a.cfg.Log.Warn("an address reservation is ignored", "reservation", o.Name, "error", err)
		return nil
	}
	if known, ok := a.seen[r.Address]; ok && known.object.UID == o.UID && known.object.ResourceVersion == o.ResourceVersion {
		own = own || known.own
		a.seen[r.Address] = seen{object: known.object, own: own, at: known.at}
	} else {
		o.ManagedFields = nil
		a.seen[r.Address] = seen{object: o, own: own, at: a.cfg.Now()}
	}
	if own {
		return nil
	}
	before, _ := a.ledger.Reservation(r.Address)
	a.ledger.Record(r)
	a.touch()
	var dropped []kube.Key
	for _, h := range before.Holders {
		if !slices.ContainsFunc(r.Holders, func(o ledger.Holder) bool { return o.Key == h.Key }) {
			dropped = append(dropped, h.Key)
		}
	}
	return dropped
}

// vanish takes over that an object is not there. Whoever held the address goes on
// to: the record is its status, and the reservation is made again. It returns these.
// The lock is held.
func (a *Allocator) vanish(address netip.Addr) []kube.Key {
	delete(a.seen, address)
	a.touch()
	r, _ := a.ledger.Reservation(address)
	if len(r.Holders) == 0 {
		a.ledger.Erase(address)
		return nil
	}
	r.For, r.Retained = nil, false
	a.ledger.Record(r)
	var holders []kube.Key
	for _, h := range r.Holders {
		holders = append(holders, h.Key)
	}
	return holders
}

// look asks the API server for a reservation.
func (a *Allocator) look(ctx context.Context, address netip.Addr) error {
	o, err := a.cfg.Client.Reservations().Get(ctx, v1alpha1.ReservationName(address), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reservation of %s: %w", address, err)
	}
	a.mu.Lock()
	var changed []kube.Key
	known, ok := a.seen[address]
	switch {
	case err != nil:
		changed = a.vanish(address)
	case ok && known.object.UID == o.UID && newer(known.object.ResourceVersion, o.ResourceVersion):
		// Another call has written it since.
	default:
		changed = a.observe(o, false)
	}
	a.mu.Unlock()
	a.changed(changed)
	return nil
}

// changed tells of objects to look at again. The lock is not held.
func (a *Allocator) changed(keys []kube.Key) {
	if len(keys) > 0 {
		a.cfg.Changed(keys)
	}
}

// lookAll asks the API server for all reservations.
func (a *Allocator) lookAll(ctx context.Context) error {
	began := a.cfg.Now()
	a.mu.Lock()
	under := maps.Clone(a.pending) // what is being written tells more
	a.mu.Unlock()
	objects, err := a.listReservations(ctx)
	if err != nil {
		return err
	}
	var changed []kube.Key
	a.mu.Lock()
	there := make(map[netip.Addr]bool, len(objects))
	for i := range objects {
		o := &objects[i]
		address, err := v1alpha1.ReservationAddress(o.Name)
		if err != nil {
			continue
		}
		there[address] = true
		known, ok := a.seen[address]
		if under[address] > 0 || a.pending[address] > 0 || a.gone[o.UID] || ok && known.object.UID == o.UID && !newer(o.ResourceVersion, known.object.ResourceVersion) {
			continue
		}
		changed = append(changed, a.observe(o, false)...)
	}
	for address, known := range a.seen {
		if !there[address] && under[address] == 0 && a.pending[address] == 0 && known.at.Before(began) {
			changed = append(changed, a.vanish(address)...)
		}
	}
	a.mu.Unlock()
	a.changed(changed)
	return nil
}

// listError is why the objects of a resource of ours could not be listed.
func listError(resource string, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there are no %s.%s: their CRD is not installed (fairlead k8s crds prints it): %w", resource, v1alpha1.Group, err)
	}
	return fmt.Errorf("list %s: %w", resource, err)
}

func (a *Allocator) listReservations(ctx context.Context) ([]v1alpha1.AddressReservation, error) {
	var all []v1alpha1.AddressReservation
	options := metav1.ListOptions{Limit: 500}
	for {
		page, err := a.cfg.Client.Reservations().List(ctx, options)
		if err != nil {
			return nil, listError(v1alpha1.Reservations, err)
		}
		all = append(all, page.Items...)
		if options.Continue = page.Continue; page.Continue == "" {
			return all, nil
		}
	}
}

// merge has the ledger say what was written here, and what was decided since. Between
// the two it may have gone by an older version, which another call has read. The lock
// is held.
func (a *Allocator) merge(address netip.Addr, written *v1alpha1.AddressReservation) {
	r, err := recorded(written)
	if err != nil {
		return
	}
	since, _ := a.ledger.Reservation(address)
	for _, h := range since.Holders {
		if i := slices.IndexFunc(r.Holders, func(o ledger.Holder) bool { return o.Key == h.Key }); i >= 0 {
			r.Holders[i] = h
		} else {
			r.Holders = append(r.Holders, h)
		}
	}
	a.ledger.Record(r)
}

// bury remembers an object that was deleted here: news of it that are on their way
// mean nothing. The lock is held.
func (a *Allocator) bury(uid types.UID) {
	if len(a.gone) >= mostGone {
		clear(a.gone) // by then the news have arrived
	}
	a.gone[uid] = true
}

// mostGone bounds the memory of deleted objects.
const mostGone = 100_000

// write is a change of one reservation, decided on and not yet made.
type write struct {
	address netip.Addr
	before  *v1alpha1.AddressReservation     // nil: there is none
	spec    *v1alpha1.AddressReservationSpec // nil: there is to be none
}

// plan is what has to be written so that a reservation says what the ledger says;
// false if nothing has. claim, if it is not nil, is who claims the address now. The
// lock is held; the caller does the write.
func (a *Allocator) plan(address netip.Addr, claim *kube.Key) (write, bool) {
	known := a.seen[address]
	w := write{address: address, before: known.object}
	r, ok := a.ledger.Reservation(address)
	if !ok {
		if w.before == nil {
			return w, false
		}
		a.pending[address]++
		return w, true
	}
	pool := a.ledger.PoolOf(address)
	if pool == "" && w.before != nil {
		pool = w.before.Spec.Pool // where it was taken from
	}
	spec := specOf(r, pool, w.before)
	if claim != nil {
		now := metav1.NewMicroTime(a.cfg.Now())
		for i := range spec.Holders {
			h := &spec.Holders[i]
			if keyOf(h.Kind, h.Namespace, h.Name) != *claim {
				continue
			}
			fresh := known.own && h.Claimed != nil && now.Sub(h.Claimed.Time) < refreshClaim
			if !fresh {
				h.Claimed = &now
			}
		}
	}
	if w.before != nil && equality.Semantic.DeepEqual(spec, w.before.Spec) {
		return w, false
	}
	w.spec = &spec
	a.pending[address]++
	return w, true
}

// do makes a change. With errRaced it was not made, and what is there instead has
// been taken over; with another error nobody knows whether it was made.
func (a *Allocator) do(ctx context.Context, w write) error {
	reservations := a.cfg.Client.Reservations()
	var written *v1alpha1.AddressReservation
	var err error
	switch {
	case w.spec == nil:
		err = reservations.Delete(ctx, w.before.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{
			UID: &w.before.UID, ResourceVersion: &w.before.ResourceVersion,
		}})
		if apierrors.IsNotFound(err) {
			err = nil
		}
	case w.before == nil:
		written, err = reservations.Create(ctx, &v1alpha1.AddressReservation{
			ObjectMeta: metav1.ObjectMeta{
				Name:   v1alpha1.ReservationName(w.address),
				Labels: map[string]string{"app.kubernetes.io/managed-by": Manager},
			},
			Spec: *w.spec,
		}, metav1.CreateOptions{FieldManager: Manager})
	default:
		o := w.before.DeepCopy()
		o.Spec = *w.spec
		written, err = reservations.Update(ctx, o, metav1.UpdateOptions{FieldManager: Manager})
	}
	a.mu.Lock()
	a.done(w)
	if err == nil {
		if w.spec == nil {
			delete(a.seen, w.address)
			a.bury(w.before.UID)
		} else {
			a.observe(written, true)
			a.merge(w.address, written)
		}
		a.touch()
	}
	a.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		if err := a.look(ctx, w.address); err != nil {
			return err
		}
		return errRaced
	}
	// Whether it was done is not known: what is there counts, when it can be asked.
	return fmt.Errorf("reservation of %s: %w", w.address, err)
}
