package writer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
)

// conditionsOf are the conditions but that of being programmed.
func conditionsOf(svc *corev1.Service, a *Assignment, r *Reading) []metav1.Condition {
	out := []metav1.Condition{addressCondition(svc, a)}
	if c, is := problemsCondition(svc, r.Problems); is {
		out = append(out, c)
	}
	if c, is := portsCondition(svc, r.Ports); is {
		out = append(out, c)
	}
	return out
}

// pendingProgrammed is the condition of a Service that nodes have just been told
// something new of.
func (t *term) pendingProgrammed(svc *corev1.Service) *metav1.Condition {
	c := condition(svc, ConditionProgrammed, false, ReasonPending, fmt.Sprintf("Waiting for %s to put it in force", nodes(len(t.sum.Load().Nodes))))
	c.Status = metav1.ConditionUnknown
	return &c
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// programmed is where a Service is in force. While nodes are about to follow, it
// stays what it is, for a while; again is when to look then.
func (t *term) programmed(key kube.Key, svc *corev1.Service, o *object, has bool) (c metav1.Condition, again time.Duration) {
	o.note(svc)
	if !has {
		t.wait(key, false)
		t.mark(t.partly, key, false)
		return condition(svc, ConditionProgrammed, false, ReasonNotAssigned, "It has no address"), 0
	}
	p := t.sum.Load().Programmed(key, o.inForce)
	t.mark(t.partly, key, !p.All())
	if !p.Settled() {
		t.wait(key, true)
		if left := t.cfg.Patience - time.Since(o.since); left > 0 {
			if is := find(svc, ConditionProgrammed); is != nil && is.Reason != ReasonNotAssigned {
				return *is, left
			}
			return *t.pendingProgrammed(svc), left
		}
	} else {
		t.wait(key, false)
	}
	switch {
	case p.All():
		return condition(svc, ConditionProgrammed, true, ReasonProgrammed, p.String()), 0
	case p.On > 0:
		c = condition(svc, ConditionProgrammed, false, ReasonPartly, p.String())
	default:
		c = condition(svc, ConditionProgrammed, false, ReasonNowhere, p.String())
	}
	t.events.Tell(svc, kube.Problem{Severity: kube.Warning, Reason: c.Reason, Message: c.Message}, ActionProgram)
	return c, 0
}

// tellAddresses writes Events of addresses that have come or gone.
func (t *term) tellAddresses(svc *corev1.Service, before []netip.Addr, a *Assignment) {
	for _, addr := range a.Addresses {
		if !slices.Contains(before, addr) {
			t.events.Tell(svc, kube.Problem{Severity: kube.Normal, Reason: EventAssigned, Message: "Address " + addr.String() + " is assigned"}, ActionAssign)
		}
	}
	for _, addr := range before {
		if !slices.Contains(a.Addresses, addr) {
			t.events.Tell(svc, kube.Problem{Severity: kube.Normal, Reason: EventReleased, Message: "Address " + addr.String() + " is its no more"}, ActionRelease)
		}
	}
}

// tellProblems writes Events of what is wrong.
func (t *term) tellProblems(svc *corev1.Service, a *Assignment, r *Reading) {
	for _, p := range a.Problems {
		t.events.Tell(svc, p, ActionAssign)
	}
	for _, p := range r.Problems {
		t.events.Tell(svc, p, ActionRead)
	}
	for _, p := range r.Ports {
		t.events.Tell(svc, kube.Problem{Severity: kube.Warning, Reason: corev1.LoadBalancerPortsError, Message: p.Message}, ActionProgram)
	}
}

// gather is how long reports of nodes are gathered before something follows.
const gather = 100 * time.Millisecond

// followNodes looks again at what waits for nodes whenever they tell something,
// and at everything when other nodes are there than were.
func (t *term) followNodes(ctx context.Context) {
	wake := make(chan struct{}, 1)
	wake <- struct{}{} // what changed since the beginning
	defer t.cfg.Fellows.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})()
	who, looked := whoIs(t.sum.Load()), whoIs(t.sum.Load())
	settle := time.NewTimer(0)
	if !settle.Stop() {
		<-settle.C
	}
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-settle.C:
			if looked != who {
				looked = who
				t.touchAll()
			}
			continue
		case <-wake:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		before, now := t.sum.Load(), report.Of(t.cfg.Fellows)
		t.sum.Store(&now)
		t.touchWaiting()
		for _, key := range differ(before, &now) {
			t.queue.Add(key)
		}
		if next := whoIs(&now); next != who {
			who = next
			settle.Reset(t.cfg.Hold)
		}
	}
}

func (t *term) touchWaiting() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.waiting {
		t.queue.Add(key)
	}
}

// whoIs is what of the nodes the conditions of all objects depend on.
func whoIs(s *report.Sum) string {
	var b strings.Builder
	for i := range s.Nodes {
		n := &s.Nodes[i]
		fmt.Fprintf(&b, "%q %t %t %t;", n.Name, n.Told, n.Report.Connected, n.Report.Synced)
	}
	return b.String()
}

// differ are the Services that are refused by some node in one and not in the
// other.
func differ(a, b *report.Sum) []kube.Key {
	refused := func(s *report.Sum) map[string]bool {
		out := map[string]bool{}
		for i := range s.Nodes {
			for group, reason := range s.Nodes[i].Report.Refused {
				out[group+"\x00"+s.Nodes[i].Name+"\x00"+reason] = true
			}
		}
		return out
	}
	x, y := refused(a), refused(b)
	var keys []kube.Key
	note := func(s string) {
		group, _, _ := strings.Cut(s, "\x00")
		if parts := strings.Split(group, "/"); len(parts) >= 4 && parts[0] == "k8s" && parts[1] == string(kube.Service) {
			keys = append(keys, kube.Key{Kind: kube.Service, Namespace: parts[2], Name: parts[3]})
		}
	}
	for s := range x {
		if !y[s] {
			note(s)
		}
	}
	for s := range y {
		if !x[s] {
			note(s)
		}
	}
	return keys
}
