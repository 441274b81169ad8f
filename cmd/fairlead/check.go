package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/cmd/fairlead/internal/output"
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

The exit status is 1 when there are errors. run does not start with them. With
-o wide each finding also says what to do about it.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	fileOnly := c.Flags().Bool("offline", false, "check the file alone, not this machine")
	options := output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error { return runCheck(*path, *fileOnly, options, os.Stdout) }
	return c
}

// checkReport is what a check has found, for programs.
type checkReport struct {
	File     string         `json:"file"`
	Services int            `json:"services"` // these are 0 in a file that has errors itself
	Pools    int            `json:"pools"`
	Backends int            `json:"backends"`
	Errors   int            `json:"errors"`
	Warnings int            `json:"warnings"`
	Findings []checkFinding `json:"findings"` // the worst first

	unread bool // the file itself has errors
}

// checkFinding is one thing that was found: at a place of a file, or about a
// subject.
type checkFinding struct {
	Level   string `json:"level"` // error, warning or note
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Subject string `json:"subject,omitempty"`
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
	Command string `json:"command,omitempty"`

	text string
}

func runCheck(path string, fileOnly bool, options *output.Options, out io.Writer) error {
	r, err := check(path, fileOnly)
	if err != nil {
		return err
	}
	if err := options.Write(out, r, func(out io.Writer) error { return r.write(out, options.Format == output.FormatWide) }); err != nil {
		return err
	}
	if r.Errors == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", path, counted(r.Errors, "error"))
}

// check checks a file and, unless the file alone is asked for, this machine.
func check(path string, fileOnly bool) (*checkReport, error) {
	r := &checkReport{File: path, Findings: []checkFinding{}}
	cfg, err := configs.Load(path)
	if all := (configs.Errors)(nil); errors.As(err, &all) {
		r.unread, r.Errors = true, len(all)
		for _, e := range all {
			r.Findings = append(r.Findings, checkFinding{Level: preflight.Error.String(), File: e.File, Line: e.Line, Column: e.Column, Message: e.Message, text: e.Error()})
		}
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	warnings, err := offline.Check(cfg)
	if err != nil {
		return nil, err
	}
	var found []preflight.Finding
	for _, w := range warnings {
		found = append(found, preflight.Finding{Level: preflight.Warning, Subject: "configuration", Text: w})
	}
	if !fileOnly {
		found = append(append(found, preflight.Machine(cfg)...), preflight.Routes(cfg)...)
	}
	slices.SortStableFunc(found, func(a, b preflight.Finding) int { return cmp.Compare(a.Level, b.Level) })
	for _, f := range found {
		switch f.Level {
		case preflight.Error:
			r.Errors++
		case preflight.Warning:
			r.Warnings++
		}
		r.Findings = append(r.Findings, checkFinding{Level: f.Level.String(), Subject: f.Subject, Message: f.Text, Advice: f.Advice, Command: f.Command, text: f.String()})
	}
	r.Services, r.Pools = len(cfg.State.Services), len(cfg.State.Pools)
	for i := range cfg.State.Pools {
		r.Backends += len(cfg.State.Pools[i].Backends)
	}
	return r, nil
}

// write lists what was found; with all, also what to do about it.
func (r *checkReport) write(out io.Writer, all bool) error {
	for i := range r.Findings {
		f := &r.Findings[i]
		if _, err := fmt.Fprintf(out, "%s: %s\n", f.Level, f.text); err != nil {
			return err
		}
		if all && f.Advice != "" {
			fmt.Fprintf(out, "        what to do: %s\n", f.Advice)
		}
		if all && f.Command != "" {
			fmt.Fprintf(out, "        $ %s\n", f.Command)
		}
	}
	if r.unread {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s, %s; %s, %s\n", r.File,
		counted(r.Services, "service"), counted(r.Pools, "pool"), counted(r.Backends, "backend"), counted(r.Errors, "error"), counted(r.Warnings, "warning"))
	return err
}

// counted is a number of things.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
