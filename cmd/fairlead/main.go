// Fairlead is an L4 load balancer on AF_XDP.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	err := execute(newRoot())
	if own, is := errors.AsType[*exitError](err); err != nil && !(is && own.err == nil) {
		fmt.Fprintln(os.Stderr, "fairlead:", err)
	}
	os.Exit(exitCode(err))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "L4 load balancer on AF_XDP",
		Long: `Fairlead owns virtual IPs and spreads their connections over backends, packet
by packet, on AF_XDP. A node runs "fairlead run"; the other commands prepare its
configuration, ask it how it is, or try a configuration without a network.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newRun(), newUpgrade(),
		newStatus(), newServices(), newBackends(), newTop(),
		newLogLevel(), newProfile(), newBugreport(),
		newBackend(),
		newCheck(), newDoctor(), newBench(), newReplay(), newExplain(),
		newConfig(),
		newNeighbors(), newRoutes(), newAddresses(),
		newBGP(), newDrain(), newUndrain(), newCluster(), newKubernetes(),
		newCapture(), newDrops(), newFlows(),
		newVersion(), newReference(), newMan(), newDataplane(),
	)
	return root
}

const defaultConfig = "/etc/fairlead/fairlead.toml"

// configFlag adds --config.
func configFlag(c *cobra.Command) *string {
	path := c.Flags().StringP("config", "c", defaultConfig, "configuration file; FAIRLEAD_CONFIG in the environment is another default")
	if other := os.Getenv("FAIRLEAD_CONFIG"); other != "" {
		*path = other
	}
	return path
}
