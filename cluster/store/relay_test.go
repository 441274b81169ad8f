package store

import (
	"fmt"
	"testing"
	"time"

	"fairlead/cluster"
)

// TestRelayReachesAll has every entry reach every node over streams alone, each node
// about once, however many nodes there are: nothing is gossiped and nobody compares.
func TestRelayReachesAll(t *testing.T) {
	for _, nodes := range []int{2, 7, 30} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			var names []string
			for i := range nodes {
				names = append(names, fmt.Sprintf("n%02d", i))
			}
			r := newRig(t, func(c *Config) { c.Interval = time.Hour }, names...)
			r.world.Lose(1)
			for _, s := range r.nodes {
				<-s.Synced()
			}
			const each = 20
			for i := range each {
				for _, name := range names[:2] {
					if err := r.nodes[name].Put(fmt.Sprintf("setting/%s/%d", name, i), []byte("x")); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, name := range names {
				eventually(t, name+" has all", func() bool { return len(r.nodes[name].List("setting/")) == 2*each })
			}
			took, enough := uint64(0), uint64(2*each*(nodes-1))
			for _, s := range r.nodes {
				took += s.Stats().Taken
			}
			// Nodes that have just met compare themselves, too.
			if took > enough*5/4 {
				t.Errorf("%d entries were taken, %d would do", took, enough)
			}
		})
	}
}

// TestRelayWithoutConnections has others stand in for nodes that an entry cannot be
// relayed by, and what is not passed on found by comparing.
func TestRelayWithoutConnections(t *testing.T) {
	entry := appendRelay([]byte("entry"), []string{"a", "b"})
	if got, to, err := readRelay(entry); err != nil || string(got) != "entry" || len(to) != 2 || to[1] != "b" {
		t.Fatalf("%q to %v, %v", got, to, err)
	}
	for _, bad := range [][]byte{nil, {1}, frame(kindRelay), frame(kindEntry), append(frame(kindRelay), 0xff), {9, byte(kindRelay)}} {
		if _, _, err := readRelay(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
	r := newRig(t, nil, "a", "b", "c")
	r.world.Lose(1)
	a := r.nodes["a"]
	if a.relayTo([]string{"nobody", "b"}, entry) {
		t.Error("it was sent to nobody")
	}
	if !a.relayTo([]string{"b"}, entry) {
		t.Error("it was not sent to b")
	}
	eventually(t, "b has refused it", func() bool { return r.nodes["b"].Stats().Refused[Malformed]+r.nodes["b"].Stats().Refused[Unknown] == 2 })
	r.world.Part([]string{"c"})
	if err := a.Put("setting/x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b has it", func() bool { return get(r.nodes["b"], "setting/x") == "1" })
	if get(r.nodes["c"], "setting/x") == "1" {
		t.Fatal("c has it through a partition")
	}
	r.world.Heal()
	eventually(t, "c has it", func() bool { return get(r.nodes["c"], "setting/x") == "1" })
}

// TestGossipGoesAlong has little gossiped besides what is relayed.
func TestGossipGoesAlong(t *testing.T) {
	var a allowance
	now := time.Unix(1, 0)
	count := func() (n int) {
		for a.take(now) {
			n++
		}
		return n
	}
	if n := count(); n != gossipBurst {
		t.Errorf("%d at once", n)
	}
	now = now.Add(time.Second)
	if n := count(); n != gossipRate {
		t.Errorf("%d in a second", n)
	}
	if len(appendRelay(make([]byte, relayMost), nil)) > cluster.MaxMessage {
		t.Error("what is relayed is too long for peers")
	}
}

// FuzzRelay has what peers relay change nothing that is not signed.
func FuzzRelay(f *testing.F) {
	_, s, it := fuzzed(f)
	f.Add(appendRelay(it.appendEnvelope(frame(kindEntry), true), []string{"b"}))
	f.Add(appendRelay(it.appendEnvelope(frame(kindEntry), false), nil))
	f.Add(frame(kindRelay))
	f.Fuzz(func(t *testing.T, m []byte) {
		if entry, _, err := readRelay(m); err == nil {
			if err := s.hear(entry); err != nil && reasonOf(err) == "" {
				t.Fatal(err)
			}
		}
		onlySigned(t, s)
	})
}
