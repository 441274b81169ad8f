package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it has not come to this: %s", what)
}

// members are told by the test who is there.
type members struct {
	cluster.Members
	mu       sync.Mutex
	all      []cluster.Node
	watchers []func([]cluster.Node)
}

func (m *members) Watch(f func([]cluster.Node)) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers, f)
	f(slices.Clone(m.all))
	return func() {}
}

func (m *members) set(all ...cluster.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
	for _, f := range m.watchers {
		f(slices.Clone(all))
	}
}

// node is one of the cluster in a test.
type node struct {
	*Peers
	members *members
	addr    netip.AddrPort
	info    cluster.Node
	log     *logLines
}

type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// clusterKey is that of the tests' cluster.
var clusterKey = identity.Generate()

func newIdentity(t testing.TB, name string, key identity.ClusterKey) *identity.Identity {
	t.Helper()
	id, err := identity.New(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// listen is a listener on the loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newNode(t testing.TB, id *identity.Identity, change func(*Config)) *node {
	t.Helper()
	lines := &logLines{}
	cfg := Config{
		Identity: id, Listener: listen(t), WireMin: 1, WireMax: 1, Software: "1.0",
		Log: slog.New(slog.NewTextHandler(lines, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{Peers: p, members: &members{}, log: lines}
	n.addr = netip.MustParseAddrPort(cfg.Listener.Addr().String())
	n.info = cluster.Node{Name: id.Name(), Key: id.PublicKey(), Stream: n.addr, State: cluster.Alive, Started: time.Now()}
	return n
}

// begin starts nodes that know each other.
func begin(t testing.TB, nodes ...*node) {
	t.Helper()
	know(nodes...)
	for _, n := range nodes {
		if err := n.Start(n.members); err != nil {
			t.Fatal(err)
		}
	}
}

func know(nodes ...*node) {
	var all []cluster.Node
	for _, n := range nodes {
		all = append(all, n.info)
	}
	for _, n := range nodes {
		n.members.set(all...)
	}
}

func (n *node) sees(name string) bool {
	return slices.ContainsFunc(n.Stats().Connections, func(c Connection) bool { return c.Node == name })
}

func (n *node) missing(name string) string {
	for _, m := range n.Stats().Missing {
		if m.Node == name {
			return m.Reason
		}
	}
	return ""
}

func connected(t *testing.T, nodes ...*node) {
	t.Helper()
	eventually(t, "all see each other", func() bool {
		for _, a := range nodes {
			for _, b := range nodes {
				if a != b && !a.sees(b.name) {
					return false
				}
			}
		}
		return true
	})
}

// pair are two connected nodes.
func pair(t *testing.T) (*node, *node) {
	t.Helper()
	a, b := newNode(t, newIdentity(t, "a", clusterKey), nil), newNode(t, newIdentity(t, "b", clusterKey), nil)
	begin(t, a, b)
	connected(t, a, b)
	return a, b
}

// inbox keeps what a node receives.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (i *inbox) take(from string, message []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, from+": "+string(message))
}

func (i *inbox) all() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.got)
}

// relay is a network between two nodes that can be cut and can swallow.
type relay struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	wake     *sync.Cond
	frozen   bool // nothing passes, and nothing is closed
	closed   bool
	conns    []net.Conn
	wg       sync.WaitGroup
	dialed   int
}

func newRelay(t testing.TB, to netip.AddrPort) *relay {
	t.Helper()
	r := &relay{listener: listen(t), to: to.String()}
	r.wake = sync.NewCond(&r.mu)
	r.wg.Go(r.run)
	t.Cleanup(func() {
		r.listener.Close()
		r.mu.Lock()
		r.closed = true
		r.wake.Broadcast()
		r.mu.Unlock()
		r.cut()
		r.wg.Wait()
	})
	return r
}

func (r *relay) addr() netip.AddrPort { return netip.MustParseAddrPort(r.listener.Addr().String()) }

func (r *relay) run() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		r.dialed++
		r.conns = append(r.conns, in, out)
		r.mu.Unlock()
		r.wg.Go(func() { r.copy(in, out) })
		r.wg.Go(func() { r.copy(out, in) })
	}
}

func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.frozen && !r.closed {
			r.wake.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (r *relay) freeze(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = yes
	r.wake.Broadcast()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *relay) dials() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dialed
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in %q", p, text)
		}
	}
}

func numbered(from string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s: %d", from, i))
	}
	return out
}

func netipOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

func ipOf(i int) string { return fmt.Sprintf("198.18.%d.%d", i>>8&255, i&255) }

// fakeConn is a connection that has an address and can be closed.
type fakeConn struct {
	net.Conn
	addr   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.addr))
}
func (c *fakeConn) Close() error { c.closed = true; return nil }

// sayAgain has the node log what it has logged in the last minute already.
func (n *node) sayAgain() {
	n.said.mu.Lock()
	defer n.said.mu.Unlock()
	n.said.at = nil
}
