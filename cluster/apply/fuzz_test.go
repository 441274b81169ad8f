package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
)

// FuzzDocument: whatever lies under a key is read or refused, and what is read
// comes back the same.
func FuzzDocument(f *testing.F) {
	until := time.Unix(1_700_000_000, 0).UTC()
	for _, d := range []*Document{
		{Format: 1, Content: Content{Name: "x", Text: "[[pool]]\n"}, Origin: "a", Time: until},
		{Format: 1, Until: &until, Restore: &Content{Text: "y"}, Ancestors: []cluster.Version{{Wall: 1, Counter: 2, Writer: "b"}}},
		{Format: 9},
	} {
		value, err := d.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
		f.Add(value[:len(value)/2])
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		d, err := decode(value)
		if err != nil {
			return
		}
		d.Effective(until)
		d.knows(cluster.Version{Wall: 5})
		again, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(again)
		if err != nil {
			t.Fatal(err)
		}
		one, _ := json.Marshal(d)
		two, _ := json.Marshal(back)
		if !bytes.Equal(one, two) {
			t.Fatalf("%s came back as %s", one, two)
		}
	})
}

// FuzzRequest: whatever another node asks is answered, or is an error.
func FuzzRequest(f *testing.F) {
	w := clustertest.New(f, "a", "b")
	a := New(Config{Members: w.Node("a").Members(), Peers: w.Node("a").Peers(), Store: w.Node("a").Store(), Local: newLocal("a")})
	for _, q := range []request{
		{Format: 1, ID: "1", Within: time.Second, Contents: map[string]Content{"api": {Text: "x"}}},
		{Format: 3, ID: "1", Contents: map[string]Content{"kubernetes": {}}, Base: map[string]cluster.Version{"api": {Wall: -1}}},
		{ID: strings.Repeat("x", 100)},
	} {
		message, err := pack(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, message []byte) {
		text, err := a.prepared(context.Background(), "b", message)
		if err != nil {
			return
		}
		var out answer
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBoundsOfDocuments(t *testing.T) {
	t.Parallel()
	d := &Document{Format: 1, Content: Content{Text: strings.Repeat("x", MaxText+1)}}
	if _, err := d.encode(); err == nil || err.Error() != "the document has 33554433 bytes; nodes share at most 33554432" {
		t.Errorf("got %v", err)
	}
	// What unpacks to more than any document has is not unpacked.
	bomb, err := pack(map[string]string{"text": strings.Repeat("x", 90<<20)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(bomb); err == nil || err.Error() != "it has more than 83886080 bytes when it is unpacked" {
		t.Errorf("got %v", err)
	}
	if _, err := decode(make([]byte, MaxDocument+1)); err == nil || err.Error() != "it has 12582913 bytes; there may be 12582912" {
		t.Errorf("got %v", err)
	}
	for _, c := range []struct {
		from any
		want string
	}{
		{&Document{Format: 2}, "it was written by newer software: format 2, this node reads up to 1"},
		{map[string]int{}, "it has no format"},
		{&Document{Format: 1, Ancestors: make([]cluster.Version, 33)}, "it has 33 ancestors; there may be 32"},
	} {
		value, err := pack(c.from)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(value); err == nil || err.Error() != c.want {
			t.Errorf("%+v: got %v, want %s", c.from, err, c.want)
		}
	}
}
