// Package clustertest is a cluster in memory: nodes with the Members, Peers and
// Store that rooms of the cluster are made of, and a network between them that
// loses, delays and parts as a test wants. It shares no code with the real ones.
package clustertest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"fairlead/cluster"
)

// World is the nodes and the network between them. All of its nodes stop at the
// end of the test.
type World struct {
	closing chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	nodes  map[string]*Node
	order  []string
	side   map[string]int // of a partition; nodes of one side reach each other
	loss   float64        // of gossip
	least  time.Duration  // a message is on its way for
	most   time.Duration
	random *rand.Rand
}

// New makes a world of running nodes that know each other. Messages arrive at
// once and none is lost.
func New(t testing.TB, names ...string) *World {
	w := &World{closing: make(chan struct{}), nodes: map[string]*Node{}, side: map[string]int{}, random: rand.New(rand.NewPCG(1, 2))}
	for _, name := range names {
		w.add(name)
	}
	t.Cleanup(w.close)
	w.membership()
	return w
}

func (w *World) add(name string) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.order)
	seed := sha256.Sum256([]byte("node " + name))
	n := &Node{world: w, name: name, alive: true}
	n.info = cluster.Node{
		Name: name, Key: ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey),
		Gossip:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 7946),
		Stream:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 7947),
		Software: "test", WireMin: 1, WireMax: 1, Started: time.Unix(1_700_000_000, 0), State: cluster.Alive, Changed: time.Unix(1_700_000_000, 0),
	}
	n.members = newMembers(n)
	n.peers = newPeers(n)
	n.store = newStore(n)
	w.nodes[name] = n
	w.order = append(w.order, name)
	return n
}

// Add has another node join.
func (w *World) Add(name string) *Node {
	n := w.add(name)
	w.membership()
	return n
}

// Node is a node by its name.
func (w *World) Node(name string) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[name]
	if n == nil {
		panic(fmt.Sprintf("clustertest: there is no node %q", name))
	}
	return n
}

// Lose has the network lose this part of what is gossiped, 0 to 1. What goes
// between peers is not lost while they reach each other.
func (w *World) Lose(part float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = part
}

// Delay has every message be on its way for a random time between these.
// Gossip overtakes; what goes between two peers does not.
func (w *World) Delay(least, most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.least, w.most = least, most
}

// Part splits the network: nodes of one group reach each other, and nodes that
// are in none form another. Nodes that do not reach each other take each other for
// dead at once.
func (w *World) Part(groups ...[]string) {
	w.mu.Lock()
	clear(w.side)
	for i, group := range groups {
		for _, name := range group {
			w.side[name] = i + 1
		}
	}
	w.mu.Unlock()
	w.membership()
}

// Heal ends a partition.
func (w *World) Heal() { w.Part() }

// Kill ends a node without a word; others take it for dead at once. Its store
// keeps what it had, as on a disk, but for what lies under cluster.LivePrefix.
func (w *World) Kill(name string) { w.set(name, false, cluster.Dead) }

// Leave is Kill, but the node has said that it goes.
func (w *World) Leave(name string) { w.set(name, false, cluster.Left) }

// Start has a node that was killed, or has left, run again.
func (w *World) Start(name string) { w.set(name, true, cluster.Alive) }

func (w *World) set(name string, alive bool, state cluster.State) {
	n := w.Node(name)
	w.mu.Lock()
	n.alive, n.info.State = alive, state
	if alive {
		n.info.Started = n.info.Started.Add(time.Second)
	}
	w.mu.Unlock()
	if !alive {
		n.store.restart()
	}
	w.membership()
}

// reach reports whether what one node sends arrives at another.
func (w *World) reach(from, to *Node) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reaches(from, to)
}

func (w *World) reaches(from, to *Node) bool {
	return from.alive && to.alive && w.side[from.name] == w.side[to.name]
}

// transit is how long a message is on its way.
func (w *World) transit() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.most <= w.least {
		return w.least
	}
	return w.least + time.Duration(w.random.Int64N(int64(w.most-w.least)))
}

func (w *World) loses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loss > 0 && w.random.Float64() < w.loss
}

// others are the nodes that a node reaches.
func (w *World) others(n *Node) (list []*Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.order {
		if o := w.nodes[name]; o != n && w.reaches(n, o) {
			list = append(list, o)
		}
	}
	return list
}

// membership tells every node who there is.
func (w *World) membership() {
	w.mu.Lock()
	nodes := make([]*Node, 0, len(w.order))
	for _, name := range w.order {
		nodes = append(nodes, w.nodes[name])
	}
	w.mu.Unlock()
	for _, n := range nodes {
		n.members.look(nodes)
	}
	for _, n := range nodes {
		n.peers.look(nodes)
	}
}

// run starts a goroutine that the world waits for. It reports false when the
// world is at its end.
func (w *World) run(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.running.Go(f)
	return true
}

// after runs f once a message has been on its way for d.
func (w *World) after(d time.Duration, f func()) {
	w.run(func() {
		if d > 0 {
			timer := time.NewTimer(d)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-w.closing:
				return
			}
		}
		f()
	})
}

func (w *World) close() {
	w.mu.Lock()
	w.closed = true
	close(w.closing)
	nodes := w.nodes
	w.mu.Unlock()
	for _, n := range nodes {
		n.peers.close()
		n.store.watchers.close()
		n.members.watchers.close()
	}
	w.running.Wait()
}

// Node is one node of a world.
type Node struct {
	world   *World
	name    string
	info    cluster.Node // guarded by the world
	alive   bool         // guarded by the world
	members *members
	peers   *peers
	store   *store
}

// Name is the node's name.
func (n *Node) Name() string { return n.name }

// Members is who the node sees.
func (n *Node) Members() cluster.Members { return n.members }

// Peers is how the node speaks to others.
func (n *Node) Peers() cluster.Peers { return n.peers }

// Store is what the node shares.
func (n *Node) Store() cluster.Store { return n.store }

// sorted gives nodes by name.
func sorted(nodes []cluster.Node) []cluster.Node {
	slices.SortFunc(nodes, func(a, b cluster.Node) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return nodes
}
