package quorum

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func messages() []message {
	return []message{
		{kind: want, epoch: 7},
		{kind: beat, epoch: 1 << 63, sequence: 1 << 40},
		{kind: only, epoch: 7, sequence: 3, views: []told{}},
		{kind: change, epoch: 7, sequence: 4, views: []told{
			{id: 1, state: Up, age: 300 * time.Millisecond}, {id: ^ID(0), state: Down, age: time.Hour, reason: "no connection in time"}, {id: 5}, {id: 6, state: Unable, reason: "cannot be checked: no such program"},
		}},
	}
}

func TestMessages(t *testing.T) {
	for _, m := range messages() {
		b := m.append(nil)
		got, err := parse(b)
		if err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
		if got, err = parse(append(b, "and what a later version adds"...)); err != nil || !reflect.DeepEqual(*got, m) {
			t.Errorf("%+v with more became %+v, %v", m, got, err)
		}
		for n := range b {
			if _, err := parse(b[:n]); !errors.Is(err, errShort) {
				t.Errorf("%d of %d bytes: %v, want %v", n, len(b), err, errShort)
			}
		}
	}
	long := message{kind: change, views: []told{{id: 1, state: Down, reason: strings.Repeat("é", 60)}, {id: 2, state: Up, age: -time.Second}}}
	got, err := parse(long.append(nil))
	if err != nil || got.views[0].reason != strings.Repeat("é", 40) || got.views[1].age != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadMessages(t *testing.T) {
	many := message{kind: change, views: make([]told, mostInMessage+1)}
	for _, c := range []struct{ in, want string }{
		{"", "the message is cut off"},
		{"\x02", "the message is of another version: 2"},
		{"\x01\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00", "the message is of an unknown kind: 9"},
		{"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "the message is of an unknown kind: 0"},
		{string(many.append(nil)), "the message has too many views: 4097"},
		{"\x01\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x1f", "the message is cut off"}, // says it has 4095
	} {
		if _, err := parse([]byte(c.in)); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %q", c.in[:min(len(c.in), 20)], err, c.want)
		}
	}
	odd := message{kind: change, views: []told{{id: 1, state: Down, reason: "a\nb\x00\xffc"}}}
	if got, err := parse(odd.append(nil)); err != nil || got.views[0].reason != "a?b??c" {
		t.Errorf("%+v, %v", got, err)
	}
	unknown := message{kind: change, views: []told{{id: 1, state: Unable}}}
	b := unknown.append(nil)
	b[len(b)-3] = 9 // a state of a later version
	if got, err := parse(b); err != nil || got.views[0].state != Unknown {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzParse: whatever comes is refused or read as what writing it gives again.
func FuzzParse(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parse(in)
		if err != nil {
			return
		}
		if len(m.views) > mostInMessage {
			t.Fatalf("%d views", len(m.views))
		}
		out := m.append(nil)
		again, err := parse(out)
		if err != nil || !bytes.Equal(again.append(nil), out) {
			t.Fatalf("%x: %x, %v", in, out, err)
		}
	})
}
