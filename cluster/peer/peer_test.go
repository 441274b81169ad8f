package peer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/cluster"
)

func TestCallsAndMessages(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	var got inbox
	var up atomic.Int32
	for _, n := range []*node{a, b} {
		n.Handle("echo", func(_ context.Context, from string, request []byte) ([]byte, error) {
			return append([]byte(from+"/"), request...), nil
		})
		n.Handle("fail", func(context.Context, string, []byte) ([]byte, error) {
			return nil, errors.New("service web: port 0 is none")
		})
		n.Listen("note", got.take)
		n.OnUp(func(string) { up.Add(1) })
	}
	if err := b.Send("a", "note", nil); !errors.Is(err, cluster.ErrUnreachable) || err.Error() != `no connection to the node: "a"` {
		t.Errorf("before the start: %v", err)
	}
	begin(t, a, b)
	connected(t, a, b)
	eventually(t, "both were told", func() bool { return up.Load() >= 2 })
	ctx := within(t)
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3 << 20, cluster.MaxMessage} {
		request := bytes.Repeat([]byte("x"), n)
		if n == cluster.MaxMessage {
			request = request[:n-2] // the answer is longer
		}
		answer, err := a.Call(ctx, "b", "echo", request)
		if err != nil || !bytes.Equal(answer, append([]byte("a/"), request...)) {
			t.Fatalf("%d bytes: %d bytes came back, %v", n, len(answer), err)
		}
	}
	if answer, err := b.Call(ctx, "a", "echo", []byte("hi")); err != nil || string(answer) != "b/hi" {
		t.Errorf("the other way: %q %v", answer, err)
	}
	_, err := a.Call(ctx, "b", "fail", nil)
	var remote *RemoteError
	if !errors.As(err, &remote) || err.Error() != "service web: port 0 is none" || remote.Node != "b" {
		t.Errorf("a handler's error: %v", err)
	}
	// However much is sent to somebody who does not know what it is.
	for _, n := range []int{0, 5 << 20} {
		if _, err := a.Call(ctx, "b", "nonsense", make([]byte, n)); !errors.Is(err, cluster.ErrNoHandler) {
			t.Errorf("an unknown topic with %d bytes: %v", n, err)
		}
		if err := a.Send("b", "nonsense", make([]byte, n)); err != nil {
			t.Error(err)
		}
	}
	for i := range 1000 {
		if err := a.Send("b", "note", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all messages are there", func() bool { return len(got.all()) == 1000 })
	if !slices.Equal(got.all(), numbered("a", 1000)) {
		t.Error("they came out of order")
	}
	if n := b.Stats().UnknownTopics; n != 4 {
		t.Errorf("%d of unknown topics were counted, want 4", n)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{a.Send("b", "note", make([]byte, cluster.MaxMessage+1)), "a message of 33554433 bytes: want at most 33554432"},
		{a.Send("b", "", nil), "a topic of 0 bytes: want 1 to 64"},
		{a.Send("b", cluster.Topic(strings.Repeat("t", 65)), nil), "a topic of 65 bytes: want 1 to 64"},
		{a.Send("c", "note", nil), `no connection to the node: "c"`},
		{a.Send("a", "note", nil), `no connection to the node: "a"`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
	s := a.Stats()
	if len(s.Connections) != 1 || s.Connections[0].Node != "b" || !s.Connections[0].Dialed || s.Connections[0].Wire != 1 ||
		s.Connections[0].Software != "1.0" || s.Connections[0].Sent != 1002 || s.Connections[0].SentBytes == 0 {
		t.Errorf("%+v", s.Connections)
	}
}

// TestOneConnection has many nodes meet at the same moment: between any two of
// them there is one connection in the end, and it is the same one for both.
func TestOneConnection(t *testing.T) {
	var nodes []*node
	for i := range 8 {
		nodes = append(nodes, newNode(t, newIdentity(t, fmt.Sprintf("n%d", i), clusterKey), nil))
	}
	begin(t, nodes...)
	connected(t, nodes...)
	eventually(t, "one connection for each two", func() bool {
		for _, n := range nodes {
			n.mu.RLock()
			sessions := len(n.sessions)
			n.mu.RUnlock()
			if sessions != len(nodes)-1 {
				return false
			}
		}
		return true
	})
	dialed := 0
	for _, n := range nodes {
		for _, c := range n.Stats().Connections {
			if c.Dialed {
				dialed++
			}
		}
	}
	if want := len(nodes) * (len(nodes) - 1) / 2; dialed != want {
		t.Errorf("%d connections were dialed, want %d: two nodes have two", dialed, want)
	}
}

// TestBothDial has the node whose name comes later dial first, because the other
// one does not know of it, and then the other one, too.
func TestBothDial(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	begin(t, a, b)
	connected(t, a, b)
	for range 5 {
		ra, rb := a.remote("b"), b.remote("a")
		before := ra.session.Load()
		l, err := b.connect(t.Context(), "a", a.addr, useMember)
		if !errors.Is(err, errKnown) {
			if err == nil {
				l.conn.Close()
			}
			t.Fatalf("a second connection, dialed by the other one: %v", err)
		}
		if ra.session.Load() != before {
			t.Fatal("it took the place of the first")
		}
		// And when it was the only one, that of the first name takes its place.
		before.end(errReplaced)
		eventually(t, "it has ended at both", func() bool {
			return ra.session.Load() != before && (rb.session.Load() == nil || rb.session.Load().ctx.Err() == nil)
		})
		connected(t, a, b)
	}
}

// TestLateNameDials says that a node which only the other one can reach is
// reached, too.
func TestLateNameDials(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	blocked := b.info
	r := newRelay(t, b.addr)
	r.freeze(true)
	blocked.Stream = r.addr()
	a.members.set(a.info, blocked)
	b.members.set(a.info, b.info)
	for _, n := range []*node{a, b} {
		if err := n.Start(n.members); err != nil {
			t.Fatal(err)
		}
	}
	connected(t, a, b)
	if c := b.Stats().Connections[0]; !c.Dialed {
		t.Errorf("%+v", c)
	}
}

func TestReconnects(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	r := newRelay(t, b.addr)
	b.info.Stream = r.addr()
	var ups [2]atomic.Int32
	var got inbox
	a.OnUp(func(string) { ups[0].Add(1) })
	b.OnUp(func(string) { ups[1].Add(1) })
	b.Listen("note", got.take)
	begin(t, a, b)
	connected(t, a, b)
	for i := range 4 {
		eventually(t, "both are told", func() bool { return ups[0].Load() > int32(i) && ups[1].Load() > int32(i) })
		if i == 3 {
			break
		}
		r.cut()
	}
	eventually(t, "messages arrive again", func() bool { return a.Send("b", "note", []byte("x")) == nil && len(got.all()) > 0 })
	mustContain(t, a.log.String(), "the connection to a node has ended", "again=true")
}

// TestHalfOpen has the network swallow everything, as it does when the other
// node loses power: TCP would not notice for many minutes.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	r := newRelay(t, b.addr)
	b.info.Stream = r.addr()
	b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	a.members.set(a.info, b.info)
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(b.members); err != nil {
		t.Fatal(err)
	}
	connected(t, a, b)
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), "b", "wait", nil)
		failed <- err
	}()
	began := time.Now()
	r.freeze(true)
	select {
	case err := <-failed:
		if !errors.Is(err, cluster.ErrUnreachable) || !errors.Is(err, errSilent) {
			t.Errorf("the call: %v", err)
		}
		t.Logf("noticed after %v", time.Since(began))
	case <-time.After(patience):
		t.Fatal("nobody noticed")
	}
	eventually(t, "the other side has noticed", func() bool { return !b.sees("a") })
	if err := a.Send("b", "note", nil); !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("a message: %v", err)
	}
	r.freeze(false)
	connected(t, a, b)
}

// TestIdleLives has nothing to say for longer than silence is allowed.
func TestIdleLives(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	s := a.remote("b").session.Load()
	read := s.link.conn.read.Load()
	eventually(t, "it was asked for signs of life a few times", func() bool {
		s.pinging.Load()
		return s.link.conn.read.Load() > read+150 || s.ctx.Err() != nil
	})
	if s.ctx.Err() != nil || b.remote("a").session.Load().ctx.Err() != nil {
		t.Error("the connection has ended")
	}
}

// TestRestart has a node start again at another address, and with the same name
// and key.
func TestRestart(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, "b", clusterKey)
	a := newNode(t, newIdentity(t, "a", clusterKey), nil)
	first := newNode(t, id, nil)
	r := newRelay(t, first.addr)
	first.info.Stream = r.addr()
	begin(t, a, first)
	connected(t, a, first)
	old := a.remote("b").session.Load()
	r.freeze(true) // so that a is not told that the first one ends
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := newNode(t, id, nil)
	know(a, second)
	if err := second.Start(second.members); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second one is there", func() bool {
		s := a.remote("b").session.Load()
		return second.sees("a") && s != nil && s.link.hello.Boot == second.boot
	})
	if old.ctx.Err() == nil {
		t.Error("the connection with the first one stands")
	}
}

// TestStates says when a node is dialed: as long as it is to be counted on, and
// at once when it comes back.
func TestStates(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	r := newRelay(t, b.addr)
	b.info.Stream = r.addr()
	gone := b.info
	gone.State = cluster.Dead
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(b.members); err != nil {
		t.Fatal(err)
	}
	a.members.set(a.info, gone)
	a.members.set(a.info)
	a.members.set(a.info, gone)
	if a.remote("b").dialing || r.dials() != 0 {
		t.Fatal("a dead node is dialed")
	}
	back := b.info
	back.State = cluster.Suspect
	a.members.set(a.info, back)
	connected(t, a, b)
	a.members.set(a.info, gone)
	if !a.sees("b") {
		t.Error("a connection that stands is ended by what gossip says")
	}
	r.cut()
	eventually(t, "nobody dials any more", func() bool {
		x := a.remote("b")
		return x == nil || x.session.Load() == nil && !func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.dialing }()
	})
	dials := r.dials()
	a.members.set(a.info, b.info)
	connected(t, a, b)
	if r.dials() != dials+1 {
		t.Errorf("dialed %d times", r.dials()-dials)
	}
	a.members.set(a.info)
	r.cut()
	eventually(t, "it is forgotten", func() bool { return a.remote("b") == nil })
}

// TestBacklog has a node that does not take its messages: what waits is bounded,
// calls go on, and all that was accepted arrives in order.
func TestBacklog(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	release := make(chan struct{})
	var next atomic.Int64
	var wrong atomic.Bool
	b.Listen("bulk", func(_ string, m []byte) {
		<-release
		if int64(m[0])|int64(m[1])<<8|int64(m[2])<<16 != next.Load() {
			wrong.Store(true)
		}
		next.Add(1)
	})
	b.Handle("ping", func(context.Context, string, []byte) ([]byte, error) { return []byte("pong"), nil })
	begin(t, a, b)
	connected(t, a, b)
	message := make([]byte, 10000)
	var sent int64
	for {
		message[0], message[1], message[2] = byte(sent), byte(sent>>8), byte(sent>>16)
		err := a.Send("b", "bulk", message)
		if errors.Is(err, cluster.ErrBacklog) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if waiting := a.Stats().Connections[0].Waiting; waiting > maxBacklog {
		t.Errorf("%d bytes wait", waiting)
	}
	for range 100 {
		if answer, err := a.Call(within(t), "b", "ping", nil); err != nil || string(answer) != "pong" {
			t.Fatalf("a call: %q, %v", answer, err)
		}
	}
	close(release)
	eventually(t, "all have arrived", func() bool { return next.Load() == sent })
	if wrong.Load() {
		t.Error("they came out of order")
	}
	if err := a.Send("b", "bulk", make([]byte, 20<<20)); err != nil {
		t.Errorf("one that is longer than the backlog, alone: %v", err)
	}
}

// TestSmallBesideLarge has a slow network and a long call: messages pass it.
func TestSmallBesideLarge(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	got := make(chan int, 10)
	var arriving atomic.Bool
	b.Listen("small", func(_ string, m []byte) { got <- len(m) })
	b.Handle("large", func(context.Context, string, []byte) ([]byte, error) { arriving.Store(true); return nil, nil })
	r := newRelay(t, b.addr)
	b.info.Stream = r.addr()
	begin(t, a, b)
	connected(t, a, b)
	done := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), "b", "large", make([]byte, cluster.MaxMessage))
		done <- err
	}()
	s := a.remote("b").session.Load()
	eventually(t, "the call is under way", func() bool { return s.link.conn.written.Load() > 1<<20 })
	if err := a.Send("b", "small", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-got:
		if arriving.Load() {
			t.Log("the whole request was there before") // a fast machine; nothing is shown by that
		}
	case <-time.After(patience):
		t.Fatal("the message does not arrive")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCallsEnd(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	ended := make(chan error, 1)
	began := make(chan time.Duration, 1)
	b.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		deadline, limited := ctx.Deadline()
		if !limited {
			deadline = time.Now()
		}
		began <- time.Until(deadline)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	begin(t, a, b)
	connected(t, a, b)

	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, "b", "wait", nil)
		result <- err
	}()
	if left := <-began; left > 0 {
		t.Errorf("it has %v left, and there is no limit", left)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || err.Error() != `wait of node "b": context canceled` {
		t.Errorf("a call that was given up: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("its handler: %v", err)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := a.Call(ctx, "b", "wait", nil)
	if !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*RemoteError)) {
		t.Errorf("a call whose time is up: %v", err)
	}
	if left := <-began; left <= 0 || left > 300*time.Millisecond {
		t.Errorf("its handler has %v", left)
	}
	<-ended

	go func() {
		_, err := a.Call(context.Background(), "b", "wait", nil)
		result <- err
	}()
	<-began
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, cluster.ErrUnreachable) && !errors.As(err, new(*RemoteError)) {
		t.Errorf("a call to a node that ends: %v", err)
	}
	<-ended
}

// TestTooManyCalls says that calls beyond the limit wait, and say what for.
func TestTooManyCalls(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	release := make(chan struct{})
	var under atomic.Int32
	b.Handle("wait", func(context.Context, string, []byte) ([]byte, error) { under.Add(1); <-release; return nil, nil })
	begin(t, a, b)
	connected(t, a, b)
	var wg sync.WaitGroup
	for range maxCalls {
		wg.Go(func() {
			if _, err := a.Call(within(t), "b", "wait", nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all are under way", func() bool { return under.Load() == maxCalls })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "b", "wait", nil); !errors.Is(err, cluster.ErrBacklog) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	close(release)
	wg.Wait()
}

// TestCloseFlushes says that what was sent before the end arrives.
func TestCloseFlushes(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	var got inbox
	b.Listen("note", got.take)
	begin(t, a, b)
	connected(t, a, b)
	for i := range 500 {
		if err := a.Send("b", "note", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all have arrived", func() bool { return len(got.all()) == 500 })
	if err := a.Send("b", "note", nil); !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := a.Call(t.Context(), "b", "note", nil); !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := a.Dial(t.Context(), b.addr); !errors.Is(err, errClosing) {
		t.Errorf("after the end: %v", err)
	}
	if err := a.Start(a.members); err == nil {
		t.Error("it can be started again")
	}
}

func TestRevokedIsCutOff(t *testing.T) {
	a, b := pair(t)
	a.cfg.Identity.SetRevoked([]ed25519.PublicKey{b.info.Key})
	eventually(t, "the connection has ended", func() bool { return !a.sees("b") })
	eventually(t, "it is not taken back", func() bool { return strings.Contains(a.missing("b"), "the node's key has been revoked") })
	a.cfg.Identity.SetRevoked(nil)
	connected(t, a, b)
}

// TestChurn cuts and restores connections while messages and calls go on. What
// arrives is in order, and in the end all are connected.
func TestChurn(t *testing.T) {
	const nodes = 4
	var all []*node
	var relays []*relay
	var last [nodes][nodes]atomic.Int64
	var wrong atomic.Int64
	for i := range nodes {
		n := newNode(t, newIdentity(t, fmt.Sprint(i), clusterKey), nil)
		n.Listen("count", func(from string, m []byte) {
			var k int64
			fmt.Sscan(string(m), &k)
			if x := &last[from[0]-'0'][i]; x.Swap(k) >= k {
				wrong.Add(1)
			}
		})
		n.Handle("echo", func(_ context.Context, _ string, m []byte) ([]byte, error) { return m, nil })
		r := newRelay(t, n.addr)
		n.info.Stream = r.addr()
		all, relays = append(all, n), append(relays, r)
	}
	begin(t, all...)
	connected(t, all...)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, n := range all {
		wg.Go(func() {
			for k := int64(1); ctx.Err() == nil; k++ {
				for j, to := range all {
					if j != i {
						n.Send(to.name, "count", fmt.Append(nil, k)) // it may be down
					}
				}
				if k%20 == 0 {
					n.Call(ctx, fmt.Sprint(rand.IntN(nodes)), "echo", make([]byte, rand.IntN(100000)))
				}
				runtime.Gosched()
				if k%200 == 0 { // receivers share the CPUs with senders that never end
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 15 {
		relays[rand.IntN(nodes)].cut()
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	wg.Wait()
	connected(t, all...)
	if wrong.Load() > 0 {
		t.Errorf("%d messages came out of order", wrong.Load())
	}
}
