package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newDrain() *cobra.Command {
	c := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Take a running node, or a member of its cluster, out of service without losing connections",
		Long: `Take a running node out of service, or with NODE that member of its cluster. Routers are asked by BGP to find other ways
(the community graceful-shutdown, local preference 0); after drain_delay the VIPs
are withdrawn; what comes still is served. The node is drained when nothing has
come for a second, or after drain_wait. It stays so over restarts, until
"fairlead undrain". In a cluster other members take over its VIPs.

A member that does not run is drained when it comes back.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromNode(0, memberNames),
	}
	node, out := nodeFlag(c), output.Flags(c)
	wait := c.Flags().Bool("wait", false, "return when the node is drained")
	within := c.Flags().Duration("timeout", 10*time.Minute, "with --wait: how long to wait")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return drainMember(node, out, args[0], true, *wait, *within)
		}
		var s api.DrainState
		if err := node.ask(http.MethodPost, "/v1/drain", nil, &s); err != nil {
			return err
		}
		if *wait {
			if err := awaitDrained(node, *within, &s); err != nil {
				return err
			}
		}
		return out.Write(os.Stdout, s, func(w io.Writer) error { return writeDrain(w, &s) })
	}
	c.AddCommand(newDrainStatus())
	return c
}

func newDrainStatus() *cobra.Command {
	c := &cobra.Command{
		Use:               "status [NODE]",
		Short:             "Show whether a running node, or a member of its cluster, is in service, and how far it is out of it",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromNode(0, memberNames),
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return showMemberDrain(node, out, args[0])
		}
		var s api.DrainState
		if err := node.ask(http.MethodGet, "/v1/drain", nil, &s); err != nil {
			return err
		}
		return out.Write(os.Stdout, s, func(w io.Writer) error { return writeDrain(w, &s) })
	}
	return c
}

// awaitDrained asks until the node is drained.
func awaitDrained(node *nodeFlags, within time.Duration, s *api.DrainState) error {
	client, err := node.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(within)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for s.Phase != "drained" {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the node is not drained after %s: %s: %w", within, s.Phase, context.Cause(ctx))
		}
		if err := client.Call(ctx, http.MethodGet, "/v1/drain", nil, nil, s); err != nil {
			return err
		}
		if s.Phase == "in_service" {
			return fmt.Errorf("somebody has put the node back in service")
		}
	}
	return nil
}

func writeDrain(w io.Writer, s *api.DrainState) error {
	text := map[string]string{
		"in_service": "the node is in service",
		"leaving":    "the node leaves: routers are asked for other ways",
		"withdrawn":  "the node's VIPs are withdrawn; what comes still is served",
		"drained":    "the node is drained",
	}[s.Phase]
	if s.Since != nil {
		text += " (since " + s.Since.Local().Format(time.DateTime) + ")"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func newUndrain() *cobra.Command {
	c := &cobra.Command{
		Use:               "undrain [NODE]",
		Short:             "Put a drained node, or member of its cluster, back in service",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromNode(0, memberNames),
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return drainMember(node, out, args[0], false, false, 0)
		}
		var s api.DrainState
		if err := node.ask(http.MethodPost, "/v1/undrain", nil, &s); err != nil {
			return err
		}
		return out.Write(os.Stdout, s, func(w io.Writer) error { return writeDrain(w, &s) })
	}
	return c
}
