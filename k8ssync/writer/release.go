package writer

import (
	"context"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
)

// take has a Service that is not to be served hold nothing any more: it is being
// deleted, has another type, or is not ours by the class rules. What is reserved
// goes back to the pool when no node serves it, and the finalizer goes last.
func (t *term) take(ctx context.Context, key kube.Key, svc *corev1.Service, o *object, r *Reading) (time.Duration, error) {
	t.mark(t.unserved, key, false)
	t.mark(t.partly, key, false)
	held := t.cfg.Addresses.Holds(key)
	if len(held) > 0 || hasFinalizer(svc) {
		if o.takingSince.IsZero() {
			now := svc
			if ofOurs(svc, held, r) {
				// Nodes go by the status.
				var err error
				if now, err = t.writeStatus(ctx, svc, o, nil, []metav1.Condition{condition(svc, ConditionAddress, false, ReasonReleased, "Its address is given back")}); now == nil || err != nil {
					return 0, err
				}
			}
			o.taking, o.takingSince = now.ResourceVersion, time.Now()
			svc = now
		}
		if wait := t.withdrawing(key, o, len(held) > 0); wait > 0 {
			t.wait(key, true)
			return wait, nil
		}
		t.wait(key, false)
		if err := t.cfg.Addresses.Release(ctx, key); err != nil {
			return 0, err
		}
		if len(held) > 0 {
			texts := make([]string, len(held))
			for i, a := range held {
				texts[i] = a.String()
			}
			t.events.Forget(svc.UID)
			t.events.Tell(svc, kube.Problem{Severity: kube.Normal, Reason: EventReleased, Message: "Given back: " + strings.Join(texts, ", ")}, ActionRelease)
			t.touchUnserved()
		}
	}
	if svc.DeletionTimestamp == nil && hasConditions(svc) {
		// What another provider has written stays.
		now, err := t.writeStatus(ctx, svc, o, svc.Status.LoadBalancer.Ingress, nil)
		if now == nil || err != nil {
			return 0, err
		}
		svc = now
	}
	if hasFinalizer(svc) {
		now, err := t.removeFinalizer(ctx, svc, o)
		if err != nil {
			return 0, err
		}
		if now == nil || now.DeletionTimestamp != nil && len(now.Finalizers) == 0 {
			t.events.Forget(svc.UID)
			t.forget(key) // it has gone with this
			return 0, nil
		}
	}
	o.finalizer, o.taking, o.takingSince = false, "", time.Time{}
	t.events.Forget(svc.UID)
	return 0, nil
}

// ofOurs reports whether the status of a Service has an address that we have
// written.
func ofOurs(svc *corev1.Service, held []netip.Addr, r *Reading) bool {
	if r.Ours {
		return len(svc.Status.LoadBalancer.Ingress) > 0
	}
	for _, a := range addressesOf(svc.Status.LoadBalancer.Ingress) {
		for _, h := range held {
			if a == h {
				return true
			}
		}
	}
	return false
}

// withdrawing is how long nodes are still to be waited for; 0: not any more. They
// have had the time that they get, or none of them serves the object.
func (t *term) withdrawing(key kube.Key, o *object, held bool) time.Duration {
	if !held {
		return 0
	}
	done, others := t.sum.Load().Withdrawn(key.Kind, o.taking)
	if done {
		return 0
	}
	left := t.cfg.Withdraw - time.Since(o.takingSince)
	if left > 0 {
		return left
	}
	names := make([]string, len(others))
	for i := range others {
		names[i] = others[i].String()
	}
	t.cfg.Log.Warn("an address is given back although nodes may still serve it", "object", key.String(), "nodes", strings.Join(names, "; "))
	return 0
}
