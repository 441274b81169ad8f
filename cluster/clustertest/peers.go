package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"fairlead/cluster"
)

// maxBacklog is how many messages may wait to be sent to one node.
const maxBacklog = 1 << 16

// peers implements cluster.Peers.
type peers struct {
	node *Node

	mu       sync.Mutex
	handlers map[cluster.Topic]func(context.Context, string, []byte) ([]byte, error)
	listens  map[cluster.Topic]func(string, []byte)
	up       []func(string)
	links    map[string]*link // by the node they lead to; only those that stand
}

// link is a connection from one node to another.
type link struct {
	from, to *Node
	mu       sync.Mutex
	wake     *sync.Cond
	queue    []letter
	broken   bool
}

type letter struct {
	topic   cluster.Topic
	message []byte
}

func newPeers(n *Node) *peers {
	return &peers{
		node: n, links: map[string]*link{}, listens: map[cluster.Topic]func(string, []byte){},
		handlers: map[cluster.Topic]func(context.Context, string, []byte) ([]byte, error){},
	}
}

// look breaks the links to nodes that are out of reach and makes those to nodes
// that have come into it.
func (p *peers) look(nodes []*Node) {
	var fresh []string
	p.mu.Lock()
	for _, o := range nodes {
		if o == p.node {
			continue
		}
		l, reach := p.links[o.name], p.node.world.reach(p.node, o)
		switch {
		case l != nil && !reach:
			delete(p.links, o.name)
			l.cut()
		case l == nil && reach:
			l = &link{from: p.node, to: o}
			l.wake = sync.NewCond(&l.mu)
			p.links[o.name] = l
			if !p.node.world.run(l.run) {
				delete(p.links, o.name)
				continue
			}
			fresh = append(fresh, o.name)
		}
	}
	up := slices.Clone(p.up)
	p.mu.Unlock()
	for _, name := range fresh {
		for _, f := range up {
			p.node.world.run(func() { f(name) })
		}
	}
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.cut()
	}
}

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.queue = true, nil
	l.wake.Signal()
}

func (l *link) run() {
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.broken {
			l.wake.Wait()
		}
		if l.broken {
			l.mu.Unlock()
			return
		}
		next := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		if d := l.from.world.transit(); d > 0 {
			select {
			case <-time.After(d):
			case <-l.from.world.closing:
				return
			}
		}
		if !l.from.world.reach(l.from, l.to) {
			continue
		}
		l.to.peers.mu.Lock()
		f := l.to.peers.listens[next.topic]
		l.to.peers.mu.Unlock()
		if f != nil {
			f(l.from.name, next.message)
		}
	}
}

func (p *peers) Send(node string, topic cluster.Topic, message []byte) error {
	if len(message) > cluster.MaxMessage {
		return fmt.Errorf("a message of %d bytes: want at most %d", len(message), cluster.MaxMessage)
	}
	p.mu.Lock()
	l := p.links[node]
	p.mu.Unlock()
	if l == nil {
		return cluster.ErrUnreachable
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken:
		return cluster.ErrUnreachable
	case len(l.queue) >= maxBacklog:
		return cluster.ErrBacklog
	}
	l.queue = append(l.queue, letter{topic, slices.Clone(message)})
	l.wake.Signal()
	return nil
}

func (p *peers) Call(ctx context.Context, node string, topic cluster.Topic, request []byte) ([]byte, error) {
	w := p.node.world
	w.mu.Lock()
	o := w.nodes[node]
	w.mu.Unlock()
	if o == nil || !w.reach(p.node, o) {
		return nil, cluster.ErrUnreachable
	}
	o.peers.mu.Lock()
	f := o.peers.handlers[topic]
	o.peers.mu.Unlock()
	if f == nil {
		return nil, cluster.ErrNoHandler
	}
	type answer struct {
		message []byte
		err     error
	}
	done := make(chan answer, 1)
	request = slices.Clone(request)
	w.after(w.transit(), func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		message, err := f(ctx, p.node.name, request)
		if err != nil {
			err = errors.New(err.Error()) // only its text comes back
		}
		w.after(w.transit(), func() {
			if !w.reach(o, p.node) {
				message, err = nil, cluster.ErrUnreachable
			}
			done <- answer{message, err}
		})
	})
	select {
	case a := <-done:
		return a.message, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.closing:
		return nil, cluster.ErrUnreachable
	}
}

func (p *peers) Handle(topic cluster.Topic, f func(context.Context, string, []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[topic] = f
}

func (p *peers) Listen(topic cluster.Topic, f func(string, []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listens[topic] = f
}

// OnUp has f called for the links that stand already, too: a world is made of
// nodes that know each other.
func (p *peers) OnUp(f func(string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = append(p.up, f)
	for name := range p.links {
		p.node.world.run(func() { f(name) })
	}
}
