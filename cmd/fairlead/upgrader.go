package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/succession"
	"fairlead/controlplane/api"
)

// answerGrace is how long the answer to who asked for an upgrade may take to be
// sent, before the API it is sent by is closed.
const answerGrace = 200 * time.Millisecond

// upgrader replaces the node's processes by those of the binary that is at the
// path now from which this process was started.
type upgrader struct {
	node *node.Node
	log  *slog.Logger

	mu        sync.Mutex
	underWay  bool
	successor int
	failed    string
	begun     chan *succession.Heir // who is to take over from this process
}

func newUpgrader(n *node.Node, log *slog.Logger, failed string) *upgrader {
	return &upgrader{node: n, log: log, failed: failed, begun: make(chan *succession.Heir, 1)}
}

// Processes implements api.Upgrader.
func (u *upgrader) Processes(context.Context) api.Processes {
	p := api.Processes{Control: os.Getpid(), ControlVersion: node.Version}
	p.Data, p.DataVersion = u.node.Forwarder()
	u.mu.Lock()
	defer u.mu.Unlock()
	p.Successor, p.UnderWay, p.Failed = u.successor, u.underWay, u.failed
	return p
}

// Upgrade implements api.Upgrader.
func (u *upgrader) Upgrade(ctx context.Context, dataOnly bool) (api.Processes, error) {
	u.mu.Lock()
	if u.underWay {
		u.mu.Unlock()
		return api.Processes{}, node.ErrUpgrading
	}
	u.underWay = true
	u.mu.Unlock()
	binary, err := succession.Command()
	switch {
	case err != nil:
	case dataOnly:
		err = u.node.UpgradeData(binary)
	default:
		var heir *succession.Heir
		if heir, err = succession.Start(binary); err == nil {
			u.mu.Lock()
			u.successor = heir.PID
			u.mu.Unlock()
			u.log.Info("the next control process is prepared", "pid", heir.PID, "binary", binary)
			go func() {
				wait, cancel := context.WithTimeout(ctx, answerGrace)
				defer cancel()
				<-wait.Done()
				time.Sleep(answerGrace)
				u.begun <- heir
			}()
			return u.Processes(ctx), nil
		}
		err = fmt.Errorf("the control process is not replaced and goes on: %w", err)
	}
	u.end(err)
	return u.Processes(ctx), err
}

// Renew replaces the data process by one of this process's binary, once this
// process has succeeded another one.
func (u *upgrader) Renew() {
	u.mu.Lock()
	u.underWay = true
	u.mu.Unlock()
	u.end(u.node.UpgradeData(node.OwnBinary))
}

// end notes how an upgrade went.
func (u *upgrader) end(err error) {
	if err != nil {
		u.log.Error("upgrade failed", "error", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.underWay, u.failed = false, ""
	if err != nil {
		u.failed = err.Error()
	}
}

// succeededError ends the parts of this process, which another one is to
// succeed.
type succeededError struct{ heir *succession.Heir }

func (e *succeededError) Error() string {
	return fmt.Sprintf("process %d is to take over", e.heir.PID)
}

// watch upgrades on each signal, and ends when a process is prepared to take
// over.
func (u *upgrader) watch(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case heir := <-u.begun:
			return &succeededError{heir}
		case <-signals:
			go u.Upgrade(ctx, false) // which logs what it fails with
		}
	}
}

// giveWay has the heir take over the node that this process has left. On an
// error it has not, is gone, and this process is to go on.
func giveWay(heir *succession.Heir, left []byte) error {
	err := heir.Go(left)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("the next control process (pid %d) does not take over; this one goes on: %w", heir.PID, err), heir.End())
}
