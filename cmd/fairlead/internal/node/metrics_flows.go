package node

import (
	"context"
	"sync"
	"time"
)

// flowsWait is how long a scrape waits for flows to be counted. With a large
// flow table that takes longer: the scrape has the count before then.
const flowsWait = time.Second

// flowGauge counts flows for scrapes.
type flowGauge struct {
	mu   sync.Mutex
	last *FlowCounts
	busy chan struct{} // closed when the count that is under way has ended; nil: none is
}

// recentFlows is the latest count of flows, nil when there is none. A count that
// it leaves under way ends by itself, at the latest with the flow table.
func (n *Node) recentFlows() *FlowCounts {
	g := &n.flowGauge
	g.mu.Lock()
	if g.busy == nil {
		g.busy = make(chan struct{})
		go n.countForMetrics(g.busy)
	}
	busy := g.busy
	g.mu.Unlock()
	timer := time.NewTimer(flowsWait)
	defer timer.Stop()
	select {
	case <-busy:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (n *Node) countForMetrics(ended chan struct{}) {
	c, err := n.FlowCounts(context.Background())
	if err != nil {
		n.log.Debug("flows cannot be counted", "error", err)
	}
	g := &n.flowGauge
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.busy = c, nil
	close(ended)
}
