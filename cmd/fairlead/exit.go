package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"fairlead/controlplane/api"
)

// What the program ends with. docs/cli.md has the same list.
const (
	exitOK          = 0
	exitFailed      = 1 // it did not work, or the answer is no: refused, different, unhealthy, not found
	exitUsage       = 2 // the command line is wrong
	exitUnreachable = 3 // no node answers
	exitForbidden   = 4 // the node does not let this caller
)

// exitError ends the program with a code of its own; err is nil when everything
// has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitWith is an error that ends the program with a code. With err nil nothing
// more is said.
func exitWith(code int, err error) error { return &exitError{code, err} }

// usageError says that the command line is wrong.
func usageError(format string, args ...any) error {
	return exitWith(exitUsage, fmt.Errorf(format, args...))
}

// exitCode is what the program ends with after an error.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if own, is := errors.AsType[*exitError](err); is {
		return own.code
	}
	if _, is := errors.AsType[*api.UnreachableError](err); is {
		return exitUnreachable
	}
	if answer, is := errors.AsType[*api.Error](err); is && answer.Code == api.Forbidden {
		return exitForbidden
	}
	return exitFailed
}

// tellUsage has what is found wrong before a command begins count as its usage.
func tellUsage(c *cobra.Command, begun *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*begun = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		tellUsage(sub, begun)
	}
}

// execute runs the command line.
func execute(root *cobra.Command) error {
	begun := false
	tellUsage(root, &begun)
	err := root.Execute()
	if _, own := errors.AsType[*exitError](err); err != nil && !begun && !own {
		return exitWith(exitUsage, err)
	}
	return err
}
