package main

import (
	"os"

	"github.com/spf13/cobra"

	"fairlead/configs"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Help with the configuration"}
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
