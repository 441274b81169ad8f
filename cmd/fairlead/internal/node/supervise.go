package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"fairlead/xdp/steer"
)

// A data process that dies is replaced at once; one that does not live long is
// replaced ever more slowly, so that a node that cannot forward does not spend
// itself on trying.
const (
	livedLong       = 200 * time.Millisecond
	restartDelay    = 10 * time.Millisecond
	restartDelayMax = 2 * time.Second
)

// portsEvery is how often interfaces are looked at for having been made anew or
// given other queues.
const portsEvery = 250 * time.Millisecond

// stuckAfter is how long a worker may go without finishing a round. An idle
// one finishes one every 50 ms.
const stuckAfter = 3 * time.Second

// replaceData starts the successor of a data process that has died. The
// sockets, their rings, the frames in them and the flow table are the same, so
// what was in the rings is forwarded, and no flow is lost.
func (n *Node) replaceData(ctx context.Context, dead *dataProcess) error {
	n.log.Error("data process ended; it is replaced", "pid", dead.ready.PID, "error", dead.err)
	if time.Since(dead.started) > livedLong {
		n.restartDelay = 0
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(n.restartDelay):
		}
		n.restartDelay = min(max(2*n.restartDelay, restartDelay), restartDelayMax)
		n.mu.Lock()
		if n.data != dead {
			n.mu.Unlock()
			return nil // somebody else has replaced it
		}
		err := n.startData(true)
		if err == nil {
			n.restarts++
			dead.conn.Close()
		}
		n.mu.Unlock()
		if err == nil {
			return nil
		}
		n.log.Error("data process does not start", "error", err, "again_in", n.restartDelay)
	}
}

// watchdog remembers each worker's last beat.
type watchdog struct {
	beats []uint64
	since []time.Time
	ports time.Time
}

func newWatchdog() *watchdog { return &watchdog{} }

// tick looks after what nobody tells us of: workers that are stuck, backends
// that have drained, interfaces that were made anew or changed their queues.
func (n *Node) tick(w *watchdog) {
	n.checkWorkers(w)
	if err := n.reconciler.Expire(); err != nil {
		n.log.Error("drained backends could not be removed", "error", err)
	}
	n.observer.tick()
	if time.Since(w.ports) >= portsEvery {
		w.ports = time.Now()
		n.checkPorts()
	}
}

// checkWorkers kills a data process with a worker that has stopped making
// progress; it is replaced like any that dies.
func (n *Node) checkWorkers(w *watchdog) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.data == nil {
		return
	}
	if len(w.beats) != len(n.counters.Workers) {
		w.beats, w.since = make([]uint64, len(n.counters.Workers)), make([]time.Time, len(n.counters.Workers))
	}
	for i := range n.counters.Workers {
		beat := atomic.LoadUint64(&n.counters.Workers[i].Ledger.Beat)
		if beat != w.beats[i] || w.since[i].IsZero() {
			w.beats[i], w.since[i] = beat, time.Now()
			continue
		}
		if time.Since(w.since[i]) > stuckAfter {
			n.log.Error("worker makes no progress; its data process is killed", "worker", i, "pid", n.data.ready.PID, "beat", beat)
			n.data.cmd.Process.Kill()
			w.beats = nil
			return
		}
	}
}

// checkPorts rebinds everything when an interface was made anew or changed its
// number of queues. While one is gone, the others go on.
func (n *Node) checkPorts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, err := lookPorts(n.cfg)
	if err != nil {
		if !n.portsMissing {
			n.log.Warn("an interface is gone or unusable; the others go on", "error", err)
		}
		n.portsMissing = true
		return
	}
	if n.portsMissing {
		n.log.Info("all interfaces are there")
		n.portsMissing = false
	}
	changed := false
	for i := range now {
		if now[i].index != n.ports[i].index || now[i].queues != n.ports[i].queues {
			n.log.Info("interface has changed; its sockets are bound anew", "interface", now[i].Name,
				"index", now[i].index, "queues", now[i].queues, "queues_before", n.ports[i].queues)
			changed = true
		}
	}
	if !changed {
		return
	}
	if err := n.rebind(now); err != nil {
		n.log.Error("interfaces could not be bound anew; it is tried again", "error", err)
	}
}

// rebind opens all sockets anew for changed interfaces. The flow table and the
// image stay, so every flow goes on.
func (n *Node) rebind(ports []port) error {
	if n.data != nil {
		n.data.stop()
		n.data = nil
	}
	for _, w := range n.workers {
		if err := w.close(); err != nil {
			n.log.Warn("close sockets", "error", err)
		}
	}
	n.workers = nil
	for i := range n.ports {
		if n.ports[i].index != ports[i].index {
			if err := n.steer.Detach(n.ports[i].index); err != nil && !isNotAttached(err) {
				n.log.Debug("detach from the interface that is gone", "interface", n.ports[i].Name, "error", err)
			}
		}
	}
	old := n.ports
	n.ports = ports
	if err := n.open(); err != nil {
		for _, w := range n.workers {
			w.close()
		}
		n.workers, n.ports = nil, old
		return err
	}
	return n.startData(false)
}

func isNotAttached(err error) bool { return errors.Is(err, steer.ErrNotAttached) }
