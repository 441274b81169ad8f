package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
)

// forge makes gossip of an entry by anybody.
func forge(by Identity, e cluster.Entry, change func(*item)) []byte {
	e.Version.Writer = e.Writer
	it := newItem(e, by)
	if change != nil {
		change(it)
	}
	return it.appendEnvelope(frame(kindEntry), true)
}

// TestRefused: what is not what it claims changes nothing, is counted by its
// reason, and is said.
func TestRefused(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Hour }, "a", "b")
	a, b := r.nodes["a"], r.identity("b")
	stranger, err := identity.New("b", identity.Generate())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	entry := func(key, writer string, wall int64) cluster.Entry {
		return cluster.Entry{Key: key, Value: []byte("evil"), Writer: writer, Version: cluster.Version{Wall: wall}}
	}
	put(t, a, "setting/x", "good")
	for name, c := range map[string]struct {
		message []byte
		reason  Reason
		says    string
	}{
		"another cluster": {forge(stranger, entry("setting/x", "b", now+1000), nil), Forged, `"setting/x" of node "b": not admitted to this cluster`},
		"another's name":  {forge(b, entry("setting/x", "c", now+1000), nil), Forged, `"setting/x" of node "c": not admitted to this cluster`},
		"signature": {forge(b, entry("setting/x", "b", now+1000), func(it *item) { it.signature[3] ^= 1 }), Forged,
			`"setting/x" of node "b": the signature is not of node "b"`},
		"another's proof": {forge(b, entry("setting/x", "b", now+1000), func(it *item) { it.proof = r.identity("a").Proof() }), Forged,
			`"setting/x" of node "b": not admitted to this cluster`},
		"value":          {forge(b, entry("setting/x", "b", now+1000), func(it *item) { it.Value = []byte("worse") }), Malformed, "malformed: a value is not the one that was signed"},
		"another's key":  {forge(b, entry("node/a/x", "b", now+1000), nil), Foreign, `"node/a/x" was written by node "b": that is for node "a" alone`},
		"another's live": {forge(b, entry("live/c/x", "b", now+1000), nil), Foreign, `"live/c/x" was written by node "b": that is for node "c" alone`},
		"no key":         {forge(b, entry("node/b", "b", now+1000), nil), Malformed, `"node/b" is no key: want node/<node>/<name>`},
		"long key":       {forge(b, entry(strings.Repeat("k", 513), "b", now+1000), nil), Oversize, "a key has at most 512 bytes and a value at most 16777216"},
		"future":         {forge(b, entry("setting/x", "b", now+3_600_000), nil), Future, "ahead of this node's clock: at most 5m0s are accepted"},
		"old":            {forge(b, entry("setting/y", "b", now-20*24*3_600_000), nil), Old, `"setting/y": it is from `},
		"old live":       {forge(b, entry("live/b/y", "b", now-45*60_000), nil), Old, `"live/b/y": it is from `},
		"stale":          {forge(b, entry("setting/x", "b", now-60_000), nil), Stale, ""},
		"empty":          {nil, Malformed, "malformed: a message of less than two bytes"},
		"garbage":        {[]byte{1, 'e', 0xff, 0xff, 0xff}, Malformed, "malformed: a field's tag"},
		"version":        {[]byte{2, 'e', 0}, Unknown, `version 2, kind 'e' of a message is not known to this software`},
		"kind":           {[]byte{1, 'z', 0}, Unknown, `version 1, kind 'z' of a message is not known to this software`},
		"no gossip":      {[]byte{1, 'p'}, Unknown, `version 1, kind 'p' of a message is not known to this software`},
	} {
		t.Run(name, func(t *testing.T) {
			before := a.Stats().Refused[c.reason]
			a.grumble.mu.Lock()
			clear(a.grumble.state) // a new minute
			a.grumble.mu.Unlock()
			a.receive(c.message)
			eventually(t, "it is counted", func() bool { return a.Stats().Refused[c.reason] == before+1 })
			if c.says != "" && !strings.Contains(strings.ReplaceAll(r.log.String(), `\"`, `"`), c.says) {
				t.Errorf("it is not said: %s\n%s", c.says, r.log)
			}
			if got := a.List(""); len(got) != 1 || string(got[0].Value) != "good" {
				t.Fatalf("there is %v", got)
			}
		})
	}
	// An announcement of the same kinds is not fetched, either.
	it := newItem(cluster.Entry{Key: "setting/x", Writer: "b", Value: []byte("evil"), Version: cluster.Version{Wall: now + 1000, Writer: "b"}}, stranger)
	before := a.Stats().Refused[Forged]
	a.receive(it.appendEnvelope(frame(kindEntry), false))
	eventually(t, "it is counted", func() bool { return a.Stats().Refused[Forged] == before+1 })
	// One that is well signed is taken after all that.
	a.receive(forge(b, entry("setting/x", "b", now+1000), nil))
	has(t, a, "setting/x", "evil")
}

// TestComplaintsAreFew: a flood does not fill the log.
func TestComplaintsAreFew(t *testing.T) {
	r := newRig(t, nil, "a")
	a := r.nodes["a"]
	for range 1000 {
		a.refuse("gossip", malformed("x"))
	}
	if n := strings.Count(r.log.String(), "was refused"); n != 1 {
		t.Fatalf("%d lines", n)
	}
	if a.Stats().Refused[Malformed] != 1000 {
		t.Fatal(a.Stats().Refused)
	}
}

// TestPeersMayLie: a node that is admitted can forge nothing of others, and its
// garbage is an error.
func TestPeersMayLie(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Interval = time.Hour }, "a", "b")
	a, b := r.nodes["a"], r.identity("b")
	now := time.Now().UnixMilli()
	push := frame(kindPush)
	for _, it := range []*item{
		newItem(cluster.Entry{Key: "node/a/x", Writer: "b", Version: cluster.Version{Wall: now, Writer: "b"}}, b),
		newItem(cluster.Entry{Key: "setting/ok", Writer: "b", Version: cluster.Version{Wall: now, Writer: "b"}}, b),
		newItem(cluster.Entry{Key: "setting/x", Writer: "b", Version: cluster.Version{Wall: now + 86_400_000, Writer: "b"}}, b),
	} {
		push = appendBytes(push, offerItem, it.appendEnvelope(nil, true))
	}
	call := func(m []byte) ([]byte, error) {
		return r.world.Node("b").Peers().Call(context.Background(), "a", topic, m)
	}
	answer, err := call(push)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := readUint(answer, 1); n != 2 {
		t.Fatalf("%d were refused", n)
	}
	if got := keysOf(a.List("")); fmt.Sprint(got) != "[setting/ok]" {
		t.Fatalf("there is %v", got)
	}
	for message, want := range map[string]string{
		"":                  "malformed: a message of less than two bytes",
		"\x02c":             `version 2, kind 'c' of a message is not known to this software`,
		"\x01e":             `version 1, kind 'e' of a message is not known to this software`,
		"\x01c":             "malformed: a comparison without its digest",
		"\x01x\x10\x80\x08": "malformed: a bucket's number",
		"\x01f\x0a\x01z":    `there is nothing under "z"`,
		"\x01p\x0a\x00":     "malformed: an entry's header",
	} {
		if _, err := call([]byte(message)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", message, err, want)
		}
	}
}

// TestUnknownFields: what newer software adds to an entry is left alone, is still
// signed, and is carried on.
func TestUnknownFields(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	b := r.identity("b")
	it := newItem(cluster.Entry{Key: "setting/x", Value: []byte("1"), Writer: "b", Version: cluster.Version{Wall: time.Now().UnixMilli(), Writer: "b"}}, b)
	it.header = appendString(it.header, 99, "something new")
	it.signature = b.Sign(signedContext, it.header)
	m := appendString(it.appendEnvelope(frame(kindEntry), true), 77, "and more")
	r.nodes["a"].receive(m)
	c := r.join("c")
	has(t, c, "setting/x", "1")
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := c.table.get("setting/x"); !strings.Contains(string(got.header), "something new") {
		t.Fatal("it was not carried on")
	}
}
