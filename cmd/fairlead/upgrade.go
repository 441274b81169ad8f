package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newUpgrade() *cobra.Command {
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the processes of a running node by those of the binary installed now",
		Long: `Replace the processes of a running node by those of the binary that is now at the
path that the node was started from. No packet and no connection is lost: first
the next control process takes over, then the next data process, each when it is
ready and the one before has stopped at the end of a batch. Where a new process
does not come up, the old one goes on, and the command fails and says why.

SIGUSR2 to the control process does the same. The control process has another
process number afterwards, which systemd is told.`,
		Args: cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	dataOnly := c.Flags().Bool("data-only", false, "replace the data process alone")
	wait := c.Flags().Duration("wait", 2*time.Minute, "how long it may take")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(*wait)
		defer cancel()
		before, err := client.Processes(ctx)
		if err != nil {
			return err
		}
		after, err := upgrade(ctx, client, before, *dataOnly)
		if err != nil {
			return err
		}
		return out.Write(c.OutOrStdout(), upgraded{before, after}, func(w io.Writer) error {
			fmt.Fprintf(w, "control process %d (%s) -> %d (%s)\n", before.Control, before.ControlVersion, after.Control, after.ControlVersion)
			_, err := fmt.Fprintf(w, "data process    %d (%s) -> %d (%s)\n", before.Data, before.DataVersion, after.Data, after.DataVersion)
			return err
		})
	}
	c.AddCommand(newUpgradeStatus())
	return c
}

// upgraded is what an upgrade has done, for programs.
type upgraded struct {
	Before *api.Processes `json:"before"`
	After  *api.Processes `json:"after"`
}

func newUpgradeStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the processes of a running node, and how the last upgrade went",
		Args:  cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var p api.Processes
		if err := node.ask(http.MethodGet, "/v1/upgrade", nil, &p); err != nil {
			return err
		}
		return out.Write(os.Stdout, &p, func(w io.Writer) error { return writeProcesses(w, out, &p) })
	}
	return c
}

func writeProcesses(w io.Writer, o *output.Options, p *api.Processes) error {
	pid := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	t := o.Table("PROCESS", ">PID", "VERSION")
	t.Row("control", pid(p.Control), p.ControlVersion)
	t.Row("data", pid(p.Data), p.DataVersion)
	if p.Successor != 0 {
		t.Row("successor", pid(p.Successor))
	}
	if err := t.Flush(w); err != nil {
		return err
	}
	var err error
	switch {
	case p.UnderWay:
		_, err = fmt.Fprintln(w, "an upgrade is under way")
	case p.Failed != "":
		_, err = fmt.Fprintln(w, "the last upgrade failed:", p.Failed)
	}
	return err
}

// upgrade begins an upgrade and returns when it is over.
func upgrade(ctx context.Context, client *api.Client, before *api.Processes, dataOnly bool) (*api.Processes, error) {
	begun, err := client.Upgrade(ctx, dataOnly)
	if err != nil || dataOnly {
		return begun, err
	}
	for {
		now, err := client.Processes(ctx)
		switch unreachable := (*api.UnreachableError)(nil); {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("the upgrade to process %d is not over: %w", begun.Successor, context.Cause(ctx))
		case errors.As(err, &unreachable):
		case err != nil:
			return nil, err
		case now.UnderWay:
		case now.Failed != "":
			return nil, errors.New(now.Failed)
		case now.Control == begun.Successor && now.Data != before.Data:
			return now, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
