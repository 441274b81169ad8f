package main

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
	"fairlead/controlplane/model"
)

// newBackendSettings are the commands with which an operator sets single
// backends of a running node, and sees what is set.
func newBackendSettings() []*cobra.Command {
	return []*cobra.Command{newDrainBackend(), newEnableBackend(), newDisableBackend(), newWeighBackend(), newListSettings()}
}

// settingCommand is one of them; want makes of the arguments after POOL and
// BACKEND what is asked for.
func settingCommand(use, short, long string, args int, want func(c *cobra.Command, args []string) (api.SetBackend, error)) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long + `

BACKEND is its address and port, its address where no other backend of the pool
has it, or its name. The setting holds whatever the sources declare, over reloads
and restarts, until it is changed or the backend is removed.`, Args: cobra.ExactArgs(args)}
	c.ValidArgsFunction = completeBackend
	node, out := nodeFlag(c), output.Flags(c)
	comment := c.Flags().StringP("comment", "m", "", "why, for the history")
	c.RunE = func(c *cobra.Command, args []string) error {
		q, err := want(c, args[2:])
		if err != nil {
			return err
		}
		q.Pool, q.Backend, q.Comment = args[0], args[1], *comment
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(changeWithin)
		defer cancel()
		var result api.ConfigResult
		if err := client.Call(ctx, http.MethodPost, "/v1/backend-settings", nil, q, &result); err != nil {
			return err
		}
		return out.Write(os.Stdout, &result, func(w io.Writer) error { return writeResult(w, &result, time.Now()) })
	}
	return c
}

// completeBackend completes POOL, and then BACKEND in that pool.
func completeBackend(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return completed(c, poolNames, begun)
	case 1:
		return completed(c, endpointsOf(args[0]), begun)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func newDrainBackend() *cobra.Command {
	c := settingCommand("drain POOL BACKEND", "Give a backend of a running node no new flows",
		`Give a backend of a running node no new flows. Those that it has go on: to their end,
or until --timeout is over, when they are treated as the service says of a gone
backend.`, 2,
		func(c *cobra.Command, _ []string) (api.SetBackend, error) {
			timeout, err := c.Flags().GetDuration("timeout")
			if err == nil && (timeout < 0 || timeout == 0 && c.Flags().Changed("timeout")) {
				err = usageError("--timeout is to be 1s to 576h")
			}
			return api.SetBackend{State: string(model.Drained), Timeout: api.Duration(timeout)}, err
		})
	c.Example = "  fairlead backend drain web 198.18.10.101:8080 --timeout 5m"
	c.Flags().Duration("timeout", 0, "end its flows after this time, 1s to 576h; left out: they end by themselves")
	return c
}

func newEnableBackend() *cobra.Command {
	return settingCommand("enable POOL BACKEND", "Take back that a backend is drained or disabled",
		"Take back that a backend of a running node is drained or disabled. A weight that was\nset stays.", 2,
		func(*cobra.Command, []string) (api.SetBackend, error) {
			return api.SetBackend{State: string(model.Enabled)}, nil
		})
}

func newDisableBackend() *cobra.Command {
	return settingCommand("disable POOL BACKEND", "Take all flows from a backend at once",
		"Take all flows from a backend of a running node at once: those that it has are\ntreated as the service says of a gone backend.", 2,
		func(*cobra.Command, []string) (api.SetBackend, error) {
			return api.SetBackend{State: string(model.Disabled)}, nil
		})
}

func newWeighBackend() *cobra.Command {
	c := settingCommand("weight POOL BACKEND WEIGHT", "Give a backend another weight than the declared one",
		`Give a backend of a running node another weight than the declared one: 0 to 65535, or
"declared" to give that back.`, 3,
		func(_ *cobra.Command, args []string) (api.SetBackend, error) {
			weight := -1
			if args[0] != "declared" {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 0 || n > model.MaxWeight {
					return api.SetBackend{}, usageError(`%q is no weight: it is 0 to %d, or "declared"`, args[0], model.MaxWeight)
				}
				weight = n
			}
			return api.SetBackend{Weight: &weight}, nil
		})
	c.Example = "  fairlead backend weight web 198.18.10.101:8080 3\n  fairlead backend weight web 198.18.10.101:8080 declared"
	return c
}

func newListSettings() *cobra.Command {
	c := &cobra.Command{
		Use:   "settings",
		Short: "List what operators have set of backends: drained, disabled, weights",
		Args:  cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var s api.BackendSettings
		if err := node.ask(http.MethodGet, "/v1/backend-settings", nil, &s); err != nil {
			return err
		}
		return out.Write(os.Stdout, &s, func(w io.Writer) error {
			t := out.Table("POOL", "BACKEND", "STATE", "FLOWS END AT", ">WEIGHT")
			for _, b := range s.Settings {
				deadline, weight := "", ""
				if b.Deadline != nil {
					deadline = b.Deadline.Local().Format(time.DateTime)
				}
				if b.Weight != nil {
					weight = strconv.Itoa(*b.Weight)
				}
				t.Row(b.Pool, b.Backend, b.State, deadline, weight)
			}
			return t.Flush(w)
		})
	}
	return c
}
