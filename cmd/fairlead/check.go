package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/cmd/fairlead/internal/preflight"
	"fairlead/configs"
)

func newCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration, and whether this machine can run it",
		Long: `Check a configuration file as run does: every key, every value, and how they fit
together. Then check the machine: that the interfaces are there and can do what
is asked of them, that no SNAT address is the host's own, that the kernel is new
enough, and that memory and rights suffice. Nothing is changed and nothing is
sent.

The exit status is 1 when there are errors. run does not start with them.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	fileOnly := c.Flags().Bool("offline", false, "check the file alone, not this machine")
	c.RunE = func(*cobra.Command, []string) error { return runCheck(*path, *fileOnly, os.Stdout) }
	return c
}

func runCheck(path string, fileOnly bool, out io.Writer) error {
	cfg, err := configs.Load(path)
	if err != nil {
		return listErrors(path, err, out)
	}
	warnings, err := offline.Check(cfg)
	if err != nil {
		return err
	}
	var found []preflight.Finding
	for _, w := range warnings {
		found = append(found, preflight.Finding{Level: preflight.Warning, Subject: "configuration", Text: w})
	}
	if !fileOnly {
		found = append(append(found, preflight.Machine(cfg)...), preflight.Routes(cfg)...)
	}
	return report(path, cfg, found, out)
}

// report lists what was found, by level.
func report(path string, cfg *configs.Config, found []preflight.Finding, out io.Writer) error {
	var count [preflight.Note + 1]int
	for level := preflight.Error; level <= preflight.Note; level++ {
		for _, f := range found {
			if f.Level != level {
				continue
			}
			count[level]++
			if _, err := fmt.Fprintf(out, "%s: %v\n", level, f); err != nil {
				return err
			}
		}
	}
	backends := 0
	for i := range cfg.State.Pools {
		backends += len(cfg.State.Pools[i].Backends)
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s, %s; %s, %s\n", path,
		counted(len(cfg.State.Services), "service"), counted(len(cfg.State.Pools), "pool"), counted(backends, "backend"),
		counted(count[preflight.Error], "error"), counted(count[preflight.Warning], "warning"))
	if err != nil || count[preflight.Error] == 0 {
		return err
	}
	return fmt.Errorf("%s: %s", path, counted(count[preflight.Error], "error"))
}

// listErrors lists what is wrong with the file itself.
func listErrors(path string, err error, out io.Writer) error {
	var all configs.Errors
	if !errors.As(err, &all) {
		return err
	}
	for _, e := range all {
		if _, err := fmt.Fprintf(out, "error: %v\n", e); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %s", path, counted(len(all), "error"))
}

// counted is a number of things.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
