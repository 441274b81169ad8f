package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
)

// TestStrangers has nodes dial that are not to be let in. None of them gets as
// far as a handler, and both sides say why.
func TestStrangers(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	var asked atomic.Int32
	for _, n := range []*node{a, b} {
		n.Handle("x", func(context.Context, string, []byte) ([]byte, error) { asked.Add(1); return nil, nil })
		n.Listen("x", func(string, []byte) { asked.Add(1) })
	}
	begin(t, a, b)
	connected(t, a, b)
	for _, c := range []struct {
		name   string
		id     *identity.Identity
		change func(*Config)
		is     error
		caller string // what it is told
		log    string // what a says
	}{
		{"another cluster", newIdentity(t, "c", identity.Generate()), nil, identity.ErrNotAdmitted,
			`not admitted to this cluster: the cluster key does not vouch for the certificate of "a"`, "bad certificate"},
		{"a newer version", newIdentity(t, "c", clusterKey), func(c *Config) { c.WireMin, c.WireMax = 2, 3 }, ErrVersion,
			`node "a" refuses: no version of the protocol that both nodes speak: node "c" speaks 2 to 3, node "a" 1 to 1`,
			`node \"c\" is refused: no version of the protocol that both nodes speak: node \"c\" speaks 2 to 3, node \"a\" 1 to 1`},
		{"this node's name", newIdentity(t, "a", clusterKey), nil, ErrNameTaken,
			`node "a" refuses: the name is this node's, whose key is another one: every node needs a name of its own`, `node \"a\" is refused`},
		{"this node's name and key", a.cfg.Identity, nil, ErrNameTaken,
			`node "a" refuses: the name is this node's, and so is the key: the state directory has been copied; remove it on one of the two`, `the state directory has been copied`},
		{"a member's name", newIdentity(t, "b", clusterKey), nil, ErrNameTaken,
			`node "a" refuses: the name is that of a node with another key, which is up: every node needs a name of its own; if that node has been made anew, this passes when the old one is taken for dead`, `node \"b\" is refused`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.sayAgain()
			n := newNode(t, c.id, c.change)
			l, err := n.connect(within(t), "a", a.addr, useMember)
			if err == nil {
				l.conn.Close()
				t.Fatal("it is let in")
			}
			if !errors.Is(err, c.is) || err.Error() != c.caller {
				t.Errorf("it is told\n%v, want\n%s", err, c.caller)
			}
			eventually(t, "the other side has said it", func() bool { return strings.Contains(a.log.String(), c.log) })
		})
	}
	if _, err := a.connect(within(t), "a", a.addr, useMember); !errors.Is(err, ErrSelf) || err.Error() != `node "a" refuses: it is this node itself` {
		t.Errorf("itself: %v", err)
	}
	if _, err := b.connect(within(t), "c", a.addr, useMember); !errors.As(err, new(*identity.WrongNodeError)) || err.Error() != `node "a" is there in place of node "c"` {
		t.Errorf("another one was to be there: %v", err)
	}
	if asked.Load() != 0 {
		t.Error("a stranger has been answered")
	}
	r := a.Stats().Refused
	if r["version"] != 1 || r["taken"] != 3 || r["handshake"] < 1 || r["self"] != 1 {
		t.Errorf("counted: %v", r)
	}
	if !a.sees("b") || !b.sees("a") {
		t.Error("the connection of those that belong here has ended")
	}
}

// TestOtherKeyOfMember says that a node is not taken for a member whose key,
// as members know it, is another one.
func TestOtherKeyOfMember(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	impostor := newNode(t, newIdentity(t, "b", clusterKey), nil)
	moved := b.info
	moved.Stream = impostor.addr
	a.members.set(a.info, moved)
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	if err := impostor.Start(impostor.members); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is noticed", func() bool {
		return strings.Contains(a.missing("b"), "the node there has another key than the member \"b\"")
	})
	// The member is a new one now, and the connection follows.
	a.members.set(a.info, impostor.info)
	impostor.members.set(a.info, impostor.info)
	connected(t, a, impostor)
	if err := b.Start(b.members); err != nil {
		t.Fatal(err)
	}
	a.members.set(a.info, b.info)
	eventually(t, "the connection with the one before has ended", func() bool {
		s := a.remote("b").session.Load()
		return s != nil && s.link.key.Equal(b.info.Key)
	})
}

// TestClusterKeyChanges has nodes that are one round apart in a change of the
// cluster key, and more than that.
func TestClusterKeyChanges(t *testing.T) {
	k1, k2 := identity.Generate(), identity.Generate()
	var nodes []*node
	for i, keys := range [][]identity.ClusterKey{{k1}, {k1, k2}, {k2, k1}, {k2}} {
		id, err := identity.New(string(rune('a'+i)), keys...)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, newNode(t, id, nil))
	}
	begin(t, nodes...)
	for i := range nodes[1:] {
		connected(t, nodes[i], nodes[i+1])
	}
	a, d := nodes[0], nodes[3]
	eventually(t, "who has the old key alone and who has the new one alone refuse each other", func() bool {
		return strings.Contains(a.missing("d"), `not admitted to this cluster: the cluster key does not vouch for the certificate of "d"`)
	})
	if a.sees("d") || d.sees("a") {
		t.Error("they are connected")
	}
}

// TestVisit has a node ask another one that does not know it.
func TestVisit(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	twin := newNode(t, newIdentity(t, "a", clusterKey), nil)
	var up atomic.Int32
	a.OnUp(func(string) { up.Add(1) })
	a.Handle("keys", func(_ context.Context, from string, request []byte) ([]byte, error) {
		return append([]byte(from+" asks for "), request...), nil
	})
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{b, twin} { // neither is started
		v, err := n.Dial(within(t), a.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if v.Node() != "a" || !v.Key().Equal(a.info.Key) {
			t.Errorf("it is %q", v.Node())
		}
		if answer, err := v.Call(within(t), "keys", []byte("all")); err != nil || string(answer) != n.name+" asks for all" {
			t.Errorf("%q, %v", answer, err)
		}
		if _, err := v.Call(within(t), "keys", make([]byte, cluster.MaxMessage+1)); err == nil {
			t.Error("a request that is too long is sent")
		}
		if a.sees(n.name) {
			t.Error("a visitor is taken for a member")
		}
		if err := a.Send(n.name, "x", nil); !errors.Is(err, cluster.ErrUnreachable) {
			t.Errorf("a message to a visitor: %v", err)
		}
		v.Close()
		if _, err := v.Call(within(t), "keys", nil); !errors.Is(err, cluster.ErrUnreachable) {
			t.Errorf("after the end: %v", err)
		}
	}
	if up.Load() != 0 {
		t.Error("visitors are said to be up")
	}
	if _, err := a.Dial(within(t), a.addr); !errors.Is(err, ErrSelf) {
		t.Errorf("itself: %v", err)
	}
	eventually(t, "visits have ended", func() bool { a.mu.RLock(); defer a.mu.RUnlock(); return a.visits == 0 })
	// Who does nothing is sent away in time, and there are not too many of them.
	v, err := b.Dial(within(t), a.addr)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the visit is there", func() bool { a.mu.RLock(); defer a.mu.RUnlock(); return a.visits == 1 })
	a.mu.RLock()
	for s := range a.sessions {
		s.lastCall.Store(now() - int64(visitLimit) - 1)
	}
	a.mu.RUnlock()
	eventually(t, "it is sent away", func() bool { return v.s.ctx.Err() != nil })
	if _, err := v.Call(within(t), "keys", nil); !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("a call after that: %v", err)
	}
	var visits []*Visit
	defer func() {
		for _, v := range visits {
			v.Close()
		}
	}()
	for range maxVisits + 2 {
		v, err := b.Dial(within(t), a.addr)
		if err != nil {
			if !errors.Is(err, errBusy) || err.Error() != `node "a" refuses: the node has too many connections` {
				t.Errorf("one too many: %v", err)
			}
			return
		}
		visits = append(visits, v)
		eventually(t, "it is counted", func() bool { a.mu.RLock(); defer a.mu.RUnlock(); return a.visits >= len(visits) })
	}
	t.Errorf("%d visits at once", len(visits))
}

// raw connects to a node as its cluster does, and goes on by itself after the
// first handshake.
func raw(t *testing.T, n *node, id *identity.Identity) *tls.Conn {
	t.Helper()
	cfg := id.ClientTLS(n.name)
	cfg.NextProtos = []string{alpn}
	c, err := tls.Dial("tcp", n.addr.String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// refusedBy reads why a connection is refused: the code, or "" when it just ends.
func refusedBy(c io.Reader) string {
	h, err := readHello(c)
	if err != nil {
		return ""
	}
	return h.Refused
}

// TestBadHellos says things in the place of a hello that are none.
func TestBadHellos(t *testing.T) {
	t.Parallel()
	a := newNode(t, newIdentity(t, "a", clusterKey), nil)
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t, "b", clusterKey)
	encode := func(h hello) []byte {
		var b bytes.Buffer
		if err := writeHello(&b, &h); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	good := hello{Node: "b", Boot: "1", Use: useMember, WireMin: 1, WireMax: 1}
	with := func(change func(*hello)) []byte { h := good; change(&h); return encode(h) }
	for name, c := range map[string]struct {
		said    []byte
		refused string
		log     string
	}{
		"another kind of protocol": {[]byte("GET / HTTP/1.1\r\n\r\n"), "", `it begins with \"GET \", want \"FLP1\": this is no node's stream`},
		"too long":                 {[]byte("FLP1\xff\xff{"), "", "65535 bytes, want at most 2048"},
		"no JSON":                  {[]byte("FLP1\x00\x04nope"), "", "hello: invalid character"},
		"another's name":           {with(func(h *hello) { h.Node = "c" }), refusedBad, `calls itself \"c\", and its certificate is for \"b\"`},
		"no name":                  {with(func(h *hello) { h.Node = "" }), refusedBad, `calls itself \"\"`},
		"for something unknown":    {with(func(h *hello) { h.Use = "backup" }), refusedBad, `a connection for \"backup\"`},
		"no boot":                  {with(func(h *hello) { h.Boot = "" }), refusedBad, "a connection for"},
		"no versions":              {with(func(h *hello) { h.WireMin, h.WireMax = 0, 0 }), refusedVersion, "speaks 0 to 0"},
		"old versions":             {with(func(h *hello) { h.WireMin, h.WireMax = -5, 0 }), refusedVersion, "speaks -5 to 0"},
	} {
		t.Run(name, func(t *testing.T) {
			a.sayAgain()
			conn := raw(t, a, id)
			if _, err := conn.Write(c.said); err != nil {
				t.Fatal(err)
			}
			if got := refusedBy(conn); got != c.refused {
				t.Errorf("refused for %q, want %q", got, c.refused)
			}
			eventually(t, "it is said: "+c.log, func() bool { return strings.Contains(a.log.String(), c.log) })
		})
	}
	// What is not known is ignored.
	conn := raw(t, a, id)
	body, err := json.Marshal(map[string]any{"node": "b", "boot": "1", "use": "visit", "wire_min": 1, "wire_max": 9, "colour": "blue"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append([]byte{'F', 'L', 'P', '1', byte(len(body) >> 8), byte(len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	if h, err := readHello(conn); err != nil || h.Refused != "" || h.Node != "a" {
		t.Errorf("a hello with more in it: %+v, %v", h, err)
	}
	if len(a.Stats().Connections) != 0 {
		t.Errorf("%+v", a.Stats().Connections)
	}
}

// TestReplay plays what a node has said, as somebody on the way has recorded it,
// to the same node again: it is not let in.
func TestReplay(t *testing.T) {
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	var got inbox
	a.Listen("x", got.take)
	begin(t, a, b)
	connected(t, a, b)
	spy := listen(t)
	defer spy.Close()
	recorded := make(chan []byte, 1)
	go func() {
		in, err := spy.Accept()
		if err != nil {
			recorded <- nil
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", a.addr.String())
		if err != nil {
			recorded <- nil
			return
		}
		defer out.Close()
		go io.Copy(in, out)
		var all bytes.Buffer
		io.Copy(io.MultiWriter(out, &all), in)
		recorded <- all.Bytes()
	}()
	visitor := newNode(t, newIdentity(t, "c", clusterKey), nil)
	a.Handle("count", func(_ context.Context, from string, _ []byte) ([]byte, error) {
		got.take(from, []byte("counted"))
		return nil, nil
	})
	spied := netipOf(spy.Addr())
	v, err := visitor.Dial(within(t), spied)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Call(within(t), "count", nil); err != nil {
		t.Fatal(err)
	}
	v.Close()
	said := <-recorded
	if len(said) < 500 {
		t.Fatalf("%d bytes were recorded", len(said))
	}
	before := a.Stats().Refused["handshake"]
	again, err := net.Dial("tcp", a.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(said); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return a.Stats().Refused["handshake"] == before+1 })
	if n := len(got.all()); n != 1 {
		t.Errorf("the call was counted %d times", n)
	}
}

// TestSlowHandshakes has many connect and say nothing, or something every now
// and then. Nodes get in all the same, and the others are sent away.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	if err := a.Start(a.members); err != nil {
		t.Fatal(err)
	}
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	for i := range maxPendingFrom + 20 {
		c, err := net.Dial("tcp", a.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			c.Write([]byte{22, 3, 1}) // the beginning of a TLS record
		}
		slow = append(slow, c)
	}
	eventually(t, "they are waiting", func() bool { return a.Stats().Handshakes >= maxPendingFrom-1 })
	if n := a.Stats().Handshakes; n > maxPendingFrom {
		t.Errorf("%d wait", n)
	}
	v, err := b.Dial(within(t), a.addr)
	if err != nil {
		t.Fatalf("a node does not get in: %v", err)
	}
	v.Close()
	eventually(t, "all are sent away", func() bool { return a.Stats().Handshakes == 0 })
	for _, c := range slow {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("one of them is still there")
		}
	}
}

func TestGate(t *testing.T) {
	var g gate
	at := time.Unix(1000, 0)
	conn := func(address string) net.Conn { return &fakeConn{addr: address} }
	for range burstFrom {
		e := g.enter(conn("192.0.2.1:1"), at)
		if e == nil {
			t.Fatal("refused too early")
		}
		g.leave(e)
	}
	if g.enter(conn("192.0.2.1:2"), at) != nil {
		t.Error("an address may try without end")
	}
	if g.enter(conn("[2001:db8::1]:1"), at) == nil || g.enter(conn("192.0.2.2:1"), at) == nil {
		t.Error("another address is refused")
	}
	for i := range burstFrom - 1 {
		if g.enter(conn("[2001:db8::2:"+string("0123456789abcdef"[i%16])+"]:1"), at) == nil {
			t.Fatal("refused too early")
		}
	}
	if g.enter(conn("[2001:db8::3]:1"), at) != nil {
		t.Error("the addresses of one /64 are counted one by one")
	}
	if g.enter(conn("192.0.2.1:2"), at.Add(time.Second)) == nil {
		t.Error("it may never try again")
	}
	// The oldest of the same address goes; others stay.
	g = gate{}
	var first, other *fakeConn
	for i := range maxPendingFrom + 1 {
		c := &fakeConn{addr: "192.0.2.1:1"}
		if i == 0 {
			first = c
			other = &fakeConn{addr: "192.0.2.9:1"}
			g.enter(other, at)
		}
		g.enter(c, at)
	}
	if !first.closed || other.closed || g.waiting() != maxPendingFrom+1 {
		t.Errorf("first %v, other %v, %d", first.closed, other.closed, g.waiting())
	}
	for i := range 2 * maxPending {
		g.enter(conn(ipOf(i)+":1"), at)
	}
	if g.waiting() != maxPending || !other.closed {
		t.Errorf("%d wait", g.waiting())
	}
	for i := range 2 * maxSources {
		g.spend(sourceOf(conn(ipOf(i)+":1").RemoteAddr()), at)
	}
	if len(g.sources) > maxSources {
		t.Errorf("%d addresses are remembered", len(g.sources))
	}
}

func TestSaid(t *testing.T) {
	var s said
	at := time.Unix(1000, 0)
	if s.often("a", at) || !s.often("a", at.Add(59*time.Second)) || s.often("b", at) || s.often("a", at.Add(61*time.Second)) {
		t.Error("wrong")
	}
	for i := range 2 * maxSaid {
		s.often(ipOf(i), at)
	}
	if len(s.at) > maxSaid {
		t.Errorf("%d are remembered", len(s.at))
	}
	if s.often("new", at.Add(3*time.Minute)) {
		t.Error("what was said long ago is in the way")
	}
}

// TestBadStreams says what a node makes of nonsense from one that has proved who
// it is: the connection ends, and the node goes on.
func TestBadStreams(t *testing.T) {
	for name, said := range map[string][]byte{
		"a version of yamux that there is not": {9, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0},
		"a frame that is too long":             append([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff}, make([]byte, 100)...),
		"a message that is too long":           append([]byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, streamMessages, 1, 1, 0xff, 0xff, 0xff, 0xff}, 'x'),
		"a message without a topic":            {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7, streamMessages, 1, 0, 0, 0, 0, 0},
		"a request that is too long":           {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 10, streamCall, 1, 0, 0, 0, 0, 0xff, 0, 0, 0},
		"the end":                              nil,
	} {
		t.Run(name, func(t *testing.T) {
			a := newNode(t, newIdentity(t, "a", clusterKey), nil)
			if err := a.Start(a.members); err != nil {
				t.Fatal(err)
			}
			conn := raw(t, a, newIdentity(t, "b", clusterKey))
			if err := writeHello(conn, &hello{Node: "b", Boot: "1", Use: useMember, WireMin: 1, WireMax: 1}); err != nil {
				t.Fatal(err)
			}
			if h, err := readHello(conn); err != nil || h.Refused != "" {
				t.Fatalf("%+v %v", h, err)
			}
			if said == nil {
				conn.Close()
			} else if _, err := conn.Write(said); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the connection has ended", func() bool {
				return strings.Contains(a.log.String(), "the connection to a node has ended") && !a.sees("b")
			})
			b := newNode(t, newIdentity(t, "c", clusterKey), nil)
			v, err := b.Dial(within(t), a.addr)
			if err != nil {
				t.Fatalf("after that: %v", err)
			}
			v.Close()
		})
	}
}
