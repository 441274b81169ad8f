package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
	"fairlead/cluster/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within 30 s: %s", what)
		}
	}
}

// rig is a cluster of stores over a network in memory.
type rig struct {
	t     testing.TB
	dir   string
	world *clustertest.World
	key   identity.ClusterKey
	log   *logged
	tune  func(*Config)
	ids   map[string]*identity.Identity
	nodes map[string]*Store
}

// fixedKey is the key of all clusters here, so that the processes of a fuzz target
// take each other's seeds.
const fixedKey = "q0D3H5rYw1m7VdS2bXcE9fJkLpQzTgU4aNhR8iOvZyM="

func newRig(t testing.TB, tune func(*Config), names ...string) *rig {
	key, err := identity.ParseKey(fixedKey)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, dir: t.TempDir(), world: clustertest.New(t, names...), key: key, log: &logged{}, tune: tune,
		ids: map[string]*identity.Identity{}, nodes: map[string]*Store{},
	}
	t.Cleanup(func() {
		for _, s := range r.nodes {
			s.Close() // what it could not store is asserted by the tests that are about that
		}
	})
	for _, name := range names {
		r.open(name)
	}
	return r
}

func (r *rig) identity(name string) *identity.Identity {
	if r.ids[name] == nil {
		id, err := identity.New(name, r.key)
		if err != nil {
			r.t.Fatal(err)
		}
		r.ids[name] = id
	}
	return r.ids[name]
}

func (r *rig) config(name string) Config {
	n := r.world.Node(name)
	c := Config{
		Dir: filepath.Join(r.dir, name), Identity: r.identity(name), Members: n.Members(), Peers: n.Peers(),
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo})), Interval: 50 * time.Millisecond,
	}
	if r.tune != nil {
		r.tune(&c)
	}
	return c
}

func (r *rig) open(name string) *Store {
	r.t.Helper()
	s, err := Open(r.config(name))
	if err != nil {
		r.t.Fatal(err)
	}
	r.nodes[name] = s
	return s
}

// join adds a node.
func (r *rig) join(name string) *Store {
	r.world.Add(name)
	return r.open(name)
}

// stop ends a node.
func (r *rig) stop(name string) {
	r.t.Helper()
	r.world.Kill(name)
	if err := r.nodes[name].Close(); err != nil {
		r.t.Fatal(err)
	}
	delete(r.nodes, name)
}

func (r *rig) start(name string) *Store {
	r.t.Helper()
	r.world.Start(name)
	return r.open(name)
}

// same waits until all have the same.
func (r *rig) same() {
	r.t.Helper()
	eventually(r.t, "all nodes have the same", r.equal)
}

func (r *rig) equal() bool {
	var first []byte
	for _, s := range r.nodes {
		s.mu.Lock()
		_, sums := s.table.digest()
		s.mu.Unlock()
		if first == nil {
			first = sums
		}
		if !bytes.Equal(first, sums) {
			return false
		}
	}
	return true
}

func put(t testing.TB, s cluster.Store, key, value string) {
	t.Helper()
	if err := s.Put(key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, s cluster.Store, key string) {
	t.Helper()
	if err := s.Delete(key); err != nil {
		t.Fatal(err)
	}
}

func get(s cluster.Store, key string) string {
	e, ok := s.Get(key)
	if !ok {
		return "-"
	}
	return string(e.Value)
}

// has waits for a value.
func has(t testing.TB, s cluster.Store, key, value string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %.20q", key, value), func() bool { return get(s, key) == value })
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func keysOf(list []cluster.Entry) (keys []string) {
	for _, e := range list {
		keys = append(keys, e.Key)
	}
	return slices.Clip(keys)
}
