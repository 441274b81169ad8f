package peer

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/cluster"
)

// TestSendAllocatesLittle says that a message costs no memory but its bytes in
// the queue, which are used again.
func TestSendAllocatesLittle(t *testing.T) {
	message := make([]byte, 100)
	o := newOutbox()
	buffer := o.take(make([]byte, 0, 64<<10))
	buffer = append(buffer, make([]byte, 64<<10)...) // both have their size
	if n := testing.AllocsPerRun(1000, func() {
		for range 100 {
			if err := o.put("flows", message); err != nil {
				t.Fatal(err)
			}
		}
		buffer = o.take(buffer)
	}); n > 0 {
		t.Errorf("100 messages allocate %v times", n)
	}
}

// TestSendsAreCoalesced says that messages that wait go together.
func TestSendsAreCoalesced(t *testing.T) {
	a, b := pair(t)
	release := make(chan struct{})
	var got atomic.Int32
	b.Listen("flows", func(string, []byte) { <-release; got.Add(1) })
	s := a.remote("b").session.Load()
	message := make([]byte, 64)
	const messages = 20000
	before := s.link.conn.writes.Load()
	for range messages {
		if err := a.Send("b", "flows", message); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	eventually(t, "all have arrived", func() bool { return got.Load() == messages })
	if n := s.link.conn.writes.Load() - before; n > messages/20 {
		t.Errorf("%d messages took %d writes", messages, n)
	}
}

func benchPair(b *testing.B) (*node, *node) {
	x, y := newNode(b, newIdentity(b, "a", clusterKey), nil), newNode(b, newIdentity(b, "b", clusterKey), nil)
	y.Handle("echo", func(_ context.Context, _ string, m []byte) ([]byte, error) { return m, nil })
	begin(b, x, y)
	eventually(b, "they see each other", func() bool { return x.sees("b") && y.sees("a") })
	return x, y
}

func BenchmarkSend(b *testing.B) {
	x, y := benchPair(b)
	var got atomic.Int64
	y.Listen("flows", func(string, []byte) { got.Add(1) })
	message := make([]byte, 64)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		for x.Send("b", "flows", message) != nil {
			time.Sleep(10 * time.Microsecond) // the queue is full
		}
	}
}

func BenchmarkCall(b *testing.B) {
	x, _ := benchPair(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Call(b.Context(), "b", "echo", nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallMaxMessage(b *testing.B) {
	x, _ := benchPair(b)
	request := make([]byte, cluster.MaxMessage)
	b.SetBytes(2 * cluster.MaxMessage)
	for b.Loop() {
		if _, err := x.Call(b.Context(), "b", "echo", request); err != nil {
			b.Fatal(err)
		}
	}
}
