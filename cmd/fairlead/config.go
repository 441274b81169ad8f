package main

import (
	"os"

	"github.com/spf13/cobra"

	"fairlead/configs"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Change what is desired of a running node, and look at it",
		Long: `Change what is desired of a running node, and look at it.

What a node serves is what its sources declare together: its configuration file,
and one document that operators have sent with "fairlead config apply". Each owns
what it declares; a name of a service or pool, a listed VIP or a SNAT address
belongs to one of them. A service of one source may use a pool of another.

Every change is a version. The one in force and ten before it are kept in the
state directory, and a restart comes up with the one in force.`,
	}
	c.AddCommand(newApply(), newReload(), newConfirm(), newRollback(), newHistory(), newDiff(), newShowConfig())
	c.AddCommand(&cobra.Command{
		Use:   "reference",
		Short: "Print the reference file: every key with its meaning, limits and default",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := os.Stdout.Write(configs.Reference())
			return err
		},
	})
	return c
}
