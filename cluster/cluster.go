// Package cluster is what the rooms of the cluster know of each other: who is in
// it, what all share, and how one node speaks to another. The rooms below it
// take these interfaces and are made of them by whoever wires a node.
package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"time"
)

// State is what a node takes another for.
type State string

// The states of a member.
const (
	Alive   State = "alive"
	Suspect State = "suspect" // has not answered, and may yet refute it
	Dead    State = "dead"    // has not answered for too long
	Left    State = "left"    // has said that it goes
)

// Serves reports whether a node in this state is to be counted on.
func (s State) Serves() bool { return s == Alive || s == Suspect }

// Node is a member as this node knows it.
type Node struct {
	Name     string            // unique in the cluster
	Key      ed25519.PublicKey // what it signs with
	Gossip   netip.AddrPort
	Stream   netip.AddrPort // where it takes streams of peers
	Software string         // version of its binary
	WireMin  int            // oldest version of our messages that it reads
	WireMax  int            // newest
	Started  time.Time      // of its process, by its own clock
	State    State
	Leaving  bool      // it has said that it is about to leave: it still works, and is to be given nothing more
	Changed  time.Time // when this node saw the state change
}

// Topic says who a message is for.
type Topic string

// MaxGossip is the longest message that is gossiped, in bytes: it shares a
// datagram of 1,400 with what surrounds it.
const MaxGossip = 1100

// MaxMessage is the longest message between two peers, in bytes.
const MaxMessage = 32 << 20

// Members is who is in the cluster.
type Members interface {
	// Self is this node.
	Self() Node
	// All are all members that are known, this node among them, by name. Dead
	// ones are kept for a while.
	All() []Node
	// Watch has f called with All after each change, in order, one call at a
	// time, beginning with what is now. f is not to block.
	Watch(f func([]Node)) (stop func())
	// Broadcast gossips a message to all others, best effort, at most MaxGossip
	// bytes. Who receives it knows that a holder of the gossip key sent it and no
	// more than that: the message has to prove the rest itself.
	Broadcast(topic Topic, message []byte) error
	// Receive has f called with messages of a topic. It is called before the node
	// joins. f is not to block, nor to keep the message.
	Receive(topic Topic, f func(message []byte))
}

// Errors of Peers.
var (
	// ErrUnreachable says that there is no connection to the node.
	ErrUnreachable = errors.New("no connection to the node")
	// ErrBacklog says that too much waits to be sent to the node already.
	ErrBacklog = errors.New("too much waits to be sent to the node")
	// ErrNoHandler says that the node knows no such topic: its software is older.
	ErrNoHandler = errors.New("the node does not know this kind of request")
)

// Peers is how nodes speak to each other: by connections that are encrypted and
// on which both sides have proved who they are. Messages have at most MaxMessage
// bytes.
type Peers interface {
	// Call sends a request and waits for the answer. An error of the other
	// side's handler comes back with its text.
	Call(ctx context.Context, node string, topic Topic, request []byte) ([]byte, error)
	// Handle answers requests of a topic; from is the name that the peer has
	// proved. It is called before the node joins. Calls come concurrently.
	Handle(topic Topic, f func(ctx context.Context, from string, request []byte) ([]byte, error))
	// Send queues a message that nobody answers. Those of one topic to one node
	// arrive in order for as long as the connection stands; when it breaks, what
	// has not arrived is lost, and OnUp tells when there is another one.
	Send(node string, topic Topic, message []byte) error
	// Listen has f called with such messages, those of one peer one at a time. It
	// is called before the node joins.
	Listen(topic Topic, f func(from string, message []byte))
	// OnUp has f called whenever a connection to a node stands, the first time
	// too. It is called before the node joins.
	OnUp(f func(node string))
}

// Entry is one thing that all nodes share.
type Entry struct {
	Key     string
	Value   []byte
	Writer  string // the node that wrote it, which its signature proves
	Version Version
	Deleted bool // a tombstone: there is nothing under the key any more
}

// Version orders what is written under one key: the greater one holds. It is the
// time of a hybrid logical clock (Kulkarni et al., 2014) and, where two are equal,
// the writer's name.
type Version struct {
	Wall    int64 // milliseconds since 1970
	Counter uint32
	Writer  string
}

// Compare is negative when v comes before w, positive when after.
func (v Version) Compare(w Version) int {
	switch {
	case v.Wall != w.Wall:
		if v.Wall < w.Wall {
			return -1
		}
		return 1
	case v.Counter != w.Counter:
		if v.Counter < w.Counter {
			return -1
		}
		return 1
	case v.Writer < w.Writer:
		return -1
	case v.Writer > w.Writer:
		return 1
	}
	return 0
}

// Prefixes of keys.
//
// What lies under NodePrefix+"<name>/" or LivePrefix+"<name>/" is written by that
// node alone; an entry of another writer is refused by everyone. What lies under
// LivePrefix is not kept on disk, and goes some time after its node has died.
// Under all other keys the last writer wins.
const (
	NodePrefix    = "node/"
	LivePrefix    = "live/"
	DesiredPrefix = "desired/" // + source: what the source declares, see cluster/apply
	SettingPrefix = "setting/" // + pool/backend: what operators have set of backends
	DrainPrefix   = "drain/"   // + node: it is drained
	BasePrefix    = "base/"    // + pool: what flows that nobody knows are sent by, see cluster/flows
)

// Store is what all nodes share. An entry is signed by its writer, reaches every
// node, and survives restarts.
type Store interface {
	// Put writes an entry. It is in force here when Put returns, and reaches the
	// others by itself.
	Put(key string, value []byte) error
	// Delete leaves a tombstone; of a key that is not there it does nothing.
	Delete(key string) error
	// Get is the entry of a key that is there and not deleted.
	Get(key string) (Entry, bool)
	// List are the entries below a prefix that are not deleted, by key.
	List(prefix string) []Entry
	// Watch has f called with all entries below a prefix that are there, and then
	// with those that change, tombstones among them, in order, one call at a
	// time. f is not to block.
	Watch(prefix string, f func([]Entry)) (stop func())
	// Synced is closed when the store has compared itself with another node since
	// the start, or has found that there is none.
	Synced() <-chan struct{}
}
