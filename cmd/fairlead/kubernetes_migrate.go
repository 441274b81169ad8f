package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/k8ssync/migrate"
)

// readClusterWithin is how long reading all of MetalLB's objects and Services may take.
const readClusterWithin = 2 * time.Minute

func newKubernetesMigrate() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate-metallb [FILE...]",
		Short: "Print what Fairlead needs to take over from MetalLB",
		Long: `Print what Fairlead needs to take over from MetalLB: AddressPools for its
IPAddressPools, TOML for its BGP peers, advertisements and BFD profiles, the changes of
Services' annotations as commands, and what differs or has no counterpart. Every Service
keeps the addresses that it has. Nothing is changed.

FILEs have MetalLB's objects and, for the annotations, Services, as YAML or JSON; "-" is
the standard input. Without FILEs they are read from the cluster, by a kubeconfig that is
found as kubectl does.`,
		Example: `  fairlead k8s migrate-metallb
  fairlead k8s migrate-metallb --only pools metallb.yaml | kubectl apply -f -`,
	}
	f := c.Flags()
	kubeconfig := f.String("kubeconfig", "", "kubeconfig by which the cluster is read; by default as kubectl finds it")
	kubeContext := f.String("context", "", "context of it; by default its current one")
	only := f.String("only", "", "print one part alone: pools, config, services or notes")
	options := output.Flags(c)
	_ = c.RegisterFlagCompletionFunc("only", cobra.FixedCompletions([]string{"pools", "config", "services", "notes"}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(_ *cobra.Command, args []string) error {
		switch *only {
		case "", "pools", "config", "services", "notes":
		default:
			return usageError("--only is pools, config, services or notes, not %q", *only)
		}
		var in migrate.Input
		if len(args) == 0 {
			ctx, cancel := askContext(readClusterWithin)
			defer cancel()
			if err := in.ReadCluster(ctx, *kubeconfig, *kubeContext); err != nil {
				return err
			}
		}
		for _, path := range args {
			if err := readMetalLB(&in, path); err != nil {
				return err
			}
		}
		if read, ignored := in.Found(); read == 0 {
			return fmt.Errorf("there is neither an object of MetalLB nor a Service among %s", counted(ignored, "object"))
		}
		p := in.Plan()
		return options.Write(os.Stdout, p, func(w io.Writer) error { return writePlan(w, p, *only) })
	}
	return c
}

func readMetalLB(in *migrate.Input, path string) error {
	if path == "-" {
		return in.Read("standard input", os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return in.Read(path, f)
}

func writePlan(w io.Writer, p *migrate.Plan, only string) (err error) {
	text := ""
	switch only {
	case "":
		return p.Write(w)
	case "pools":
		text, err = p.PoolsYAML()
	case "config":
		text = p.Config
	case "services":
		text = p.Commands()
	case "notes":
		text = p.NotesText()
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}
