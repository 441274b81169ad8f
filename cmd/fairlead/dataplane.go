package main

import (
	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/dataprocess"
	"fairlead/cmd/fairlead/internal/node"
)

// controlFD is the descriptor of the socket that the control process starts
// the data process with.
const controlFD = 3

func newDataplane() *cobra.Command {
	return &cobra.Command{
		Use:    "dataplane",
		Short:  "The data process; started by run, not typed by hand",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return dataprocess.Run(controlFD, node.Version) },
	}
}
