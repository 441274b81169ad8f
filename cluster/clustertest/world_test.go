package clustertest

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so within 10 s: %s", what)
		}
	}
}

func TestWorldParts(t *testing.T) {
	w := New(t, "a", "b", "c")
	w.Lose(0.5)
	w.Delay(0, 2*time.Millisecond)
	a, b, c := w.Node("a"), w.Node("b"), w.Node("c")
	var ups atomic.Int32
	c.Peers().OnUp(func(string) { ups.Add(1) })
	eventually(t, "c has two links", func() bool { return ups.Load() == 2 })

	w.Part([]string{"c"})
	if got := c.Members().All()[0].State; got != cluster.Dead {
		t.Fatalf("c sees a as %s: want dead", got)
	}
	if err := a.Store().Put("x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b has x", func() bool { _, ok := b.Store().Get("x"); return ok })
	if _, ok := c.Store().Get("x"); ok {
		t.Fatal("c has x through a partition")
	}
	if _, err := a.Peers().Call(context.Background(), "c", "t", nil); !errors.Is(err, cluster.ErrUnreachable) {
		t.Fatalf("a call through a partition: %v", err)
	}
	w.Heal()
	eventually(t, "c has x", func() bool { _, ok := c.Store().Get("x"); return ok })
	eventually(t, "c has two more links", func() bool { return ups.Load() == 4 })

	if err := b.Store().Put("live/a/x", nil); err == nil {
		t.Fatal("b wrote a's key")
	}
	if err := b.Store().Delete("x"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "x is gone at a", func() bool { _, ok := a.Store().Get("x"); return !ok })
}

func TestWorldSpeaks(t *testing.T) {
	w := New(t, "a", "b")
	a, b := w.Node("a"), w.Node("b")
	b.Peers().Handle("echo", func(_ context.Context, from string, request []byte) ([]byte, error) {
		if len(request) == 0 {
			return nil, errors.New("nothing to say")
		}
		return append([]byte(from+" said "), request...), nil
	})
	if got, err := a.Peers().Call(context.Background(), "b", "echo", []byte("ho")); err != nil || string(got) != "a said ho" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Peers().Call(context.Background(), "b", "echo", nil); err == nil || err.Error() != "nothing to say" {
		t.Fatalf("error %v", err)
	}
	if _, err := a.Peers().Call(context.Background(), "b", "other", nil); !errors.Is(err, cluster.ErrNoHandler) {
		t.Fatalf("error %v", err)
	}
	var got []byte
	done := make(chan struct{})
	b.Peers().Listen("n", func(_ string, m []byte) {
		if got = append(got, m...); len(got) == 100 {
			close(done)
		}
	})
	for i := range byte(100) {
		if err := a.Peers().Send("b", "n", []byte{i}); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if !slices.IsSorted(got) {
		t.Fatal("messages overtook each other")
	}
}
