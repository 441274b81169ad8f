package node

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// A spare is a data process that has everything mapped and verified and touches
// no ring. When the one that forwards ends, it forwards within milliseconds,
// and the rings hold what comes meanwhile. It is told of every image after the
// one that forwards has taken it, and is not waited for until the next.

// After a spare has failed, the next is not tried at once.
const (
	spareDelay    = 100 * time.Millisecond
	spareDelayMax = 10 * time.Second
)

// At most so many spares are used up in a row without a second's rest for each
// but the first: a packet that kills every process it meets is not to keep the
// machine busy with starting processes.
const sparesInARow = 20

// spareWait is how long a change waits for the spare to have taken the one
// before. One that takes longer is given up.
const spareWait = 2 * time.Second

// tendSpare sees to it that there is a spare. It never waits.
func (n *Node) tendSpare() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.spare; s != nil {
		select {
		case <-s.exited:
			n.log.Warn("the data process that stood by has ended", "pid", s.pid, "error", s.err)
			n.dropSpare()
		default:
			return
		}
	}
	if !n.cfg.Lifecycle.Standby || n.data == nil || n.sparing || time.Now().Before(n.spareNext) {
		return
	}
	if n.sparesUsed.Before(time.Now()) {
		n.sparesUsed = time.Now()
	}
	if time.Until(n.sparesUsed) > sparesInARow*time.Second {
		return
	}
	n.spareDelay = min(max(2*n.spareDelay, spareDelay), spareDelayMax)
	n.spareNext = time.Now().Add(n.spareDelay)
	n.sparing = true
	n.background.Go(n.startSpare)
}

// startSpare starts a spare and returns when it is warm or has failed.
func (n *Node) startSpare() {
	s, err := n.newSpare(thisBinary)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sparing = false
	switch {
	case err != nil:
		n.log.Warn("no data process stands by", "error", err, "again_in", n.spareDelay)
	case s != nil:
		n.spareDelay = 0
		n.log.Info("a data process stands by", "pid", s.pid, "after", time.Since(s.started).Round(time.Millisecond))
	}
}

// newSpare starts a data process, makes it the spare, and returns when it is
// warm. The process is nil when there is no more use for it.
func (n *Node) newSpare(binary string) (*dataProcess, error) {
	s, err := spawn(binary, n.user, n.log)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if n.data == nil || n.spare != nil || n.closed {
		n.mu.Unlock()
		return nil, s.kill()
	}
	e, err := n.estate()
	if err == nil {
		err = s.hand(e)
	}
	if err != nil {
		n.mu.Unlock()
		return nil, errors.Join(err, s.kill())
	}
	n.spare = s
	n.mu.Unlock()

	err = s.awaitWarm()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.spare != s {
		return nil, nil
	}
	if err != nil {
		n.dropSpare()
		return nil, err
	}
	return s, nil
}

// dropSpare ends the spare. The lock is held.
func (n *Node) dropSpare() {
	if n.spare != nil {
		n.spare.kill()
		n.spare = nil
	}
}

// standby is the process that is ready to take over, 0 when none is. The lock
// is held.
func (n *Node) standby() int {
	if n.spare == nil {
		return 0
	}
	select {
	case <-n.spare.exited:
		return 0
	case <-n.spare.warm:
		return n.spare.pid
	default:
		return 0
	}
}

// settleSpare returns when the spare reads no image any more, or is no more.
// The lock is held.
func (n *Node) settleSpare() {
	s := n.spare
	if s == nil {
		return
	}
	err := s.awaitWarm()
	timeout := time.NewTimer(spareWait)
	defer timeout.Stop()
	for err == nil && len(s.owed) > 0 {
		select {
		case a := <-s.acks:
			if a.refused != "" {
				err = errors.New(a.refused)
			}
			s.owed = s.owed[1:]
		case <-s.exited:
			err = errGone
		case <-timeout.C:
			err = fmt.Errorf("no answer within %v", spareWait)
		}
	}
	if err != nil {
		n.log.Warn("the data process that stands by does not follow; it is replaced", "pid", s.pid, "error", err)
		n.dropSpare()
	}
}

// tellSpare passes on what is in force now. The lock is held, and the spare is
// settled.
func (n *Node) tellSpare(written []fib.Range, patched bool) {
	s := n.spare
	if s == nil {
		return
	}
	generation, images := n.image.generation, n.image.images
	var err error
	if patched && s.rests {
		err = s.post(generation, ipc.KindPatch, ipc.NewPatch(generation, written))
	} else {
		s.rests = false
		err = s.post(generation, ipc.KindFIB, ipc.FIB{Generation: generation, Size: images.Size()}, images.FD())
		if err == nil && images.RestingFD() >= 0 {
			s.rests = true
			err = s.post(generation, ipc.KindFIB, ipc.FIB{Generation: generation, Size: images.Size(), Resting: true}, images.RestingFD())
		}
	}
	if err != nil {
		n.log.Warn("the data process that stands by is gone", "pid", s.pid, "error", err)
		n.dropSpare()
	}
}

// post sends a message about a generation and does not wait for the answer.
func (d *dataProcess) post(generation uint64, kind ipc.Kind, body any, fds ...int) error {
	err := d.conn.Send(kind, body, fds...)
	if err == nil {
		d.owed = append(d.owed, generation)
	}
	return err
}

// promote has the spare forward, when there is one. One that is not ready yet
// is waited for: it is further on than one that would be started now. The lock
// is held and no other process uses the rings.
func (n *Node) promote() error {
	if n.spare == nil {
		return errors.New("no data process stands by")
	}
	n.settleSpare()
	s := n.spare
	if s == nil {
		return errors.New("the data process that stood by does not answer")
	}
	n.spare = nil
	n.sparesUsed = n.sparesUsed.Add(time.Second)
	if err := s.take(); err != nil {
		return errors.Join(err, s.kill())
	}
	n.data = s
	return nil
}

// dataEnvironment is the environment of a data process: without what is meant
// for the control process alone.
func dataEnvironment(all []string) []string {
	var kept []string
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "FAIRLEAD_UPGRADE":
			continue
		}
		kept = append(kept, v)
	}
	return kept
}
