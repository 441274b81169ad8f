package allocate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/v1alpha1"
)

const (
	// statusDelay is how long changes are gathered before statuses of pools are
	// written: many Services come at once.
	statusDelay = time.Second
	// verifyEvery is how often reservations are compared with what is known of them,
	// and those of objects that are gone are looked for.
	verifyEvery = 10 * time.Minute
	// maxConflicts bounds what a status tells of conflicts.
	maxConflicts = 256
)

// Run keeps the statuses of pools and the policy's ConfigMap, and looks at all
// reservations from time to time, until the context ends. Sync comes before it.
func (a *Allocator) Run(ctx context.Context) {
	verify := time.NewTicker(verifyEvery)
	defer verify.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-verify.C:
			if err := a.Verify(ctx); err != nil && ctx.Err() == nil {
				a.cfg.Failed()
				a.cfg.Log.Warn("address reservations could not be verified", "error", err)
			}
		case <-a.dirty:
			// The policy follows at once, because of Services that are applied right
			// after their pool.
			if err := a.tellPolicy(ctx); err != nil && ctx.Err() == nil {
				a.cfg.Failed()
				a.cfg.Log.Warn("the admission policy could not be told of the address pools", "error", err)
				a.again(ctx)
			}
			if !sleep(ctx, statusDelay) {
				return
			}
			if err := a.WriteStatuses(ctx); err != nil && ctx.Err() == nil {
				a.cfg.Failed()
				a.cfg.Log.Warn("the status of an address pool could not be written", "error", err)
				a.again(ctx)
			}
		}
	}
}

// again has Run try what has failed once more, later.
func (a *Allocator) again(ctx context.Context) {
	if sleep(ctx, 5*statusDelay) {
		a.touch()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// Verify compares what is known with the API server's reservations, and gives back
// what is held by objects that are gone.
func (a *Allocator) Verify(ctx context.Context) error {
	if err := a.lookAll(ctx); err != nil {
		return err
	}
	return a.collect(ctx, a.strays())
}

// WriteStatuses writes the statuses of all pools that differ from what they are to
// be.
func (a *Allocator) WriteStatuses(ctx context.Context) error {
	a.mu.Lock()
	var stale []*v1alpha1.AddressPool
	statuses := map[string]ledger.PoolStatus{}
	for _, s := range a.ledger.Pools() {
		statuses[s.Name] = s
	}
	for _, name := range slices.Sorted(maps.Keys(a.pools)) {
		o := a.pools[name].DeepCopy()
		s := statuses[name]
		if err := a.poolError[name]; err != nil {
			s = ledger.PoolStatus{Name: name, Err: err}
		}
		o.Status = statusOf(s, o, metav1.NewTime(a.cfg.Now()))
		if !equality.Semantic.DeepEqual(o.Status, a.pools[name].Status) {
			stale = append(stale, o)
		}
	}
	a.mu.Unlock()
	for _, o := range stale {
		written, err := a.patchStatus(ctx, o)
		if apierrors.IsNotFound(err) {
			continue // its deletion is on its way to us
		}
		if err != nil {
			return fmt.Errorf("status of address pool %q: %w", o.Name, err)
		}
		a.mu.Lock()
		if known, ok := a.pools[o.Name]; ok && known.UID == written.UID && !newer(known.ResourceVersion, written.ResourceVersion) {
			changed := known.Generation != written.Generation
			a.pools[o.Name] = written
			if changed {
				a.ledger.SetPools(a.usable())
			}
		}
		a.mu.Unlock()
	}
	return nil
}

// patchStatus has a pool's status be that of o, whatever it is now: nobody else writes
// it, and what it is worked out from is the newest that is known.
func (a *Allocator) patchStatus(ctx context.Context, o *v1alpha1.AddressPool) (*v1alpha1.AddressPool, error) {
	body, err := json.Marshal(map[string]any{"status": map[string]any{
		// A null removes what is there.
		"conditions": o.Status.Conditions, "ipv4": o.Status.IPv4, "ipv6": o.Status.IPv6, "conflicts": o.Status.Conflicts,
	}})
	if err != nil {
		return nil, err
	}
	return a.cfg.Client.Pools().Patch(ctx, o.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: Manager}, "status")
}

// statusOf is what a pool's status is to say.
func statusOf(s ledger.PoolStatus, o *v1alpha1.AddressPool, now metav1.Time) v1alpha1.AddressPoolStatus {
	status := v1alpha1.AddressPoolStatus{Conditions: slices.Clone(o.Status.Conditions)}
	counts := func(c *ledger.Counts) *v1alpha1.AddressCounts {
		if c == nil {
			return nil
		}
		return &v1alpha1.AddressCounts{Total: c.Total, Assigned: c.Assigned, Reserved: c.Reserved, Free: c.Free}
	}
	status.IPv4, status.IPv6 = counts(s.IPv4), counts(s.IPv6)
	for _, c := range s.Conflicts[:min(len(s.Conflicts), maxConflicts)] {
		status.Conflicts = append(status.Conflicts, v1alpha1.PoolConflict{Pool: c.Pool, Addresses: c.Addresses, Owner: c.Owner})
	}
	set := func(kind string, is bool, reason, message string) {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message,
			ObservedGeneration: o.Generation, LastTransitionTime: now,
		}
		if is {
			c.Status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&status.Conditions, c)
	}
	if s.Err != nil {
		set(v1alpha1.ConditionReady, false, "NotUsable", s.Err.Error())
	} else {
		set(v1alpha1.ConditionReady, true, "Ready", "addresses are given out")
	}
	if len(s.Conflicts) > 0 {
		set(v1alpha1.ConditionConflict, true, "Overlap", conflictMessage(s))
	} else {
		set(v1alpha1.ConditionConflict, false, "NoOverlap", "no other pool lists its addresses")
	}
	var full []string
	for _, f := range []struct {
		family ledger.Family
		counts *ledger.Counts
	}{{ledger.IPv4, s.IPv4}, {ledger.IPv6, s.IPv6}} {
		if f.counts != nil && f.counts.Free == 0 {
			full = append(full, f.family.String())
		}
	}
	if len(full) > 0 {
		set(v1alpha1.ConditionExhausted, true, "NoneFree", "no "+strings.Join(full, " and no ")+" address is free")
	} else {
		set(v1alpha1.ConditionExhausted, false, "SomeFree", "addresses are free")
	}
	return status
}

func conflictMessage(s ledger.PoolStatus) string {
	c := s.Conflicts[0]
	text := fmt.Sprintf("pool %q lists %s, too; pool %q has them, which is first by name", c.Pool, c.Addresses, c.Owner)
	if more := len(s.Conflicts) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// Statuses are what is to be told of pools in the configuration and in Kubernetes,
// with those that are not used.
func (a *Allocator) Statuses() []ledger.PoolStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.ledger.Pools()
	for _, name := range slices.Sorted(maps.Keys(a.poolError)) {
		if !slices.ContainsFunc(a.cfg.Pools, func(p kube.AddressPool) bool { return p.Name == name }) {
			all = append(all, ledger.PoolStatus{Name: name, Err: a.poolError[name]})
		}
	}
	return all
}
