package report

import (
	"bytes"
	"log/slog"
	"sync"
	"time"

	"fairlead/k8ssync/kube"
)

// Interval is the least time between two reports of a node: what changes in
// between is told together.
const Interval = 250 * time.Millisecond

// Publisher tells the other nodes the latest report of this one, not more often
// than every Interval.
type Publisher struct {
	fellows kube.Fellows
	log     *slog.Logger

	mu      sync.Mutex
	latest  []byte // nil: nothing new
	told    []byte
	wake    chan struct{}
	closing chan struct{}
	ended   chan struct{}
}

// NewPublisher begins to publish; Close ends it.
func NewPublisher(fellows kube.Fellows, log *slog.Logger) *Publisher {
	p := &Publisher{fellows: fellows, log: log, wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	go p.run()
	return p
}

// Set makes r what this node tells. It does not block.
func (p *Publisher) Set(r Report) {
	b := r.Encode()
	p.mu.Lock()
	p.latest = b
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Close ends publishing; what has been set before is told first.
func (p *Publisher) Close() {
	close(p.closing)
	<-p.ended
}

func (p *Publisher) run() {
	defer close(p.ended)
	for {
		select {
		case <-p.wake:
			p.tell()
		case <-p.closing:
			p.tell()
			return
		}
		pause := time.NewTimer(Interval)
		select {
		case <-pause.C:
		case <-p.closing:
			pause.Stop()
			p.tell()
			return
		}
	}
}

func (p *Publisher) tell() {
	p.mu.Lock()
	b := p.latest
	p.latest = nil
	p.mu.Unlock()
	if b == nil || bytes.Equal(b, p.told) {
		return
	}
	if err := p.fellows.Publish(b); err != nil {
		p.log.Warn("the other nodes are not told how far this one has come with Kubernetes", "error", err)
		p.mu.Lock()
		if p.latest == nil {
			p.latest = b
		}
		p.mu.Unlock()
		select {
		case p.wake <- struct{}{}: // after the pause, once more
		default:
		}
		return
	}
	p.told = b
}
