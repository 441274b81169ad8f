package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

var logLevelNames = []string{"debug", "info", "warn", "error"}

// maxLogLevelTime is how long a level may be set for.
const maxLogLevelTime = 24 * time.Hour

func newLogLevel() *cobra.Command {
	c := &cobra.Command{
		Use:   "log-level [debug|info|warn|error]",
		Short: "Show or change what a running node writes to its log",
		Long: `Show the level of a running node's log, or write lines from another level on.
With --for the configured level comes back by itself; without, when the node
starts again. The data process writes no log of its own.`,
		Example:   "  fairlead log-level debug --for 10m",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: logLevelNames,
	}
	node, out := nodeFlag(c), output.Flags(c)
	length := c.Flags().Duration("for", 0, "how long the level holds, up to 24h; 0: until the node starts again")
	c.RunE = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && *length != 0:
			return usageError("--for is for a level to set")
		case len(args) == 1 && !slices.Contains(logLevelNames, args[0]):
			return usageError("%q is none of %s", args[0], strings.Join(logLevelNames, ", "))
		case *length < 0 || *length > maxLogLevelTime:
			return usageError("--for %v is out of range; it must be 0s to 24h", *length)
		}
		level := func(c *api.Client, ctx context.Context) (*api.LogLevel, error) {
			if len(args) == 0 {
				return c.LogLevel(ctx)
			}
			return c.SetLogLevel(ctx, args[0], *length)
		}
		return answer(node, askWithin, out, level, writeLogLevel)
	}
	return c
}

func writeLogLevel(w io.Writer, l *api.LogLevel) error {
	text := l.Level
	switch {
	case l.Until != nil:
		text += fmt.Sprintf(", until %s; then %s", l.Until.Local().Format(time.DateTime), l.Configured)
	case l.Level != l.Configured:
		text += fmt.Sprintf(", until the node starts again; configured is %s", l.Configured)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
