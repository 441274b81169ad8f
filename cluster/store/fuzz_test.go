package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"fairlead/cluster"
)

// fuzzed is a store for messages of all kinds, and an item of another node.
func fuzzed(f *testing.F) (*rig, *Store, *item) {
	r := newRig(f, func(c *Config) { c.Dir, c.Interval = "", time.Hour }, "a")
	now := time.Now().UnixMilli()
	it := newItem(cluster.Entry{Key: "setting/x", Value: []byte("1"), Writer: "b", Version: cluster.Version{Wall: now, Counter: 3, Writer: "b"}}, r.identity("b"))
	put(f, r.nodes["a"], "setting/y", "1")
	return r, r.nodes["a"], it
}

// onlySigned fails if anything is in force that its writer has not signed.
func onlySigned(t *testing.T, s *Store) {
	if err := s.ask(&request{kind: requestSync}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.each(func(it *item) {
		if err := s.check(it); err != nil {
			t.Fatalf("%q is in force: %v", it.Key, err)
		}
		if again, err := readEnvelope(it.appendEnvelope(nil, true)); err != nil || again.hash != it.hash {
			t.Fatalf("%q cannot be carried on: %v", it.Key, err)
		}
	})
}

func FuzzGossip(f *testing.F) {
	_, s, it := fuzzed(f)
	f.Add(it.appendEnvelope(frame(kindEntry), true))
	f.Add(it.appendEnvelope(frame(kindEntry), false))
	f.Add([]byte{1, 'e'})
	f.Add([]byte{2, 'e', 10, 0})
	f.Fuzz(func(t *testing.T, m []byte) {
		if err := s.hear(m); err != nil && reasonOf(err) == "" {
			t.Fatal(err)
		}
		onlySigned(t, s)
	})
}

func FuzzRequest(f *testing.F) {
	_, s, it := fuzzed(f)
	mine := s.own()
	mine.seq = 1
	f.Add(mine.encode(frame(kindCompare)))
	f.Add(mine.encode(frame(kindDone)))
	f.Add(appendBytes(frame(kindPush), offerItem, it.appendEnvelope(nil, true)))
	f.Add(appendString(frame(kindFetch), 1, "setting/y"))
	f.Add(appendHaving(appendUint(appendUint(frame(kindExchange), exchangeBucket, 5), exchangeBucket, uint64(bucketOf("setting/y"))), exchangeHave, it))
	f.Fuzz(func(t *testing.T, m []byte) {
		if _, err := s.serve(context.Background(), "b", m); err == nil {
			onlySigned(t, s)
		}
		if get(s, "setting/y") != "1" {
			t.Fatal("what a has written is gone")
		}
	})
}

func FuzzAnswer(f *testing.F) {
	_, s, it := fuzzed(f)
	f.Add(s.own().encode(nil))
	f.Add(appendUint(appendWant(appendOffered(nil, it), want{"x", true}), offerMore, 1))
	f.Fuzz(func(t *testing.T, m []byte) {
		if st, err := readState(m); err == nil {
			again, err := readState(st.encode(nil))
			if err != nil || again.root != st.root || again.seq != st.seq || !bytes.Equal(again.sums, st.sums) || !again.wall.Equal(st.wall) {
				t.Fatalf("%+v is read as %+v: %v", st, again, err)
			}
		}
		if o, err := readOffer(m); err == nil {
			var b []byte
			for _, it := range o.items {
				b = appendBytes(b, offerItem, it.appendEnvelope(nil, it.whole))
			}
			for _, w := range o.wants {
				b = appendWant(b, w)
			}
			again, err := readOffer(b)
			if err != nil || len(again.items) != len(o.items) || fmt.Sprint(again.wants) != fmt.Sprint(o.wants) {
				t.Fatalf("%+v is read as %+v: %v", o, again, err)
			}
		}
	})
}

// FuzzFiles opens a folder with anything in it; what is written after that is
// there the next time.
func FuzzFiles(f *testing.F) {
	r, _, it := fuzzed(f)
	log := slog.New(slog.DiscardHandler)
	m := newMedia()
	d, c, err := openDisk(m, log)
	if err != nil {
		f.Fatal(err)
	}
	it.seq = 1
	c.equals["b"] = equal{store: newStoreID(), seq: 1}
	if err := d.begin(c, func(g func(*item)) { g(it) }); err != nil {
		f.Fatal(err)
	}
	f.Add(m.names[snapshotName(1)].data, appendDropRecord(appendItemRecord(nil, it), it), uint64(1))
	f.Add(m.names[snapshotName(1)].data, []byte{}, uint64(2))
	f.Add([]byte{}, appendItemRecord(nil, it), uint64(7))
	f.Fuzz(func(t *testing.T, snapshot, records []byte, g uint64) {
		m := newMedia()
		g >>= 2
		m.names[snapshotName(1)] = &content{data: snapshot}
		m.names[logName(g)] = &content{data: records}
		d, c, err := openDisk(m, log)
		if err != nil {
			t.Fatal(err)
		}
		if d.file == nil {
			if err := d.begin(c, func(g func(*item)) {
				for _, it := range c.items {
					g(it)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		mine := newItem(cluster.Entry{Key: "new", Writer: "a", Version: cluster.Version{Wall: 1 << 62, Writer: "a"}}, r.identity("a"))
		if err := d.append(appendItemRecord(nil, mine)); err != nil {
			t.Fatal(err)
		}
		_, again, err := openDisk(m, log)
		if err != nil || again.damaged || again.items["new"] == nil {
			t.Fatalf("what was written is not there: %v", err)
		}
		for key := range c.items {
			if again.items[key] == nil {
				t.Fatalf("%q was there", key)
			}
		}
	})
}
