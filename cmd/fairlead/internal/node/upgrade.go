package node

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// ErrUpgrading is the error of an upgrade while another one is under way.
var ErrUpgrading = errors.New("an upgrade is under way already")

// Forwarder is the process that forwards, 0 when none does, and the version of
// its binary.
func (n *Node) Forwarder() (pid int, version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.data == nil {
		return 0, ""
	}
	return n.data.pid, n.data.ready.Version
}

// UpgradeData replaces the data process by one of the given binary. The new one
// has everything mapped and verified before the old one stops, at the end of a
// batch, and goes on with the frame after; the rings hold what comes meanwhile.
// When the new one does not come up, the old one goes on, and the error says
// why.
func (n *Node) UpgradeData(binary string) error {
	if !n.upgrading.TryLock() {
		return ErrUpgrading
	}
	defer n.upgrading.Unlock()
	if err := n.replaceSpare(binary); err != nil {
		return fmt.Errorf("the data process is not replaced and goes on: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sparing = false
	n.settleSpare()
	if n.data == nil || n.spare == nil {
		return errors.New("the data process is not replaced: one of the two has ended meanwhile")
	}
	old, begin := n.data, time.Now()
	if err := old.yield(); err != nil {
		n.log.Error("the data process does not yield; it is killed", "pid", old.pid, "error", err)
		old.signal(syscall.SIGKILL)
		<-old.exited
	}
	n.data = nil
	n.background.Go(func() { old.finish() })
	if err := n.promote(); err != nil {
		n.log.Error("the new data process does not forward; it is replaced by one of this process's binary", "error", err)
		if err := n.startData(); err != nil {
			n.died, n.reviveNext = true, time.Now() // Run goes on trying
			return err
		}
		return fmt.Errorf("the new data process does not forward, one of the old binary does: %w", err)
	}
	n.upgrades++
	n.log.Info("data process upgraded", "pid", n.data.pid, "before", old.pid, "version", n.data.ready.Version, "pause", time.Since(begin))
	return n.begun()
}

// replaceSpare has a process of the given binary stand by, in the place of any
// other. When it returns without an error, no other is started before sparing
// is false again.
func (n *Node) replaceSpare(binary string) error {
	for {
		n.mu.Lock()
		if !n.sparing {
			break
		}
		n.mu.Unlock()
		time.Sleep(time.Millisecond) // the one that is being started is ready soon, or fails
	}
	n.sparing = true
	n.dropSpare()
	n.mu.Unlock()
	spare, err := n.newSpare(binary)
	if err == nil && spare == nil {
		err = errors.New("the node is ending, or no data process forwards")
	}
	if err != nil {
		n.mu.Lock()
		n.sparing = false
		n.mu.Unlock()
	}
	return err
}

// finish returns when a process that has yielded is gone.
func (d *dataProcess) finish() {
	select {
	case <-d.exited:
	case <-time.After(stopWait):
		d.signal(syscall.SIGKILL)
		<-d.exited
	}
	d.leave()
}
