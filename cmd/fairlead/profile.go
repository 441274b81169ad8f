package main

import (
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
	node := nodeFlag(c)
	seconds := c.Flags().Int("seconds", 10, "how long to record, 1 to 60")
	output := c.Flags().StringP("output", "o", "profile.pb.gz", "file to write")
	c.RunE = func(*cobra.Command, []string) error { return profile(node, *seconds, *output) }
	return c
}

func profile(node *nodeFlags, seconds int, output string) error {
	if most := int(api.MaxProfile.Seconds()); seconds < 1 || seconds > most {
		return usageError("--seconds is to be 1 to %d", most)
	}
	client, err := node.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(time.Duration(seconds)*time.Second + profileGrace)
	defer cancel()
	recorded, err := client.Profile(ctx, seconds)
	if err != nil {
		return err
	}
	return os.WriteFile(output, recorded, 0o644)
}
