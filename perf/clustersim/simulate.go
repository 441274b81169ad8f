package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
	"fairlead/cluster/member/membertest"
	"fairlead/cluster/store"
)

// stepLimit is how long anything is waited for.
const stepLimit = 3 * time.Minute

// prefix is where the entries lie: the pools of services.
const prefix = cluster.DesiredPrefix + "simulated/"

// node is one node.
type node struct {
	*member.Members
	store *store.Store
	host  *membertest.Host
	stop  func()
}

// simulation is a cluster.
type simulation struct {
	plan    Plan
	network *membertest.Network
	key     identity.ClusterKey
	nodes   []*node
	watch   *watch
}

// Simulate does everything once with n nodes.
func Simulate(ctx context.Context, n int, plan Plan) (r *Result, err error) {
	s := &simulation{plan: plan, network: membertest.New(), key: identity.Generate(), watch: newWatch()}
	defer func() { err = errors.Join(err, s.close()) }()
	r = &Result{Nodes: n}
	say := func(format string, args ...any) {
		fmt.Fprintf(plan.Say, "%d nodes: %s\n", n, fmt.Sprintf(format, args...))
	}
	begin := time.Now()
	for i := range n - 1 {
		if err := s.add(ctx, i); err != nil {
			return nil, err
		}
	}
	if err := s.until(ctx, "all know all", func() bool { return s.know(n-1, cluster.Alive) }); err != nil {
		return nil, err
	}
	r.Joined = time.Since(begin)
	say("all know all after %v", r.Joined)
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	s.network.Lose(plan.Loss)
	s.network.Delay(plan.Least, plan.Most)
	if r.Late, err = s.late(ctx, n-1); err != nil {
		return nil, err
	}
	say("a new node has %d entries after %v", plan.Entries, r.Late)
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r.Memory = memory.HeapAlloc / uint64(n)
	if r.Change, err = s.changes(ctx); err != nil {
		return nil, err
	}
	say("%d changes reached all", len(r.Change))
	if err := s.rest(ctx); err != nil {
		return nil, err
	}
	before := s.mistakes()
	if r.Quiet, r.QuietCPU, err = s.during(ctx, plan.Quiet, nil); err != nil {
		return nil, err
	}
	say("idle: %.0f bytes a second each", r.Quiet.Bytes)
	r.Busy, r.CPU, err = s.during(ctx, plan.Churn, func(ctx context.Context) error {
		r.Written, r.BusyChange, err = s.churn(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Mistakes = s.mistakes() - before
	say("busy: %.0f bytes a second each", r.Busy.Bytes)
	if r.Death, err = s.deaths(ctx); err != nil {
		return nil, err
	}
	say("%d deaths were known to all", len(r.Death))
	return r, nil
}

// add has node i join.
func (s *simulation) add(ctx context.Context, i int) error {
	name := fmt.Sprintf("node-%03d", i)
	id, err := identity.New(name, s.key)
	if err != nil {
		return err
	}
	at := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(1 + i)})
	gossip, stream := netip.AddrPortFrom(at, 7946), netip.AddrPortFrom(at, 7947)
	host := s.network.Add(name, gossip, stream)
	first := netip.AddrFrom4([4]byte{198, 18, 0, 1})
	m, err := member.New(member.Config{
		Identity: id, Gossip: gossip, Stream: stream, Transport: host, ProbeInterval: s.plan.Probe,
		Seeds: []member.Seed{{Host: first.String(), Port: 7947}}, Software: "simulated", WireMin: 1, WireMax: 1,
	})
	if err != nil {
		return err
	}
	n := &node{Members: m, host: host}
	m.Attach(host, host.Dial)
	if n.store, err = store.Open(store.Config{Identity: id, Members: m, Peers: host, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return errors.Join(err, m.Close())
	}
	s.nodes = append(s.nodes, n)
	n.stop = n.store.Watch(prefix, func(entries []cluster.Entry) { s.watch.see(i, entries) })
	if err := m.Join(ctx); err != nil {
		return err
	}
	return nil
}

func (s *simulation) close() error {
	var errs []error
	var closing sync.WaitGroup
	for _, n := range s.nodes {
		n.stop()
		closing.Go(func() { n.store.Close(); n.host.Shutdown(); n.Members.Close() })
	}
	closing.Wait()
	s.network.Close()
	return errors.Join(errs...)
}

// know reports whether every node has so many members in a state.
func (s *simulation) know(count int, state cluster.State) bool {
	for _, n := range s.nodes {
		have := 0
		for _, o := range n.All() {
			if o.State == state {
				have++
			}
		}
		if have != count {
			return false
		}
	}
	return true
}

func (s *simulation) until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: not so within %v: %w", what, stepLimit, context.Cause(ctx))
		}
	}
	return nil
}

func keyOf(i int) string { return fmt.Sprintf("%spool-%05d", prefix, i) }

// value is a pool of two backends, as its source would describe it; turn makes it
// another one each time.
func value(i, turn int) []byte {
	return fmt.Appendf(nil, `{"pool":"default/service-%05d/http","backends":[{"address":"198.19.%d.%d","port":8080,"weight":1},{"address":"198.19.%d.%d","port":8080,"weight":1}],"turn":%d}`,
		i, i>>8&255, i&255, i>>8&255, (i+turn)&255, turn)
}

// fill writes all entries on one node and waits until all nodes have them.
func (s *simulation) fill(ctx context.Context) error {
	for i := range s.plan.Entries {
		if err := s.nodes[0].store.Put(keyOf(i), value(i, 0)); err != nil {
			return err
		}
	}
	return s.until(ctx, "all nodes have all entries", func() bool { return s.watch.all(len(s.nodes), s.plan.Entries) })
}

// late adds another node and says how long it takes to have everything.
func (s *simulation) late(ctx context.Context, i int) (time.Duration, error) {
	begin := time.Now()
	if err := s.add(ctx, i); err != nil {
		return 0, err
	}
	if err := s.until(ctx, "a new node has all entries", func() bool { return s.watch.all(len(s.nodes), s.plan.Entries) }); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, s.until(ctx, "all know the new node", func() bool { return s.know(len(s.nodes), cluster.Alive) })
}

// changes writes one entry after the other, on a node by chance, and says how long
// each took to reach all.
func (s *simulation) changes(ctx context.Context) (took []time.Duration, err error) {
	for turn := range s.plan.Samples {
		i := rand.IntN(s.plan.Entries)
		done := s.watch.expect(keyOf(i), len(s.nodes))
		if err := s.nodes[rand.IntN(len(s.nodes))].store.Put(keyOf(i), value(i, 1+turn)); err != nil {
			return nil, err
		}
		select {
		case d := <-done:
			took = append(took, d)
		case <-time.After(stepLimit):
			return nil, fmt.Errorf("a change did not reach all within %v", stepLimit)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return took, nil
}

// churn changes entries at the plan's rate, on one node, as a controller does.
func (s *simulation) churn(ctx context.Context) (written int, took []time.Duration, err error) {
	var waiting []<-chan time.Duration
	tick := time.NewTicker(time.Second / time.Duration(s.plan.Rate))
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < s.plan.Churn; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, nil, context.Cause(ctx)
		}
		i := written % s.plan.Entries
		done := s.watch.expect(keyOf(i), len(s.nodes))
		if err := s.nodes[1].store.Put(keyOf(i), value(i, 1000+written)); err != nil {
			return 0, nil, err
		}
		written++
		waiting = append(waiting, done)
	}
	for _, done := range waiting {
		select {
		case d := <-done:
			took = append(took, d)
		case <-time.After(stepLimit):
			return 0, nil, fmt.Errorf("%d of %d changes did not reach all within %v", len(waiting)-len(took), len(waiting), stepLimit)
		}
	}
	return written, took, nil
}

// during says what is sent, by node and second, while f runs, or for so long.
func (s *simulation) during(ctx context.Context, d time.Duration, f func(context.Context) error) (t Traffic, cpu time.Duration, err error) {
	packets, bytes := s.network.Traffic()
	begin, used := time.Now(), cpuTime()
	if f != nil {
		err = f(ctx)
	} else {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	seconds := time.Since(begin).Seconds()
	p, b := s.network.Traffic()
	each := seconds * float64(len(s.nodes))
	return Traffic{float64(p-packets) / each, float64(b-bytes) / each}, time.Duration(float64(cpuTime()-used) / seconds), err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rest waits until what has happened so far has been told around.
func (s *simulation) rest(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mistakes is how often living nodes have had to say that they are not dead.
func (s *simulation) mistakes() (n uint64) {
	for _, m := range s.nodes {
		n += m.Stats().Refuted
	}
	return n
}

// deaths cuts nodes off, one after the other, and says how long it takes until all
// others know.
func (s *simulation) deaths(ctx context.Context) (took []time.Duration, err error) {
	for range s.plan.Deaths {
		dead := s.nodes[len(s.nodes)-1]
		s.nodes = s.nodes[:len(s.nodes)-1]
		name := dead.Self().Name
		begin := time.Now()
		if err := dead.host.Shutdown(); err != nil {
			return nil, err
		}
		err := s.until(ctx, "a death is known to all", func() bool {
			return !slices.ContainsFunc(s.nodes, func(n *node) bool {
				return slices.ContainsFunc(n.All(), func(o cluster.Node) bool { return o.Name == name && o.State.Serves() })
			})
		})
		took = append(took, time.Since(begin))
		dead.stop()
		dead.store.Close()
		dead.Members.Close()
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// quantile is that of some durations, 1 for the longest; 0 when there are none.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(q*float64(len(list))))]
}
