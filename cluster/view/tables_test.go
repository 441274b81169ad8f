package view

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

// pools are the tables of a node in a test.
type pools struct {
	mu         sync.Mutex
	tables     map[string]uint64
	generation uint64
}

func (p *pools) set(name string, checksum uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	if checksum == 0 {
		delete(p.tables, name)
		return
	}
	p.tables[name] = checksum
}

func (p *pools) each(f func(string, uint64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, checksum := range p.tables {
		f(name, checksum)
	}
}

func (p *pools) number() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// tableRig is a cluster whose tables are looked at and compared when a test says.
type tableRig struct {
	*rig
	pools map[string]*pools
	clock *clock
	log   strings.Builder
	names []string
}

func newTableRig(t *testing.T, names ...string) *tableRig {
	t.Helper()
	r := &tableRig{pools: map[string]*pools{}, clock: &clock{at: time.Unix(1_700_000_000, 0)}, names: names}
	text := slog.NewTextHandler(&r.log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	r.rig = newRig(t, func(name string, c *Config) {
		p := &pools{tables: map[string]uint64{"web": 1, "dns": 2}}
		r.pools[name] = p
		c.Tables, c.Generation, c.Log = p.each, p.number, slog.New(text).With("node", name)
	}, names...)
	for _, v := range r.views {
		v.tables.now = r.clock.now
	}
	return r
}

// round has every node look and compare, with as many as there are others.
func (r *tableRig) round(t *testing.T, d time.Duration) {
	for range len(r.names) - 1 {
		for _, name := range r.names {
			r.views[name].tables.look()
		}
		for _, name := range r.names {
			r.views[name].tables.compare(t.Context())
		}
	}
	r.clock.pass(d)
}

// TestTablesAgree asserts that nothing is said of nodes that agree, nor of changes
// that have not reached all yet, however many there are.
func TestTablesAgree(t *testing.T) {
	r := newTableRig(t, "a", "b", "c")
	for i := range uint64(60) {
		for n, name := range r.names { // each is another step behind
			r.pools[name].set("web", 100+i-uint64(n))
			r.pools[name].set(fmt.Sprint("new", (i-uint64(n))%3), 7)
			r.pools[name].set(fmt.Sprint("new", (i-uint64(n)+1)%3), 0)
		}
		r.round(t, 4*time.Second)
		for _, name := range r.names {
			if m := r.views[name].allMismatches(); len(m) > 0 {
				t.Fatalf("step %d: %s: %+v", i, name, m)
			}
		}
	}
	if r.log.Len() > 0 {
		t.Error(r.log.String())
	}
	if r.views["a"].tables.done == 0 || r.views["a"].tables.failed > 0 {
		t.Errorf("%d comparisons, %d failed", r.views["a"].tables.done, r.views["a"].tables.failed)
	}
}

// TestTablesDiffer asserts that a difference that lasts is found by both nodes, in
// the pool that it is in, while other pools change all the time, that every node
// knows of it, and that it ends.
func TestTablesDiffer(t *testing.T) {
	r := newTableRig(t, "a", "b", "c")
	r.pools["b"].set("web", 9)   // another table
	r.pools["b"].set("dns", 0)   // none
	r.pools["b"].set("alone", 3) // one that the others do not have
	churn := uint64(0)
	step := func() {
		churn++
		for n, name := range r.names {
			r.pools[name].set("busy", 1000+churn+uint64(n))
		}
		r.round(t, 4*time.Second)
	}
	step()
	step() // 8 s
	for _, name := range r.names {
		if m := r.views[name].Mismatches(); len(m) > 0 {
			t.Fatalf("%s says so before the grace time is over: %v", name, m)
		}
	}
	step()
	step()
	want := map[string]map[string]int{"a": {"b": 3}, "b": {"a": 3, "c": 3}, "c": {"b": 3}}
	for _, name := range r.names {
		if got := r.views[name].Mismatches(); !maps.Equal(got, want[name]) {
			t.Errorf("%s: %v, want %v", name, got, want[name])
		}
	}
	eventually(t, "all know of all", func() bool { return len(r.views["c"].allMismatches()) == 4 })
	for _, m := range r.views["c"].allMismatches() {
		if text := fmt.Sprint(m.Pools); text != "[alone dns web]" {
			t.Errorf("%s of %s: %s", m.Node, m.Other, text)
		}
	}
	if n := strings.Count(r.log.String(), "tables differ from those of another member"); n != 4 {
		t.Errorf("said %d times:\n%s", n, r.log.String())
	}

	// What cannot be compared is not said to differ.
	r.world.Kill("b")
	step()
	eventually(t, "nothing is said of a node that is dead", func() bool { return len(r.views["a"].allMismatches()) == 0 })
	r.world.Start("b")
	step()
	if got := r.views["a"].Mismatches(); got["b"] != 3 {
		t.Errorf("after its return: %v", got)
	}
	r.pools["b"].set("web", 1)
	r.pools["b"].set("dns", 2)
	r.pools["b"].set("alone", 0)
	step()
	for _, name := range r.names {
		eventually(t, name+" knows that all is well", func() bool { return len(r.views[name].allMismatches()) == 0 })
	}
	if !strings.Contains(r.log.String(), "tables do not differ from those of another member any more") {
		t.Error(r.log.String())
	}
}

// TestTablesAtScale asserts how much is sent for a comparison of 10,000 pools.
func TestTablesAtScale(t *testing.T) {
	v := New(Config{Name: "n", Tables: func(f func(string, uint64)) {
		for i := range 10_000 {
			f(fmt.Sprintf("namespace-%d/service-%d", i%100, i), uint64(i))
		}
	}})
	c := &clock{at: time.Unix(0, 0)}
	v.tables.now = c.now
	v.tables.look()
	c.pass(time.Hour)
	short, err := json.Marshal(v.tables.request(false))
	if err != nil {
		t.Fatal(err)
	}
	long, err := json.Marshal(v.tables.request(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes when tables are equal, %d when they are not", len(short), len(long))
	if len(short) > 100 || len(long) > 220_000 {
		t.Errorf("%d and %d bytes", len(short), len(long))
	}
}

// TestTablesRefuse asserts what is said to requests that are none.
func TestTablesRefuse(t *testing.T) {
	r := newTableRig(t, "a", "b")
	for request, want := range map[string]string{
		"{":                          "the request cannot be read: unexpected end of JSON input",
		`{"wire":4}`:                 "the request is of version 4; this node reads 1 to 1",
		`{"wire":1,"list":"AAAA"}`:   "the request's lists have 3 and 0 bytes",
		`{"wire":1,"volatile":"AA"}`: "the request cannot be read: illegal base64 data at input byte 0",
	} {
		if _, err := r.views["a"].tables.answer(t.Context(), "b", []byte(request)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", request, err, want)
		}
	}
}

// FuzzTables asserts that nothing that a peer sends harms a node.
func FuzzTables(f *testing.F) {
	v := New(Config{Name: "n", Tables: func(f func(string, uint64)) { f("web", 1) }})
	v.tables.look()
	f.Add([]byte(`{"wire":1,"digest":"x","list":"AAAAAAAAAAAAAAAAAAAAAA==","whole":true}`))
	f.Fuzz(func(t *testing.T, request []byte) {
		answer, err := v.tables.answer(t.Context(), "x", request)
		if err != nil {
			return
		}
		var a tablesAnswer
		if err := json.Unmarshal(answer, &a); err != nil || a.Count < len(a.Pools) || len(a.Alien) > 8*somePools {
			t.Errorf("%s, %v", answer, err)
		}
		v.tables.namesOf(a.Alien)
	})
}

// TestRunComparesByItself asserts that a view finds a difference without being told
// to look.
func TestRunComparesByItself(t *testing.T) {
	tables := map[string]*pools{}
	r := newRig(t, func(name string, c *Config) {
		p := &pools{tables: map[string]uint64{"web": 1}}
		tables[name] = p
		c.Tables, c.Generation = p.each, p.number
		c.Timing.Look, c.Timing.Compare, c.Timing.Grace = time.Millisecond, 5*time.Millisecond, 50*time.Millisecond
	}, "a", "b")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, v := range r.views {
		running.Go(func() { v.Run(ctx) })
	}
	defer func() { stop(); running.Wait() }()
	eventually(t, "they have compared", func() bool {
		v := r.views["a"].tables
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.done > 3
	})
	tables["b"].set("web", 2)
	eventually(t, "both know", func() bool {
		return r.views["a"].Mismatches()["b"] == 1 && r.views["b"].Mismatches()["a"] == 1
	})
	tables["a"].set("web", 2)
	eventually(t, "it is over", func() bool {
		return len(r.views["a"].Mismatches())+len(r.views["b"].Mismatches()) == 0
	})
}
