package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/controlplane/api"
)

// profileGrace is how much longer than the recording itself it may take.
const profileGrace = 10 * time.Second

func newProfile() *cobra.Command {
	c := &cobra.Command{
		Use:   "profile",
		Short: "Record where the data process of a running node spends its CPU time",
		Long: `Record where the data process of a running node spends its CPU time, and write
it to a file for "go tool pprof". Forwarding goes on meanwhile, a little slower.
Time that the kernel takes to send and to receive shows as that of the system
calls.`,
		Args: cobra.NoArgs,
	}
	socket := c.Flags().String("socket", api.DefaultSocket, "Unix socket of the node's admin API")
	seconds := c.Flags().Int("seconds", 10, "how long to record, 1 to 60")
	output := c.Flags().StringP("output", "o", "profile.pb.gz", "file to write")
	c.RunE = func(*cobra.Command, []string) error { return profile(*socket, *seconds, *output) }
	return c
}

func profile(socket string, seconds int, output string) error {
	if most := int(api.MaxProfile.Seconds()); seconds < 1 || seconds > most {
		return fmt.Errorf("--seconds is to be 1 to %d", most)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second+profileGrace)
	defer cancel()
	recorded, err := api.NewClient(socket).Profile(ctx, seconds)
	if err != nil {
		return err
	}
	return os.WriteFile(output, recorded, 0o644)
}
