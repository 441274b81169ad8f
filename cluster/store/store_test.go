package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
)

func TestEntriesReachAll(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c")
	a, b, c := r.nodes["a"], r.nodes["b"], r.nodes["c"]
	put(t, a, "setting/pool/1", "drain")
	put(t, a, "live/a/health", "up")
	put(t, b, "node/b/x", "b")
	for _, s := range []*Store{a, b, c} {
		has(t, s, "setting/pool/1", "drain")
		has(t, s, "live/a/health", "up")
		has(t, s, "node/b/x", "b")
	}
	e, _ := c.Get("setting/pool/1")
	if e.Writer != "a" || e.Version.Writer != "a" || e.Key != "setting/pool/1" || e.Deleted {
		t.Fatalf("at c: %+v", e)
	}
	put(t, b, "setting/pool/1", "enable")
	if get(b, "setting/pool/1") != "enable" {
		t.Fatal("what was put is not in force")
	}
	for _, s := range r.nodes {
		has(t, s, "setting/pool/1", "enable")
	}
	remove(t, c, "setting/pool/1")
	if get(c, "setting/pool/1") != "-" {
		t.Fatal("what was deleted is still there")
	}
	remove(t, c, "setting/never/there")
	for _, s := range r.nodes {
		has(t, s, "setting/pool/1", "-")
		if got := keysOf(s.List("")); !slices.Equal(got, []string{"live/a/health", "node/b/x"}) {
			t.Fatalf("the list is %q", got)
		}
		if got := keysOf(s.List("node/b/")); !slices.Equal(got, []string{"node/b/x"}) {
			t.Fatalf("the list is %q", got)
		}
	}
	r.same()
}

func TestWritesThatAreRefused(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a := r.nodes["a"]
	long := strings.Repeat("k", 513)
	for _, c := range []struct {
		key   string
		value []byte
		want  string
	}{
		{"", nil, "a key has at least one byte"},
		{long, nil, "a key of 513 bytes: want at most 512"},
		{"x", make([]byte, 16<<20+1), `a value of 16777217 bytes under "x": want at most 16777216`},
		{"live/b/x", nil, `"live/b/x" is for node "b" alone to write`},
		{"node/b/x", nil, `"node/b/x" is for node "b" alone to write`},
		{"node/a", nil, `"node/a" is no key: want node/<node>/<name>`},
		{"live/a/", nil, `"live/a/" is no key: want live/<node>/<name>`},
	} {
		if err := a.Put(c.key, c.value); err == nil || err.Error() != c.want {
			t.Errorf("put: %v, want %s", err, c.want)
		}
	}
	if err := a.Delete("node/b/x"); err == nil || err.Error() != `"node/b/x" is for node "b" alone to write` {
		t.Error(err)
	}
	if got := a.List(""); len(got) != 0 {
		t.Fatalf("there is %v", got)
	}
	a.Close()
	if err := a.Put("x", nil); err != ErrClosed {
		t.Fatal(err)
	}
}

// TestLarge: what does not fit into gossip is announced, and fetched.
func TestLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Interval = time.Hour }, "a", "b", "c", "d")
	for _, s := range r.nodes {
		<-s.Synced()
	}
	for i, size := range []int{900, 2000, 1 << 20, MaxValue} {
		key, value := fmt.Sprintf("desired/%d", i), bytes.Repeat([]byte{'a' + byte(i)}, size)
		put(t, r.nodes["a"], key, string(value))
		for _, s := range r.nodes {
			eventually(t, key+" is there", func() bool {
				e, ok := s.Get(key)
				return ok && bytes.Equal(e.Value, value)
			})
		}
	}
	r.join("late")
	has(t, r.nodes["late"], "desired/3", string(bytes.Repeat([]byte{'d'}, MaxValue)))
	r.same()
}

func TestRestart(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.nodes["a"], r.nodes["b"]
	put(t, a, "x", "1")
	put(t, a, "y", "1")
	put(t, b, "node/b/x", "1")
	put(t, a, "live/a/x", "1")
	remove(t, a, "y")
	r.same()
	r.stop("b")
	put(t, a, "x", "2")
	r.stop("a")
	a = r.open("a") // the network is down
	if get(a, "x") != "2" || get(a, "y") != "-" || get(a, "node/b/x") != "1" || get(a, "live/a/x") != "-" {
		t.Fatalf("after the restart: %v", a.List(""))
	}
	put(t, a, "x", "3")
	r.world.Start("a")
	b = r.start("b")
	has(t, b, "x", "3")
	put(t, b, "x", "4")
	has(t, a, "x", "4")
	r.same()
}

// TestPartition: both halves go on, and the later write wins everywhere.
func TestPartition(t *testing.T) {
	r := newRig(t, nil, "a", "b", "c", "d")
	put(t, r.nodes["a"], "x", "0")
	put(t, r.nodes["a"], "gone", "0")
	r.same()
	r.world.Part([]string{"a", "b"})
	put(t, r.nodes["a"], "x", "left")
	put(t, r.nodes["a"], "left", "1")
	has(t, r.nodes["b"], "x", "left")
	time.Sleep(2 * time.Millisecond) // another millisecond: clocks of both halves are the same here
	put(t, r.nodes["d"], "x", "right")
	remove(t, r.nodes["d"], "gone")
	has(t, r.nodes["c"], "x", "right")
	if get(r.nodes["c"], "left") != "-" {
		t.Fatal("something came through the partition")
	}
	r.world.Heal()
	for _, s := range r.nodes {
		has(t, s, "x", "right")
		has(t, s, "left", "1")
		has(t, s, "gone", "-")
	}
	r.same()
}

func TestSynced(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "a", "b")
	put(t, r.nodes["a"], "x", "1")
	c := r.join("c")
	<-c.Synced()
	if get(c, "x") != "1" {
		t.Fatal("synced, and x is not here")
	}
	joined := make(chan struct{})
	alone := newRig(t, func(c *Config) { c.Joined = joined }, "only")
	select {
	case <-alone.nodes["only"].Synced():
		t.Fatal("it has not looked for others yet")
	case <-time.After(2 * aloneAfter):
	}
	close(joined)
	select {
	case <-alone.nodes["only"].Synced():
	case <-time.After(20 * time.Second):
		t.Fatal("nobody is there, and that is not found out")
	}
	<-newRig(t, nil, "only").nodes["only"].Synced() // by itself
}

// TestWatch: what is there first, then changes in order; one who is slow sees the
// last of a key and holds up nobody.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil, "a", "b")
	a, b := r.nodes["a"], r.nodes["b"]
	put(t, a, "setting/1", "1")
	put(t, a, "other/1", "1")
	var mu sync.Mutex
	var calls [][]cluster.Entry
	enter, leave := make(chan struct{}, 1), make(chan struct{})
	stop := a.Watch("setting/", func(list []cluster.Entry) {
		mu.Lock()
		calls = append(calls, list)
		mu.Unlock()
		enter <- struct{}{}
		<-leave
	})
	<-enter
	fast := make(chan string, 1000)
	defer a.Watch("setting/", func(list []cluster.Entry) {
		for _, e := range list {
			fast <- e.Key + "=" + string(e.Value)
		}
	})()
	if got := <-fast; got != "setting/1=1" {
		t.Fatal(got)
	}
	for i := range 200 {
		put(t, b, "setting/2", fmt.Sprint(i))
		has(t, a, "setting/2", fmt.Sprint(i))
	}
	put(t, a, "setting/3", "1")
	put(t, a, "setting/1", "2")
	remove(t, a, "setting/2")
	put(t, a, "other/1", "2")
	leave <- struct{}{}
	<-enter
	mu.Lock()
	if len(calls) != 2 || !slices.Equal(keysOf(calls[0]), []string{"setting/1"}) || !slices.Equal(keysOf(calls[1]), []string{"setting/3", "setting/1", "setting/2"}) {
		t.Fatalf("the slow one saw %v", calls)
	}
	if last := calls[1]; !last[2].Deleted || string(last[1].Value) != "2" {
		t.Fatalf("the slow one saw %v", calls)
	}
	mu.Unlock()
	stop()
	close(leave)
	eventually(t, "the other one sees the end", func() bool {
		for {
			select {
			case got := <-fast:
				if got == "setting/2=" {
					return true
				}
			default:
				return false
			}
		}
	})
	empty := make(chan int, 1)
	defer a.Watch("nothing/", func(list []cluster.Entry) { empty <- len(list) })()
	if n := <-empty; n != 0 {
		t.Fatal("there is something below nothing/")
	}
}
