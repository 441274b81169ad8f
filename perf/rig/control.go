package rig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead/controlplane/api"
)

// KillControl kills the control process with SIGKILL, starts the next one, and
// returns when that one answers. It demands that the data process is the same
// before and after.
func (n *Node) KillControl(ctx context.Context) error {
	before, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if err := n.Process().Kill(); err != nil {
		return err
	}
	if Ended(before.Data.PID) {
		return errors.New("the data process has ended with the control process")
	}
	if err := n.Launch(ctx); err != nil {
		return err
	}
	after, err := n.Status(ctx)
	if err != nil {
		return err
	}
	if after.Data.PID != before.Data.PID {
		return fmt.Errorf("data process %d was replaced by %d", before.Data.PID, after.Data.PID)
	}
	return nil
}

// UntilSpare returns when a data process stands by.
func (n *Node) UntilSpare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := n.Until(ctx, func(s *api.Status) bool { return s.Data.Standby > 0 }); err != nil {
		return fmt.Errorf("no data process stands by: %w", err)
	}
	return nil
}

// Upgrade replaces both processes by those of the node's binary as it is now,
// and returns when that is done.
func (n *Node) Upgrade(ctx context.Context) error {
	before, err := n.client.Processes(ctx)
	if err != nil {
		return err
	}
	begun, err := n.client.Upgrade(ctx, false)
	if err != nil {
		return err
	}
	if err := n.follow(begun.Successor); err != nil {
		return err
	}
	for {
		now, err := n.client.Processes(ctx)
		if err == nil && !now.UnderWay && now.Failed != "" {
			return fmt.Errorf("upgrade: %s", now.Failed)
		}
		if err == nil && !now.UnderWay && now.Control == begun.Successor && now.Data != before.Data {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("upgrade to process %d: %w", begun.Successor, context.Cause(ctx))
		case <-n.Process().Done():
			return fmt.Errorf("process %d has ended:\n%s", begun.Successor, n.Process().Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// UpgradeTo is an upgrade that is to fail, with the error that the node gives.
func (n *Node) UpgradeTo(ctx context.Context, dataOnly bool) error {
	begun, err := n.client.Upgrade(ctx, dataOnly)
	if err != nil {
		return err
	}
	for {
		now, err := n.client.Processes(ctx)
		if err == nil && !now.UnderWay {
			if now.Failed == "" {
				return nil
			}
			return errors.New(now.Failed)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("upgrade to process %d: %w", begun.Successor, context.Cause(ctx))
		case <-n.Process().Done():
			return fmt.Errorf("the control process has ended:\n%s", n.Process().Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// follow has a process be the node's from now on, which the present one has
// started.
func (n *Node) follow(pid int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next, err := n.process.Successor(pid)
	if err != nil {
		return err
	}
	n.process = next
	return nil
}
