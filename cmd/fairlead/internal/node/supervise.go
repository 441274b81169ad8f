package node

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"fairlead/xdp/steer"
)

// A data process that dies is replaced at once by the one that stands by. When
// none does, one that does not live long is replaced ever more slowly, so that a
// node that cannot forward does not spend itself on trying.
const (
	livedLong       = 200 * time.Millisecond
	restartDelay    = 10 * time.Millisecond
	restartDelayMax = 2 * time.Second
)

// tickEvery is how often Run looks after what nobody tells it of.
const tickEvery = 100 * time.Millisecond

// portsEvery is how often interfaces are looked at for having been given other
// queues, which nobody tells of. What is observed of them is looked at at once.
const portsEvery = 250 * time.Millisecond

// forwarding is the data process, nil when there is none.
func (n *Node) forwarding() *dataProcess {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.data
}

// bury notes that a data process has ended, if it is the one that is to forward.
// The sockets, their rings, the frames in them and the flow table stay for its
// successor.
func (n *Node) bury(dead *dataProcess) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.data != dead {
		return
	}
	n.log.Error("data process ended; it is replaced", "pid", dead.ready.PID, "error", dead.err)
	dead.leave()
	n.data, n.died, n.diedAt = nil, true, time.Now()
	if time.Since(dead.started) > livedLong || n.spare != nil {
		n.restartDelay = 0
	}
	n.reviveNext = time.Now().Add(n.restartDelay)
}

// reviveAt is when the next data process is to be started.
func (n *Node) reviveAt() <-chan time.Time { return time.After(time.Until(n.reviveNext)) }

// revive starts the successor of a data process that has died, or that could
// not be started. It gets the same sockets when they are good: what was in the
// rings is forwarded then. Sockets of interfaces that have changed or are gone,
// and those that the last attempt failed with, are opened anew first; no flow
// is lost by that.
func (n *Node) revive() {
	n.restartDelay = min(max(2*n.restartDelay, restartDelay), restartDelayMax)
	n.reviveNext = time.Now().Add(n.restartDelay)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.promote() == nil {
		if err := n.begun(); err != nil {
			n.log.Error("packets are not steered to the data process", "error", err)
		}
		return
	}
	ports, missing := lookPorts(n.cfg)
	var err error
	if same(ports, n.ports) && n.workers != nil && !n.suspect {
		err = n.startData()
	} else {
		err = n.rebind(ports)
	}
	if err != nil {
		n.log.Error("data process does not start", "error", errors.Join(err, missing), "again_in", n.restartDelay)
	}
}

// watchdog remembers each worker's last beat, and for how long it has stood
// still. A tick that comes late counts as one that did not: then nothing on this
// machine makes progress, and whoever is killed is not the one to blame. What
// it knows of beats changes under the node's lock.
type watchdog struct {
	beats []uint64
	still []time.Duration
	last  time.Time // the last look
	ports time.Time
}

func (n *Node) newWatchdog() *watchdog {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watch = &watchdog{}
	return n.watch
}

// tick looks after what nobody tells us of: workers that are stuck, backends
// that have drained, interfaces that were made anew or changed their queues.
func (n *Node) tick(w *watchdog) {
	n.checkWorkers(w)
	n.tendSpare()
	n.tellWorking()
	if err := n.reconciler.Expire(); err != nil {
		n.log.Error("drained backends could not be removed", "error", err)
	}
	if err := n.serving.Tick(); err != nil {
		n.log.Error("how backends serve cannot take effect; it is tried again", "error", err)
	}
	n.observer.tick()
	n.announceWhileForwarding()
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
	passed := min(time.Since(w.last), 2*tickEvery)
	w.last = time.Now()
	if n.data == nil {
		w.beats = nil
		return
	}
	if len(w.beats) != len(n.counters.Workers) {
		w.beats, w.still = make([]uint64, len(n.counters.Workers)), make([]time.Duration, len(n.counters.Workers))
	}
	for i := range n.counters.Workers {
		beat := atomic.LoadUint64(&n.counters.Workers[i].Ledger.Beat)
		if beat != w.beats[i] {
			w.beats[i], w.still[i] = beat, 0
			continue
		}
		if w.still[i] += passed; w.still[i] > n.cfg.Lifecycle.StuckAfter {
			n.log.Error("worker makes no progress; its data process is killed", "worker", i, "pid", n.data.ready.PID, "beat", beat)
			n.data.signal(syscall.SIGKILL)
			w.beats = nil
			return
		}
	}
}

// idleWait is how long the node may be without a data process and still count as
// working: it is replaced meanwhile.
const idleWait = 10 * time.Second

// tellWorking tells whoever watches that the node does what it is for: this
// loop goes round, and workers do, or are about to be replaced.
func (n *Node) tellWorking() {
	if n.working == nil {
		return
	}
	n.mu.Lock()
	works := n.data != nil || time.Since(n.diedAt) < idleWait || n.portsMissing
	n.mu.Unlock()
	if works {
		n.working()
	}
}

// checkPorts rebinds everything when an interface was made anew or changed its
// number of queues. While one is gone, the others go on.
func (n *Node) checkPorts() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now, missing := lookPorts(n.cfg)
	switch {
	case missing != nil && !n.portsMissing:
		n.log.Warn("an interface is gone or unusable; the others go on", "error", missing)
	case missing == nil && n.portsMissing:
		n.log.Info("all interfaces are there")
	}
	n.portsMissing = missing != nil
	n.recheckMemos()
	changed := false
	for i := range now {
		if now[i].index == 0 || same(now[i:i+1], n.ports[i:i+1]) {
			continue
		}
		changed = true
		n.log.Info("interface has changed; its sockets are bound anew", "interface", now[i].Name,
			"index", now[i].index, "queues", now[i].queues, "queues_before", n.ports[i].queues)
	}
	if !changed {
		return
	}
	if err := n.rebind(now); err != nil {
		n.log.Error("interfaces could not be bound anew; it is tried again", "error", err)
	}
}

// rebind opens all sockets anew, for the interfaces that are there. The flow
// table and the image stay, so every flow goes on.
func (n *Node) rebind(ports []port) error {
	n.dropSpare()
	n.kept = false
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
		if n.ports[i].index != 0 && n.ports[i].index != ports[i].index {
			if err := n.steer.Detach(n.ports[i].index); err != nil && !isNotAttached(err) {
				n.log.Debug("detach from the interface that is gone", "interface", n.ports[i].Name, "error", err)
			}
		}
	}
	n.ports = ports
	if err := n.open(); err != nil {
		for _, w := range n.workers {
			w.close()
		}
		n.workers = nil
		return err
	}
	return n.startData()
}

func isNotAttached(err error) bool { return errors.Is(err, steer.ErrNotAttached) }
