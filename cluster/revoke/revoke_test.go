package revoke

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
	"fairlead/cluster/identity"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// me is a node's identity, as far as it matters here.
type me struct {
	node cluster.Node
	mu   sync.Mutex
	keys []ed25519.PublicKey
}

func (m *me) Name() string                 { return m.node.Name }
func (m *me) PublicKey() ed25519.PublicKey { return m.node.Key }
func (m *me) SetRevoked(keys []ed25519.PublicKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys = keys
}

func (m *me) refuses(key ed25519.PublicKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		if k.Equal(key) {
			return true
		}
	}
	return false
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

type rig struct {
	*List
	me      *me
	log     *lines
	changed atomic.Bool // lb1 is revoked, as was told last
}

func newRig(t *testing.T, w *clustertest.World, name string) *rig {
	t.Helper()
	n := w.Node(name)
	r := &rig{me: &me{node: n.Members().Self()}, log: &lines{}}
	r.List = New(Config{Identity: r.me, Members: n.Members(), Store: n.Store(), Changed: func(revoked func(ed25519.PublicKey) bool) {
		r.changed.Store(revoked(w.Node("lb1").Members().Self().Key))
	}, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	t.Cleanup(r.Close)
	return r
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it has not come to this: %s", what)
}

func TestRevoke(t *testing.T) {
	w := clustertest.New(t, "lb1", "lb2", "lb3")
	one, two, three := newRig(t, w, "lb1"), newRig(t, w, "lb2"), newRig(t, w, "lb3")
	stolen := three.me.node.Key
	r, err := one.Revoke("lb3", "the disk was stolen", "alice")
	if err != nil {
		t.Fatal(err)
	}
	if !one.me.refuses(stolen) {
		t.Error("it is not in force when it returns")
	}
	if r.Node != "lb3" || !r.Key.Equal(stolen) || r.By != "alice on lb1" || r.Reason != "the disk was stolen" || r.Fingerprint() != identity.Fingerprint(stolen) {
		t.Errorf("%+v", r)
	}
	eventually(t, "all know", func() bool { return two.me.refuses(stolen) && three.me.refuses(stolen) })
	if two.me.refuses(one.me.node.Key) {
		t.Error("another key is refused")
	}
	eventually(t, "the node itself says so", func() bool {
		return three.log.has("the key of this node is revoked: the other nodes do not take it for one of them any more")
	})
	if own, is := three.Own(); !is || own.Reason != "the disk was stolen" {
		t.Errorf("its own: %+v", own)
	}
	if _, is := two.Own(); is {
		t.Error("another node takes itself for revoked")
	}
	eventually(t, "others say so", func() bool { return two.log.has(`the key of a node is revoked" node=lb3`) })
	list := two.All()
	if len(list) != 1 || list[0].Node != "lb3" || list[0].By != "alice on lb1" || !list[0].At.Equal(r.At) {
		t.Errorf("%+v", list)
	}
	// It is in force from the start of whoever starts.
	again := newRig(t, w, "lb2")
	if !again.me.refuses(stolen) {
		t.Error("after a restart it is taken")
	}
	if _, err := two.Restore("lb3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is taken again", func() bool { return !one.me.refuses(stolen) && !three.me.refuses(stolen) })
	if len(one.All()) != 0 {
		t.Errorf("%+v", one.All())
	}
	if _, err := two.Revoke("lb1", "", ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "who wants to know is told", func() bool { return one.changed.Load() && three.changed.Load() })
	if _, err := two.Restore("lb1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "who wants to know is told", func() bool { return !one.changed.Load() && !two.changed.Load() && !three.changed.Load() })
	// A node that is dead can be revoked, too, and by its fingerprint restored.
	w.Kill("lb3")
	if _, err := one.Revoke("lb3", "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Restore(strings.ToUpper(identity.Fingerprint(stolen))); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	w := clustertest.New(t, "lb1", "lb2")
	one := newRig(t, w, "lb1")
	_, unknown := one.Revoke("lb9", "", "")
	_, self := one.Revoke("lb1", "", "")
	_, long := one.Revoke("lb2", strings.Repeat("x", 201), "")
	_, none := one.Restore("lb2")
	for _, c := range []struct {
		err, is error
		want    string
	}{
		{unknown, ErrUnknown, `no such node or key: no member "lb9" is known to this node`},
		{self, ErrSelf, `this is the key of the node that is asked: ask another node to revoke the key of "lb1"`},
		{long, ErrReason, "the reason is too long: 201 bytes, at most 200 are kept"},
		{none, ErrUnknown, `no such node or key: no key of "lb2" is revoked`},
	} {
		if c.err == nil || c.err.Error() != c.want || !errors.Is(c.err, c.is) {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
	if len(one.All()) != 0 {
		t.Errorf("%+v", one.All())
	}
	// Two keys of one name need to be told apart.
	for _, seed := range []byte{1, 2} {
		key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed)).Public().(ed25519.PublicKey)
		w.Node("lb2").Store().Put(entryOf(key), encode(t, "lb5", key))
	}
	eventually(t, "both are there", func() bool { return len(one.All()) == 2 })
	if _, err := one.Restore("lb5"); err == nil || err.Error() != `no such node or key: 2 keys of "lb5" are revoked; name one by its fingerprint` {
		t.Errorf("got %v", err)
	}
	if _, err := one.Restore(one.All()[1].Fingerprint()); err != nil {
		t.Error(err)
	}
}

func encode(t *testing.T, node string, key ed25519.PublicKey) []byte {
	t.Helper()
	data, err := json.Marshal(&value{Node: node, Key: base64.StdEncoding.EncodeToString(key)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNonsense has another node write what is no revocation: nothing is revoked
// by it, and nothing else is lost.
func TestNonsense(t *testing.T) {
	w := clustertest.New(t, "lb1", "lb2")
	key := w.Node("lb2").Members().Self().Key
	store := w.Node("lb2").Store()
	for name, data := range map[string][]byte{
		Prefix + "1":    []byte("no JSON"),
		Prefix + "2":    []byte(`{"node":"lb2","key":"c2hvcnQ="}`),
		Prefix + "3":    []byte(`{"node":"lb2","key":"` + strings.Repeat("?", 44) + `"}`),
		Prefix + "abcd": encode(t, "lb2", key),
		entryOf(key):    encode(t, "lb2", key),
	} {
		if err := store.Put(name, data); err != nil {
			t.Fatal(err)
		}
	}
	one := newRig(t, w, "lb1")
	eventually(t, "the good one is in force", func() bool { return one.me.refuses(key) })
	if len(one.All()) != 1 {
		t.Errorf("%+v", one.All())
	}
	eventually(t, "the others are named", func() bool {
		return one.log.has("a revocation that makes no sense is ignored") && one.log.has("it has no key") && one.log.has("it is for another key than its name says")
	})
}
