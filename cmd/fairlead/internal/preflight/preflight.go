// Package preflight looks whether a machine is one that a configuration can
// run on: its interfaces, addresses, kernel, and rights. It changes nothing and
// sends nothing.
package preflight

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"fairlead/configs"
)

// Level says how much a finding matters.
type Level int

// The levels. A node does not start with an error.
const (
	Error Level = iota
	Warning
	Note
)

// String gives the level's name.
func (l Level) String() string { return [...]string{"error", "warning", "note"}[l] }

// Finding is one thing found out about the machine.
type Finding struct {
	Level   Level
	Subject string // what it is about, such as "interface eth0"
	Text    string
	Advice  string // what to do; empty where the text says so
	Command string // that does it, where one does
}

// String gives subject and text.
func (f Finding) String() string { return f.Subject + ": " + f.Text }

// Machine looks at the machine that this process runs on. Errors come first,
// then warnings, then notes.
func Machine(cfg *configs.Config) []Finding {
	c := &checker{cfg: cfg}
	c.kernel()
	c.interfaces()
	c.addresses()
	c.pinPath()
	c.user()
	c.capabilities()
	c.memory()
	c.metrics()
	c.health()
	c.bgp()
	c.cluster()
	c.kubernetes()
	slices.SortStableFunc(c.found, func(a, b Finding) int { return cmp.Compare(a.Level, b.Level) })
	return c.found
}

// Addresses finds those of the configuration's addresses that the host has
// itself. They may change without a restart.
func Addresses(cfg *configs.Config) []Finding {
	c := &checker{cfg: cfg}
	c.addresses()
	return c.found
}

// Routes finds the backends that the host's routing table has no way to
// through the configuration's interfaces.
func Routes(cfg *configs.Config) []Finding {
	c := &checker{cfg: cfg}
	c.routes()
	return c.found
}

// Errors joins the findings that keep a node from running, nil when there are
// none.
func Errors(found []Finding) error {
	var errs []error
	for _, f := range found {
		if f.Level == Error {
			errs = append(errs, errors.New(f.String()))
		}
	}
	return errors.Join(errs...)
}

// checker collects findings.
type checker struct {
	cfg    *configs.Config
	queues int // used, of all interfaces that could be looked at
	found  []Finding
}

func (c *checker) add(level Level, subject, format string, args ...any) {
	c.found = append(c.found, Finding{Level: level, Subject: subject, Text: fmt.Sprintf(format, args...)})
}

// do gives what was found last an advice, and a command that follows it.
func (c *checker) do(advice, command string, args ...any) {
	last := &c.found[len(c.found)-1]
	last.Advice, last.Command = advice, fmt.Sprintf(command, args...)
}
