package writer

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/k8ssync/allocate"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// service makes a Service be as it should. It returns when to look again; 0: when
// something changes.
func (t *term) service(ctx context.Context, key kube.Key) (again time.Duration, err error) {
	svc := t.cfg.Service(key.Namespace, key.Name)
	o := t.object(key)
	if svc == nil && o.version == "" && len(t.cfg.Addresses.Holds(key)) == 0 {
		t.forget(key)
		return 0, nil
	}
	if wait, fresh := t.fresh(svc, o); wait > 0 {
		return wait, nil
	} else if !fresh {
		if svc, err = t.live(ctx, key); err != nil {
			return 0, err
		}
		o.behind = time.Time{}
		if svc != nil {
			o.version = svc.ResourceVersion
		}
	}
	if svc == nil || o.uid != "" && o.uid != svc.UID {
		return t.vanished(ctx, key, svc, o)
	}
	r := t.cfg.Read(svc)
	wanted := r.Ours && svc.DeletionTimestamp == nil
	if !wanted && !t.mine(key, svc, o, r.Ours) {
		t.forget(key)
		return 0, nil
	}
	o.uid = svc.UID
	if wanted {
		return t.give(ctx, key, svc, o, &r)
	}
	return t.take(ctx, key, svc, o, &r)
}

// fresh reports whether the node's copy is at least as new as what was written or
// read of the object before. It is waited for, though not for ever: the API server
// may have gone back to a backup.
func (t *term) fresh(svc *corev1.Service, o *object) (wait time.Duration, fresh bool) {
	switch {
	case svc == nil:
		return 0, false // gone, or not there yet: the API server knows
	case o.version == "" || report.Reached(svc.ResourceVersion, o.version):
		o.behind = time.Time{}
		return 0, true
	}
	if o.behind.IsZero() {
		o.behind = time.Now()
	}
	return max(stale-time.Since(o.behind), 0), false
}

// mine reports whether there is something of ours about a Service that we do not
// serve.
func (t *term) mine(key kube.Key, svc *corev1.Service, o *object, ours bool) bool {
	return len(t.cfg.Addresses.Holds(key)) > 0 || !t.ofAnother(svc, ours) && (hasFinalizer(svc) && (ours || o.finalizer) || hasConditions(svc))
}

// ofAnother reports whether a Service names a class that neither is nor was ours. It
// cannot have named another one before: classes of Services do not change. What looks
// like ours about it is of another installation of Fairlead.
func (t *term) ofAnother(svc *corev1.Service, ours bool) bool {
	class := svc.Spec.LoadBalancerClass
	return !ours && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && class != nil && !slices.Contains(t.earlier, *class)
}

// vanished is what is done when a Service has gone without having waited for us:
// somebody has taken our finalizer off. Another of its name may be there.
func (t *term) vanished(ctx context.Context, key kube.Key, next *corev1.Service, o *object) (time.Duration, error) {
	if len(t.cfg.Addresses.Holds(key)) > 0 {
		if o.takingSince.IsZero() {
			o.taking, o.takingSince = o.version, time.Now()
		}
		// The nodes have been told when we were. There is no version of it that
		// they could say they have come to.
		if left := min(t.cfg.Withdraw, vanishedFor) - time.Since(o.takingSince); left > 0 {
			return left, nil
		}
		if err := t.cfg.Addresses.Release(ctx, key); err != nil {
			return 0, err
		}
		t.cfg.Log.Warn("a Service has gone and did not wait until its address was given back", "object", key.String())
		t.touchUnserved()
	}
	t.forget(key)
	if next != nil {
		t.queue.Add(key)
	}
	return 0, nil
}

// vanishedFor is how long nodes are given to see what we have seen.
const vanishedFor = 2 * time.Second

// give has a Service hold what it asks for, and says so.
func (t *term) give(ctx context.Context, key kube.Key, svc *corev1.Service, o *object, r *Reading) (time.Duration, error) {
	req := t.request(svc, r)
	if !hasFinalizer(svc) {
		var err error
		if svc, err = t.claim(ctx, svc, o, r, &req); svc == nil || err != nil {
			return 0, err
		}
		req = t.request(svc, r)
	}
	o.finalizer = true
	a, err := t.cfg.Addresses.Ensure(ctx, req)
	if err != nil {
		t.events.Tell(svc, kube.Problem{Severity: kube.Warning, Reason: EventFailed, Message: err.Error()}, ActionAssign)
		return 0, err
	}
	t.mark(t.unserved, key, unserved(&req, &a))
	if asked := askedOf(&req); asked != o.asked {
		o.asked = asked
		t.touchUnserved() // others may share with it now
	}
	want := ingress(svc, a.Addresses, r)
	before := addressesOf(svc.Status.LoadBalancer.Ingress)
	conditions := append(conditionsOf(svc, &a, r), *t.pendingProgrammed(svc))
	if sameIngress(svc.Status.LoadBalancer.Ingress, want) {
		programmed, again := t.programmed(key, svc, o, len(a.Addresses) > 0)
		conditions[len(conditions)-1] = programmed
		now, err := t.writeStatus(ctx, svc, o, want, conditions)
		if now == nil || err != nil {
			return 0, err
		}
		t.tellProblems(svc, &a, r)
		wait, err := t.trim(ctx, key, o, a.Addresses)
		return soonest(wait, again), err
	}
	now, err := t.writeStatus(ctx, svc, o, want, conditions)
	if now == nil || err != nil {
		return 0, err
	}
	t.tellAddresses(svc, before, &a)
	t.tellProblems(svc, &a, r)
	o.note(now)
	t.wait(key, true)
	return t.cfg.Patience, nil
}

// trim gives back what a Service has left for another address, when no node serves
// it any more. Its status has the other one already.
func (t *term) trim(ctx context.Context, key kube.Key, o *object, keep []netip.Addr) (time.Duration, error) {
	held := t.cfg.Addresses.Holds(key)
	if !slices.ContainsFunc(held, func(a netip.Addr) bool { return !slices.Contains(keep, a) }) {
		o.taking, o.takingSince = "", time.Time{}
		return 0, nil
	}
	if o.takingSince.IsZero() {
		o.taking, o.takingSince = o.inForce, time.Now()
	}
	if wait := t.withdrawing(key, o, true); wait > 0 {
		t.wait(key, true)
		return wait, nil
	}
	if err := t.cfg.Addresses.Release(ctx, key, keep...); err != nil {
		return 0, err
	}
	o.taking, o.takingSince = "", time.Time{}
	t.touchUnserved()
	if len(t.cfg.Addresses.Holds(key)) > len(keep) {
		return allocate.Grace, nil // another writer may be about to write it
	}
	return 0, nil
}

// soonest is the lesser of two waits; 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// claim puts the finalizer on a Service. What another provider has written into
// its status is taken out before, unless it is what it gets: nodes go by the
// status of what has the finalizer.
func (t *term) claim(ctx context.Context, svc *corev1.Service, o *object, r *Reading, req *Request) (*corev1.Service, error) {
	if len(svc.Status.LoadBalancer.Ingress) > 0 {
		a, err := t.cfg.Addresses.Ensure(ctx, *req)
		if err != nil {
			return nil, err
		}
		if !sameAddresses(a.Addresses, req.Held) || len(req.Held) != len(svc.Status.LoadBalancer.Ingress) {
			if svc, err = t.writeStatus(ctx, svc, o, nil, conditionsOf(svc, &Assignment{}, r)); svc == nil || err != nil {
				return nil, err
			}
		}
	}
	return t.addFinalizer(ctx, svc, o)
}

func sameAddresses[A comparable](a, b []A) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x A) bool { return !slices.Contains(b, x) })
}

// unserved reports whether a Service has got less than it asks for.
func unserved(req *Request, a *Assignment) bool {
	return len(a.Addresses) < len(req.Families) || slices.ContainsFunc(a.Problems, func(p kube.Problem) bool { return p.Severity == kube.Warning })
}

// note has it that nodes have something new to do since this version of the
// Service, if they have.
func (o *object) note(svc *corev1.Service) {
	if print := printOf(svc); print != o.print || o.inForce == "" {
		o.print, o.inForce, o.since = print, svc.ResourceVersion, time.Now()
	}
}

// askedOf tells apart what is recorded of an object at its addresses: by that others
// may share them, or may not.
func askedOf(r *Request) uint64 {
	var h maphash.Hash
	h.SetSeed(printSeed)
	fmt.Fprintf(&h, "%q %q %v %v", r.Options.SharingKey, r.Options.SharingNamespace, r.Ports, r.Options.Addresses)
	return h.Sum64()
}

var printSeed = maphash.MakeSeed()

// printOf tells versions of a Service apart that nodes do something different for.
// Its conditions do not matter to them.
func printOf(svc *corev1.Service) uint64 {
	var h maphash.Hash
	h.SetSeed(printSeed)
	spec, err := svc.Spec.Marshal()
	if err != nil {
		return 0
	}
	h.Write(spec)
	for _, i := range svc.Status.LoadBalancer.Ingress {
		h.WriteString(i.IP)
		h.WriteByte(0)
	}
	var notes []string
	for k, v := range svc.Annotations {
		if k == corev1.LastAppliedConfigAnnotation {
			continue // copies have none
		}
		notes = append(notes, k+"="+v)
	}
	slices.Sort(notes)
	h.WriteString(strings.Join(notes, "\x00"))
	return h.Sum64()
}
