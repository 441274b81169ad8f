package election_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/election"
)

// stage sees who leads, and that it is one at a time.
type stage struct {
	mu      sync.Mutex
	leads   map[string]int
	at      map[string]bool
	crowded bool
}

func newStage() *stage { return &stage{leads: map[string]int{}, at: map[string]bool{}} }

func (s *stage) lead(name string) func(context.Context) {
	return func(ctx context.Context) {
		s.mu.Lock()
		s.leads[name]++
		s.at[name] = true
		s.crowded = s.crowded || len(s.at) > 1
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		delete(s.at, name)
		s.mu.Unlock()
	}
}

func (s *stage) leader() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.at {
		return name
	}
	return ""
}

func (s *stage) times(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads[name]
}

// candidate is a node that stands.
type candidate struct {
	*election.Election
	cut  *cut
	stop func() // as SIGTERM does, and waits
}

// stand has a node stand for a Lease, with short times where the test sets none.
func stand(t *testing.T, s *stage, namespace, node string, change func(*election.Config)) *candidate {
	t.Helper()
	set, cut := client(t, control.REST())
	cfg := election.Config{
		Client: set.CoordinationV1(), Namespace: namespace, Name: "fairlead", Node: node,
		Duration: 3 * time.Second, Deadline: 2 * time.Second, Retry: 200 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	e, err := election.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx, s.lead(node))
	}()
	c := &candidate{Election: e, cut: cut, stop: func() { cancel(); <-done }}
	t.Cleanup(c.stop)
	return c
}

// long has only what the test does end a Lease.
func long(c *election.Config) { c.Duration, c.Deadline = 10*time.Minute, 5*time.Minute }

func TestOneLeadsAtATime(t *testing.T) {
	ns, s := namespace(t), newStage()
	nodes := map[string]*candidate{}
	for i := range 3 {
		name := fmt.Sprint("lb", i)
		nodes[name] = stand(t, s, ns, name, nil)
	}
	eventually(t, "somebody leads", func() bool { return s.leader() != "" })
	for range 2 {
		before := s.leader()
		nodes[before].cut.set(true)
		eventually(t, "somebody else leads", func() bool { now := s.leader(); return now != "" && now != before })
		nodes[before].cut.set(false)
	}
	leader := s.leader()
	eventually(t, "all know the leader", func() bool {
		for _, c := range nodes {
			if c.Leader() != leader {
				return false
			}
		}
		return true
	})
	if s.crowded {
		t.Error("two led at a time")
	}
}

func TestLeaderThatLeavesIsFollowedAtOnce(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "a", long)
	eventually(t, "a leads", func() bool { return s.leader() == "a" })
	b := stand(t, s, ns, "b", long)
	eventually(t, "b knows", func() bool { return b.Leader() == "a" })
	a.stop()
	eventually(t, "b leads, minutes before the Lease would end", func() bool { return s.leader() == "b" })
}

func TestLeaderThatCannotRenewStops(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "a", nil)
	eventually(t, "a leads", func() bool { return s.leader() == "a" })
	a.cut.set(true)
	eventually(t, "a does not lead", func() bool { return s.leader() == "" })
	eventually(t, "it says why", func() bool {
		return strings.Contains(a.Status().Error, "the test has cut the way to /apis/coordination.k8s.io/v1/")
	})
	a.cut.set(false)
	eventually(t, "a leads again", func() bool { return s.leader() == "a" && a.Status().Error == "" })
}

// A leader that is known to be dead is followed as soon as it misses renewals, and
// stops when it comes back.
func TestDeadLeaderIsFollowedEarly(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "a", long)
	eventually(t, "a leads", func() bool { return s.leader() == "a" })
	b := stand(t, s, ns, "b", func(c *election.Config) {
		long(c)
		c.Gone = func(node string) bool { return node == "a" }
	})
	a.cut.set(true)
	eventually(t, "b leads, minutes before the Lease would end", func() bool { return b.Status().Leading })
	a.cut.set(false)
	eventually(t, "a stops", func() bool { return s.leader() == "b" && !a.Status().Leading && a.Leader() == "b" })
}

// Nodes that do not hear a leader any more do not take the Lease from it while it
// renews: otherwise the two halves of a partition would take it from each other.
func TestLeaderThatRenewsKeepsTheLease(t *testing.T) {
	ns, s := namespace(t), newStage()
	stand(t, s, ns, "a", long)
	eventually(t, "a leads", func() bool { return s.leader() == "a" })
	var mu sync.Mutex
	asked := 0
	stand(t, s, ns, "b", func(c *election.Config) {
		long(c)
		c.Gone = func(string) bool { mu.Lock(); defer mu.Unlock(); asked++; return true }
	})
	set, _ := client(t, control.REST())
	version := func() string {
		l, err := set.CoordinationV1().Leases(ns).Get(t.Context(), "fairlead", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return l.ResourceVersion
	}
	last, renewals := version(), 0
	eventually(t, "a renews fifteen times", func() bool {
		if now := version(); now != last {
			last = now
			renewals++
		}
		return renewals >= 15
	})
	if s.times("a") != 1 || s.times("b") != 0 {
		t.Errorf("a led %d times, b %d", s.times("a"), s.times("b"))
	}
}

func TestPreferredNodeIsFirst(t *testing.T) {
	ns, s := namespace(t), newStage()
	prefer := func(c *election.Config) {
		long(c)
		c.Retry = 500 * time.Millisecond
		c.Preferred = func() string { return "c" }
	}
	stand(t, s, ns, "a", prefer)
	stand(t, s, ns, "b", prefer)
	stand(t, s, ns, "c", prefer)
	eventually(t, "c leads", func() bool { return s.leader() == "c" })
	if s.times("a")+s.times("b") != 0 {
		t.Error("another was first")
	}
}

func TestOthersFollowWhenThePreferredDoesNotStand(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "a", func(c *election.Config) { c.Preferred = func() string { return "nobody" } })
	eventually(t, "a leads", func() bool { return s.leader() == "a" && a.Status().Leading })
}

// Two nodes that were given one name do not both lead.
func TestNodesOfOneName(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "twin", long)
	b := stand(t, s, ns, "twin", long)
	eventually(t, "one leads and both know", func() bool { return a.Leader() == "twin" && b.Leader() == "twin" })
	if a.Status().Leading == b.Status().Leading || s.times("twin") != 1 {
		t.Errorf("a leads: %t, b leads: %t", a.Status().Leading, b.Status().Leading)
	}
}

// A process that has been killed is followed by the next one on its node before
// its Lease ends.
func TestNodeThatCameBackFollowsItself(t *testing.T) {
	ns, s := namespace(t), newStage()
	a := stand(t, s, ns, "a", long)
	eventually(t, "a leads", func() bool { return a.Status().Leading })
	a.cut.set(true)
	b := stand(t, s, ns, "a", long)
	eventually(t, "the next one leads", func() bool { return b.Status().Leading })
}

// What clock the holder of a Lease goes by does not matter: others count from when
// they saw it renewed.
func TestClocksThatDiffer(t *testing.T) {
	for name, off := range map[string]time.Duration{"an hour slow": -time.Hour, "an hour fast": time.Hour} {
		t.Run(name, func(t *testing.T) {
			ns, s := namespace(t), newStage()
			set, _ := client(t, control.REST())
			holder, seconds, hands, at := "x_1", int32(2), int32(7), metav1.NewMicroTime(time.Now().Add(off))
			created, err := set.CoordinationV1().Leases(ns).Create(t.Context(), &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Name: "fairlead"},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &at, AcquireTime: &at, LeaseTransitions: &hands},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			a := stand(t, s, ns, "a", nil)
			eventually(t, "a respects the Lease", func() bool { return a.Leader() == "x" })
			seen := time.Now()
			eventually(t, "a leads when it has ended", func() bool { return s.leader() == "a" })
			if waited := time.Since(seen); waited < time.Second {
				t.Errorf("the Lease was taken after %s", waited)
			}
			l, err := set.CoordinationV1().Leases(ns).Get(t.Context(), "fairlead", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if *l.Spec.LeaseTransitions != 8 || l.UID != created.UID {
				t.Errorf("%d changes of hands", *l.Spec.LeaseTransitions)
			}
		})
	}
}

// A lead that returns by itself gives the Lease up, and the node stands again.
func TestLeadThatReturns(t *testing.T) {
	ns := namespace(t)
	set, _ := client(t, control.REST())
	e, err := election.New(election.Config{
		Client: set.CoordinationV1(), Namespace: ns, Name: "fairlead", Node: "a",
		Duration: 10 * time.Minute, Deadline: 5 * time.Minute, Retry: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	times := 0
	e.Run(ctx, func(context.Context) {
		if times++; times == 3 {
			cancel()
		}
	})
	if times != 3 {
		t.Errorf("it led %d times", times)
	}
	l, err := set.CoordinationV1().Leases(ns).Get(t.Context(), "fairlead", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *l.Spec.HolderIdentity != "" {
		t.Errorf("the Lease is still held by %q", *l.Spec.HolderIdentity)
	}
}

func TestMissingPermissionIsTold(t *testing.T) {
	ns, s := namespace(t), newStage()
	user, err := control.User("nobody-in-particular")
	if err != nil {
		t.Fatal(err)
	}
	set, _ := client(t, user)
	a := stand(t, s, ns, "a", func(c *election.Config) { c.Client = set.CoordinationV1() })
	want := fmt.Sprintf(`lease %s/fairlead: leases.coordination.k8s.io "fairlead" is forbidden: User "nobody-in-particular" cannot get resource "leases" in API group "coordination.k8s.io" in the namespace %q`, ns, ns)
	eventually(t, "it is told", func() bool { return a.Status().Error != "" })
	if got := a.Status().Error; got != want {
		t.Errorf("%s\nexpected\n%s", got, want)
	}
}

func TestBadElections(t *testing.T) {
	for want, cfg := range map[string]election.Config{
		`election: the Lease "" in namespace "x" for node "a": all three names are needed`:                                                       {Namespace: "x", Node: "a"},
		"election: a Lease of 15s, given up after 10s, renewed every 10s: each has to be greater than the next, and the first a second at least": {Namespace: "x", Name: "l", Node: "a", Retry: 10 * time.Second},
	} {
		if _, err := election.New(cfg); err == nil || err.Error() != want {
			t.Errorf("%v\nexpected\n%s", err, want)
		}
	}
}
