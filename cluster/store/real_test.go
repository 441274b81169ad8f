package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
	"fairlead/cluster/member"
	"fairlead/cluster/peer"
)

// realNode is a store with real gossip and real streams, on loopback.
type realNode struct {
	*Store
	members *member.Members
	peers   *peer.Peers
}

func openReal(t testing.TB, dir string, id *identity.Identity, log *slog.Logger, seeds ...member.Seed) *realNode {
	t.Helper()
	name := id.Name()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	local := netip.MustParseAddrPort("127.0.0.1:0")
	members, err := member.New(member.Config{
		Identity: id, Dir: filepath.Join(dir, name), Listen: local, Gossip: local, Stream: netip.MustParseAddrPort(listener.Addr().String()),
		Seeds: seeds, ProbeInterval: 200 * time.Millisecond, Software: "test", WireMin: 1, WireMax: 1, Log: log,
	})
	must(err)
	peers, err := peer.New(peer.Config{Identity: id, Listener: listener, WireMin: 1, WireMax: 1, Software: "test", Log: log})
	must(err)
	members.Attach(peers, func(ctx context.Context, at netip.AddrPort, topic cluster.Topic, request []byte) (string, []byte, error) {
		visit, err := peers.Dial(ctx, at)
		if err != nil {
			return "", nil, err
		}
		defer visit.Close()
		answer, err := visit.Call(ctx, topic, request)
		return visit.Node(), answer, err
	})
	joined := make(chan struct{})
	s, err := Open(Config{Dir: filepath.Join(dir, name, "store"), Identity: id, Members: members, Peers: peers, Joined: joined, Interval: time.Second, Log: log})
	must(err)
	must(peers.Start(members))
	must(members.Join(t.Context()))
	close(joined)
	return &realNode{s, members, peers}
}

func (n *realNode) close(t testing.TB) {
	for _, f := range []func() error{n.Store.Close, n.peers.Close, n.members.Close} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
}

func (n *realNode) seed() member.Seed {
	at := n.members.Self().Stream
	return member.Seed{Host: at.Addr().String(), Port: int(at.Port())}
}

// TestRealNodes: over real gossip and real streams.
func TestRealNodes(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, dir: t.TempDir(), log: &logged{}, key: identity.Generate(), nodes: map[string]*Store{}, ids: map[string]*identity.Identity{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	nodes := map[string]*realNode{}
	open := func(name string, seeds ...member.Seed) *realNode {
		n := openReal(t, r.dir, r.identity(name), log, seeds...)
		nodes[name], r.nodes[name] = n, n.Store
		return n
	}
	defer func() {
		for _, n := range nodes {
			n.close(t)
		}
		if t.Failed() {
			t.Log(r.log)
		}
	}()
	a := open("a")
	<-a.Synced()
	b, c := open("b", a.seed()), open("c", a.seed())
	for _, n := range nodes {
		<-n.Synced()
	}
	for i := range 300 {
		put(t, nodes[[]string{"a", "b", "c"}[i%3]], fmt.Sprintf("setting/%d", i), fmt.Sprint(i))
	}
	large := bytes.Repeat([]byte("large "), 1<<19)
	put(t, b, "desired/file", string(large))
	put(t, c, "live/c/views", "up")
	has(t, a, "desired/file", string(large))
	has(t, a, "live/c/views", "up")
	r.same()
	for name, n := range nodes {
		if st := n.Stats(); st.Gossip == 0 || st.Written != 101 && name != "a" {
			t.Errorf("nothing came to %s by gossip, or not all was written: %+v", name, st)
		}
	}

	c.close(t)
	delete(nodes, "c")
	delete(r.nodes, "c")
	put(t, a, "setting/0", "while c was away")
	remove(t, a, "setting/1")
	c = open("c", a.seed())
	<-c.Synced()
	has(t, c, "setting/0", "while c was away")
	has(t, c, "setting/1", "-")
	d := open("d", b.seed())
	<-d.Synced()
	has(t, d, "desired/file", string(large))
	put(t, d, "setting/1", "d")
	for _, n := range nodes {
		has(t, n, "setting/1", "d")
	}
	r.same()
	for name, n := range nodes {
		for reason, count := range n.Stats().Refused {
			if count > 0 && reason != Stale && reason != Gone {
				t.Errorf("%s has refused %d as %s", name, count, reason)
			}
		}
	}
}
