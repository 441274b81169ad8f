package member_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
	"fairlead/cluster/member/membertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster in memory.
type world struct {
	*membertest.Network
	t     testing.TB
	key   identity.ClusterKey
	probe time.Duration
	nodes map[string]*node
}

type node struct {
	*member.Members
	host *membertest.Host
	id   *identity.Identity
	log  *logged
}

func newWorld(t testing.TB) *world {
	w := &world{Network: membertest.New(), t: t, key: identity.Generate(), probe: 100 * time.Millisecond, nodes: map[string]*node{}}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		w.Network.Close()
	})
	return w
}

func gossipAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 7946)
}

func streamAt(i int) netip.AddrPort { return netip.AddrPortFrom(gossipAt(i).Addr(), 7947) }

func seedOf(at netip.AddrPort) member.Seed {
	return member.Seed{Host: at.Addr().String(), Port: int(at.Port())}
}

// config is that of node i, with node 1 as its seed.
func (w *world) config(i int, name string) (member.Config, *membertest.Host) {
	id, err := identity.New(name, w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	host := w.Add(name, gossipAt(i), streamAt(i))
	return member.Config{
		Identity: id, Gossip: gossipAt(i), Stream: streamAt(i), Transport: host, Seeds: []member.Seed{seedOf(streamAt(1))},
		ProbeInterval: w.probe, Software: "test", WireMin: 1, WireMax: 1, Pace: 200 * time.Millisecond,
	}, host
}

// start has a node join.
func (w *world) start(name string, cfg member.Config, host *membertest.Host) (*node, error) {
	lines := &logged{}
	cfg.Log = slog.New(slog.NewTextHandler(lines, nil))
	m, err := member.New(cfg)
	if err != nil {
		return nil, err
	}
	n := &node{Members: m, host: host, log: lines}
	n.id, _ = cfg.Identity.(*identity.Identity)
	m.Attach(host, host.Dial)
	if err := m.Join(w.t.Context()); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	w.nodes[name] = n
	return n, nil
}

// add adds node i of the name "n<i>".
func (w *world) add(i int) *node {
	name := fmt.Sprintf("n%d", i)
	cfg, host := w.config(i, name)
	n, err := w.start(name, cfg, host)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// cluster makes a cluster of n nodes that know each other.
func (w *world) cluster(n int) (nodes []*node) {
	for i := 1; i <= n; i++ {
		nodes = append(nodes, w.add(i))
	}
	for _, m := range nodes {
		eventually(w.t, fmt.Sprintf("%v knows all", m), func() bool { return m.count(cluster.Alive) == n })
	}
	return nodes
}

// kill cuts a node off.
func (w *world) kill(n *node) {
	if err := n.host.Shutdown(); err != nil {
		w.t.Fatal(err)
	}
}

// count is how many members are in a state.
func (n *node) count(states ...cluster.State) (count int) {
	for _, o := range n.All() {
		if slices.Contains(states, o.State) {
			count++
		}
	}
	return count
}

func (n *node) state(name string) cluster.State {
	for _, o := range n.All() {
		if o.Name == name {
			return o.State
		}
	}
	return ""
}

// logged is what a node has logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if os.Getenv("MEMBER_LOG") != "" {
		os.Stderr.Write(b)
	}
	return l.text.Write(b)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestJoinAndLeave(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(4)
	for _, n := range nodes {
		all := n.All()
		for i, o := range all {
			want := nodes[i].Self()
			if o.Name != want.Name || !o.Key.Equal(want.Key) || o.Gossip != want.Gossip || o.Stream != want.Stream ||
				o.Software != "test" || o.WireMin != 1 || o.WireMax != 1 || !o.Started.Equal(want.Started.Truncate(time.Millisecond)) && o.Name != n.Self().Name || o.Leaving {
				t.Errorf("%v has %+v, want %+v", n, o, want)
			}
		}
	}
	seen := make(chan []cluster.Node, 64)
	stop := nodes[0].Watch(func(all []cluster.Node) { seen <- all })
	defer stop()
	if first := <-seen; len(first) != 4 {
		t.Errorf("a watcher begins with %v", first)
	}
	if err := nodes[3].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	leaving := false
	for gone := false; !gone; {
		select {
		case all := <-seen:
			leaving = leaving || all[3].Leaving && all[3].State == cluster.Alive
			gone = all[3].State == cluster.Left
			if all[3].State == cluster.Dead {
				t.Fatal("a node that leaves is taken for dead")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody says that the node has left")
		}
	}
	if !leaving {
		t.Error("it has not been said before that the node leaves")
	}
	for _, n := range nodes[:3] {
		eventually(t, "all know that it has left", func() bool { return n.state("n4") == cluster.Left })
	}
}

func TestDeathAndReturn(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(10)
	begin := time.Now()
	w.kill(nodes[4])
	for _, n := range slices.Concat(nodes[:4], nodes[5:]) {
		eventually(t, "all know that the node is dead", func() bool { return n.state("n5") == cluster.Dead })
	}
	t.Logf("dead for all of 10 after %v", time.Since(begin))
	for _, n := range slices.Concat(nodes[:4], nodes[5:]) {
		if got := n.count(cluster.Alive, cluster.Suspect); got != 9 {
			t.Errorf("%v counts on %d", n, got)
		}
	}
	// The same node again: its key is another one, and the old one is dead.
	nodes[4].Close()
	again := w.add(5)
	for _, n := range append(slices.Concat(nodes[:4], nodes[5:]), again) {
		eventually(t, "all are there again", func() bool { return n.count(cluster.Alive) == 10 })
	}
	if key := again.Self().Key; !nodes[0].All()[slices.IndexFunc(nodes[0].All(), func(n cluster.Node) bool { return n.Name == "n5" })].Key.Equal(key) {
		t.Error("others have its old key")
	}
}

func TestSuspicion(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(3)
	states := make(chan cluster.State, 100)
	stop := nodes[0].Watch(func(all []cluster.Node) { states <- all[2].State })
	defer stop()
	w.kill(nodes[2])
	var seen []cluster.State
	for len(seen) == 0 || seen[len(seen)-1] != cluster.Dead {
		select {
		case s := <-states:
			if len(seen) == 0 || seen[len(seen)-1] != s {
				seen = append(seen, s)
			}
		case <-time.After(10 * time.Second):
			t.Fatal(seen)
		}
	}
	// Its own probe may find the node dead after the other's has already.
	if want := []cluster.State{cluster.Alive, cluster.Suspect, cluster.Dead}; !slices.Equal(seen, want) && !slices.Equal(seen, want[:1:1]) && len(seen) < 2 {
		t.Errorf("seen as %v, want %v", seen, want)
	}
}

func TestBroadcast(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	got := map[string]map[string]int{}
	nodes := []*node{}
	for i := 1; i <= 12; i++ {
		name := fmt.Sprintf("n%d", i)
		cfg, host := w.config(i, name)
		m, err := member.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = map[string]int{}
		m.Receive("test", func(message []byte) {
			mu.Lock()
			defer mu.Unlock()
			got[name][string(message)]++
		})
		n := &node{Members: m, host: host, log: &logged{}}
		w.nodes[name] = n
		m.Attach(host, host.Dial)
		if err := m.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		eventually(t, "all are there", func() bool { return n.count(cluster.Alive) == 12 })
	}
	w.Lose(0.05)
	const messages = 50
	for i := range messages {
		if err := nodes[i%12].Broadcast("test", fmt.Appendf(nil, "message %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range got {
			for text, times := range m {
				if n++; times > 1 {
					t.Errorf("%q has arrived %d times", text, times)
				}
			}
		}
		return n
	}
	// Best effort: 90 of 100 at least.
	eventually(t, "nearly all messages arrive nearly everywhere", func() bool { return arrived() >= messages*11*90/100 })
	mu.Lock()
	for i := range messages {
		if from := fmt.Sprintf("n%d", i%12+1); got[from][fmt.Sprintf("message %d", i)] != 0 {
			t.Errorf("message %d has come back to its sender", i)
		}
	}
	mu.Unlock()
	if err := nodes[0].Broadcast("test", make([]byte, cluster.MaxGossip+1)); err == nil || err.Error() != "a message of 1101 bytes cannot be gossiped: want at most 1100" {
		t.Error(err)
	}
	if err := nodes[0].Broadcast("", nil); err == nil || err.Error() != `"" is no topic for gossip` {
		t.Error(err)
	}
	if err := nodes[0].Broadcast("test", make([]byte, cluster.MaxGossip)); err != nil {
		t.Error(err)
	}
	eventually(t, "the longest message arrives", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["n2"][string(make([]byte, cluster.MaxGossip))] == 1
	})
}

// TestPartition parts a cluster for so long that both halves have forgotten each
// other's nodes as far as memberlist is concerned.
func TestPartition(t *testing.T) {
	w := newWorld(t)
	w.probe = 50 * time.Millisecond
	nodes := w.cluster(5)
	w.Part([]string{"n1", "n2"}, []string{"n3", "n4", "n5"})
	dead := func() bool {
		return nodes[0].count(cluster.Dead) == 3 && nodes[1].count(cluster.Dead) == 3 &&
			nodes[2].count(cluster.Dead) == 2 && nodes[3].count(cluster.Dead) == 2 && nodes[4].count(cluster.Dead) == 2
	}
	eventually(t, "each half takes the other for dead", dead)
	wait(t, member.ForgottenAfter*w.probe)
	if !dead() {
		t.Fatal("the halves have found each other")
	}
	// What one half makes of the keys the other one does not know.
	if _, err := nodes[4].RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	w.Part()
	for _, n := range nodes {
		eventually(t, "the cluster is whole", func() bool { return n.count(cluster.Alive) == 5 })
	}
	t.Logf("whole after %v", time.Since(begin))
	for _, n := range nodes {
		if got, want := n.Keys(), nodes[4].Keys(); got.Version != want.Version || got.Keys[0] != want.Keys[0] {
			t.Errorf("%v has the keys %+v, want %+v", n, got, want)
		}
	}
}

func wait(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func (l *logged) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

var discard = slog.New(slog.DiscardHandler)

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// resolver looks names up in a map.
func resolver(names map[string][]netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		if addrs, ok := names[host]; ok {
			return addrs, nil
		}
		return nil, errors.New("no such host")
	}
}
