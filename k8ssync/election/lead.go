package election

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// lead runs f while the Lease, which this process has just taken, can be renewed.
func (e *Election) lead(ctx context.Context, lease *coordinationv1.Lease, f func(context.Context)) {
	leading, stop := context.WithCancel(ctx)
	defer stop()
	e.mu.Lock()
	e.leading, e.freeFrom = true, time.Time{}
	e.mu.Unlock()
	e.cfg.Log.Info("this node writes to Kubernetes from now on", "lease", e.cfg.Namespace+"/"+e.cfg.Name)

	done := make(chan struct{})
	go func() {
		defer close(done)
		f(leading)
	}()
	lease, err := e.renewing(leading, lease, done)
	stop()
	<-done

	e.mu.Lock()
	e.leading = false
	e.mu.Unlock()
	switch {
	case err != nil:
		e.cfg.Log.Warn("this node does not write to Kubernetes any more", "error", err)
	default:
		e.cfg.Log.Info("this node does not write to Kubernetes any more")
		e.release(ctx, lease)
	}
}

// renewing renews the Lease until ctx ends or f has: then the error is nil and
// the Lease still this process's. With an error it is not, or may not be.
func (e *Election) renewing(ctx context.Context, lease *coordinationv1.Lease, done <-chan struct{}) (*coordinationv1.Lease, error) {
	renewed := time.Now()
	ticker := time.NewTicker(e.cfg.Retry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return lease, nil
		case <-done:
			return lease, nil
		case <-ticker.C:
		}
		began := time.Now()
		next, err := e.renew(ctx, lease, renewed.Add(e.cfg.Deadline))
		if ctx.Err() != nil {
			return lease, nil
		}
		e.tell(ctx, err)
		switch {
		case err == nil:
			// From before the request: others count from when they saw it.
			lease, renewed = next, began
		case err == errLost:
			return nil, err
		case time.Since(renewed) >= e.cfg.Deadline:
			return nil, fmt.Errorf("the Lease could not be renewed for %s: %w", e.cfg.Deadline, err)
		}
	}
}

// renew renews the Lease once, with an answer before the deadline.
func (e *Election) renew(ctx context.Context, lease *coordinationv1.Lease, deadline time.Time) (*coordinationv1.Lease, error) {
	ctx, cancel := e.request(ctx)
	defer cancel()
	ctx, cancelAt := context.WithDeadline(ctx, deadline)
	defer cancelAt()
	leases := e.cfg.Client.Leases(e.cfg.Namespace)
	next := lease.DeepCopy()
	e.fill(next, false)
	got, err := leases.Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// Somebody else has written it: an annotation, or its name.
		got, err = leases.Get(ctx, e.cfg.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, errLost
		}
		if err == nil {
			e.observe(recordOf(got))
			if got.Spec.HolderIdentity == nil || *got.Spec.HolderIdentity != e.id {
				return nil, errLost
			}
			e.fill(got, false)
			got, err = leases.Update(ctx, got, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lease %s/%s: %w", e.cfg.Namespace, e.cfg.Name, err)
	}
	e.observe(recordOf(got))
	return got, nil
}

// release gives the Lease up, so that another node need not wait for its end.
func (e *Election) release(ctx context.Context, lease *coordinationv1.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.Retry)
	defer cancel()
	leases := e.cfg.Client.Leases(e.cfg.Namespace)
	give := func(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
		nobody, second, now := "", int32(1), metav1.NowMicro()
		lease = lease.DeepCopy()
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &nobody, &second, &now
		return leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	got, err := give(lease)
	if apierrors.IsConflict(err) {
		// A renewal whose answer has not been waited for.
		got, err = leases.Get(ctx, e.cfg.Name, metav1.GetOptions{})
		if err == nil && (got.Spec.HolderIdentity == nil || *got.Spec.HolderIdentity != e.id) {
			return
		}
		if err == nil {
			got, err = give(got)
		}
	}
	if err != nil {
		e.cfg.Log.Warn("the Lease could not be given up: another node takes it when it ends", "error", err)
		return
	}
	e.observe(recordOf(got))
}
