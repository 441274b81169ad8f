package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newClusterRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke NODE",
		Short: "Have no node take a member's key any more",
		Long: `Have no node take the key any more that a member has now: for a machine that was
stolen, or is not to come back. Its connections with the other nodes end, nothing that
it signs is taken, and what it has declared stays. It is asked of another node than the
one whose key it is, and NODE need not live.

It can still read gossip until "fairlead cluster key rotate" has been run. If it had
the cluster key itself, that has to be changed as well.

The machine is let in again under its name with another key: remove cluster/node.pem
from its state directory.`,
		Example: `  fairlead cluster revoke lb3 --reason "disk replaced and not wiped"`,
		Args:    cobra.ExactArgs(1),
	}
	reason := c.Flags().String("reason", "", "why, for people")
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		revoke := func(c *api.Client, ctx context.Context) (*api.RevokedKey, error) {
			return c.RevokeMember(ctx, args[0], *reason)
		}
		return answer(node, askWithin, out, revoke, func(w io.Writer, k *api.RevokedKey) error {
			_, err := fmt.Fprintf(w, "key %s of %s is revoked\n", k.Fingerprint, k.Node)
			return err
		})
	}
	return c
}

func newClusterRevoked() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoked",
		Short: "List the keys of nodes that the cluster takes no more",
		Args:  cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		return answer(node, askWithin, out, (*api.Client).RevokedKeys, func(w io.Writer, k *api.RevokedKeys) error {
			return writeRevoked(w, out, k.Keys, time.Now())
		})
	}
	return c
}

func writeRevoked(out io.Writer, o *output.Options, keys []api.RevokedKey, now time.Time) error {
	t := o.Table("NODE", "KEY", "SINCE", "BY", "REASON")
	for _, k := range keys {
		t.Row(k.Node, k.Fingerprint, output.Age(k.Since, now), k.By, k.Reason)
	}
	return t.Flush(out)
}

func newClusterRestore() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore NODE|KEY",
		Short: "Have a revoked key taken again",
		Long: `Have a revoked key taken again. It is named by its fingerprint, as "fairlead cluster
revoked" lists it, or by the node when one key of that is revoked.`,
		Args: cobra.ExactArgs(1),
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		restore := func(c *api.Client, ctx context.Context) (*api.RevokedKey, error) { return c.RestoreKey(ctx, args[0]) }
		return answer(node, askWithin, out, restore, func(w io.Writer, k *api.RevokedKey) error {
			_, err := fmt.Fprintf(w, "key %s of %s is taken again\n", k.Fingerprint, k.Node)
			return err
		})
	}
	return c
}
