package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"fairlead/cmd/fairlead/internal/node"
)

// introduction stands before the commands in the reference.
const introduction = `# Commands

<!-- Made of the commands themselves by "make cli". -->

A node runs ` + "`fairlead run`" + `. The other commands prepare its configuration, ask it how
it is, change what is in force, or try a configuration without a network.

## Which node

Commands that speak to a node use its Unix socket, ` + "`--socket`" + `, which is
` + "`/run/fairlead/fairlead.sock`" + ` unless FAIRLEAD_SOCKET in the environment says
otherwise. With ` + "`--server https://HOST:PORT`" + ` and the files ` + "`--cert`, `--key` and `--ca`" + `
they use TCP, where both ends show certificates. Who may do what is said in
[` + "`[api]`" + `](configuration.md#api).

## Output

Commands that show something take ` + "`-o`" + `: ` + "`table`" + ` for people, with units and aligned
columns, ` + "`wide`" + ` with more columns, and ` + "`json`" + ` and ` + "`yaml`" + `, which have the same content
in one shape, raw numbers, and keys that stay. ` + "`--no-headers`" + ` leaves out the headings
of tables. Lists of any length are written as they come.

## Exit status

| status | meaning |
|---|---|
%s
Where a command has more to tell by it, its own page says so.

## Completion

` + "`fairlead completion bash`" + ` (or ` + "`zsh`, `fish`, `powershell`" + `) prints a script for the
shell. It completes commands and flags, and asks the node for names of services,
pools and backends.
`

// exitStatuses say what each exit status means.
var exitStatuses = []struct {
	code    int
	meaning string
}{
	{exitOK, "It is done; the answer is yes."},
	{exitFailed, "It did not work, or the answer is no: refused, not found, different, unhealthy."},
	{exitUsage, "The command line is wrong."},
	{exitUnreachable, "No node answers."},
	{exitForbidden, "The node does not let this caller."},
}

func newReference() *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print the reference of all commands in Markdown",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return writeReference(os.Stdout, c.Root()) },
	}
}

// writeReference writes docs/cli.md.
func writeReference(out io.Writer, root *cobra.Command) error {
	var statuses strings.Builder
	for _, s := range exitStatuses {
		fmt.Fprintf(&statuses, "| %d | %s |\n", s.code, s.meaning)
	}
	if _, err := fmt.Fprintf(out, introduction, statuses.String()); err != nil {
		return err
	}
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if err := writeCommand(out, c); err != nil {
			return err
		}
	}
	return nil
}

// writeCommand writes the page of a command and of those below it.
func writeCommand(out io.Writer, c *cobra.Command) error {
	if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
		return nil
	}
	c.DisableAutoGenTag = true
	c.InitDefaultHelpFlag()
	var page bytes.Buffer
	if err := doc.GenMarkdownCustom(c, &page, func(string) string { return "" }); err != nil {
		return err
	}
	text, _, _ := strings.Cut(page.String(), "### SEE ALSO")
	if _, err := fmt.Fprintf(out, "\n%s\n", strings.TrimSpace(text)); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := writeCommand(out, sub); err != nil {
			return err
		}
	}
	return nil
}

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages of all commands into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Title: "FAIRLEAD", Section: "8", Source: "Fairlead " + node.Version, Manual: "Fairlead"}, args[0])
		},
	}
}
