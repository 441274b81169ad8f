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
