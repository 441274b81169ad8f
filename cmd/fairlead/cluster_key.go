package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cluster/identity"
	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newClusterKey() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Make a cluster's key, show which keys gossip is encrypted with, or change them",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKeyGenerate(), newKeyList(), newKeyRotate())
	return c
}

func newKeyGenerate() *cobra.Command {
	c := &cobra.Command{
		Use:   "generate [FILE]",
		Short: "Make the key of a new cluster",
		Long: `Make the key of a new cluster: 32 random bytes in base64, in a file that its owner
alone can read. Every node of the cluster gets a copy, which [cluster] key_file names.
Who has it can be a member. A file that is there is not overwritten. No node is needed
for it.

Without FILE the key goes to the standard output.`,
		Example: `  fairlead cluster key generate /etc/fairlead/cluster.key`,
		Args:    cobra.MaximumNArgs(1),
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		key := identity.Generate()
		if len(args) == 0 {
			_, err := fmt.Fprintln(os.Stdout, key.String())
			return err
		}
		return writeNewFile(args[0], key.String()+"\n")
	}
	return c
}

// writeNewFile writes a file that nobody but its owner can read. It replaces none.
func writeNewFile(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and may be in use; it is left as it is", path)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	if _, err = f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

func newKeyList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the fingerprints of the keys that gossip is encrypted with, and which members have them",
		Long: `Show the fingerprints of the keys that gossip is encrypted with, and which members
have them. USED BY are those that encrypt with a key; all others of a member are only
to read with. Between two rotations there is one key. Keys themselves are never shown.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		return answer(node, askWithin, out, (*api.Client).ClusterKeys, func(w io.Writer, k *api.ClusterKeys) error {
			return writeKeys(w, out, k)
		})
	}
	return c
}

func writeKeys(out io.Writer, o *output.Options, k *api.ClusterKeys) error {
	t := o.Table("FINGERPRINT", "USED BY", "KNOWN TO")
	for _, key := range k.Keys {
		t.Row(key.Fingerprint, strings.Join(key.Primary, ", "), strings.Join(key.Nodes, ", "))
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	return writeUnanswered(out, k.Unanswered)
}

// rotateWithin is how long all members may take over another key.
const rotateWithin = 3 * time.Minute

func newKeyRotate() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Have all members encrypt gossip with another key",
		Long: `Have all members encrypt gossip with a new, random key: it is given to all of them,
then all encrypt with it, then the old one is removed. Members have a common key all
the time. One that does not live gets the new key when it returns. A rotation that did
not come to its end is gone on with by the next, on any node.

The cluster key in [cluster] key_file stays what it is: it vouches for the nodes.

The exit status is 1 when a member that lives does not have the key yet.`,
		Args: cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		r, err := answered(node, rotateWithin, out, (*api.Client).RotateClusterKey, func(w io.Writer, r *api.ClusterKeyRotation) error {
			return writeRotation(w, out, r)
		})
		if err == nil && !r.Complete {
			err = exitWith(exitFailed, nil)
		}
		return err
	}
	return c
}

func writeRotation(out io.Writer, o *output.Options, r *api.ClusterKeyRotation) error {
	if r.Complete {
		fmt.Fprintf(out, "gossip is encrypted with %s\n", r.Fingerprint)
	} else {
		fmt.Fprintln(out, "the rotation is not at its end, and the keys of before hold; rotate again to go on")
	}
	t := o.Table("NODE", "STATE", "ERROR")
	for _, n := range r.Nodes {
		t.Row(n.Node, n.State, n.Error)
	}
	return t.Flush(out)
}
