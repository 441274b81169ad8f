package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"fairlead/controlplane/api"
)

// signs stand before objects that are added, removed or changed.
var signs = map[string]string{"added": "+", "removed": "-", "changed": "~"}

// writeResult writes what a change has done, or would do.
func writeResult(out io.Writer, r *api.ConfigResult, now time.Time) error {
	if err := writeChanges(out, r.Changes); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	v := &r.Version
	switch {
	case !r.Changed:
		fmt.Fprintf(out, "nothing changes; version %d is in force\n", v.Number)
	case r.DryRun:
		fmt.Fprintf(out, "this would be version %d: %s\n", v.Number, v.Summary)
		return nil
	default:
		fmt.Fprintf(out, "version %d is in force: %s\n", v.Number, v.Summary)
	}
	if p := v.Pending; p != nil {
		fmt.Fprintf(out, "version %d is undone at %s, in %v, unless `fairlead config confirm` comes before\n",
			p.Version, p.Until.Local().Format(time.DateTime), p.Until.Sub(now).Round(time.Second))
	}
	return nil
}

// writeDiff writes what would change.
func writeDiff(out io.Writer, r *api.ConfigResult) error {
	if err := writeChanges(out, r.Changes); err != nil {
		return err
	}
	if r.Changed && len(r.Changes) == 0 {
		fmt.Fprintln(out, "no object; the text differs")
	}
	if r.Guarded != "" {
		fmt.Fprintln(out, "warning:", r.Guarded)
	}
	return nil
}

// writeChanges lists objects, with their fields below; backends stand below
// their pools.
func writeChanges(out io.Writer, changes []api.ConfigChange) error {
	var b strings.Builder
	pool := "" // that was named last
	for i := range changes {
		c := &changes[i]
		indent := ""
		switch {
		case c.Kind == "backend":
			if pool != c.Pool {
				fmt.Fprintf(&b, "~ pool %s\n", c.Pool)
			}
			pool, indent = c.Pool, "    "
			fmt.Fprintf(&b, "%s%s backend %s\n", indent, signs[c.Op], c.Name)
		case c.Kind == "setting":
			fmt.Fprintf(&b, "%s setting of %s in pool %s\n", signs[c.Op], c.Name, c.Pool)
		case c.Name == "":
			fmt.Fprintf(&b, "%s %s\n", signs[c.Op], c.Kind)
		default:
			fmt.Fprintf(&b, "%s %s %s\n", signs[c.Op], c.Kind, c.Name)
			if c.Kind == "pool" {
				pool = c.Name
			}
		}
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "%s    %s\n", indent, fieldText(c.Op, &f))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func fieldText(op string, f *api.ConfigField) string {
	switch {
	case op == "added":
		return f.Name + ": " + f.After
	case op == "removed":
		return f.Name + ": " + f.Before
	}
	none := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return f.Name + ": " + none(f.Before) + " -> " + none(f.After)
}

// writeDesired writes how what is desired is, as a part of the status.
func writeDesired(out io.Writer, d *api.Desired, now time.Time) {
	if d.Version == 0 {
		return
	}
	by := d.Source
	if d.User != "" {
		by += ", " + d.User
	}
	if d.Node != "" {
		by += ", on node " + d.Node
	}
	fmt.Fprintf(out, "configuration: version %d of %s (%s)\n", d.Version, d.Time.Local().Format(time.DateTime), by)
	if p := d.Pending; p != nil {
		fmt.Fprintf(out, "  version %d is undone at %s, in %v, unless it is confirmed\n",
			p.Version, p.Until.Local().Format(time.DateTime), p.Until.Sub(now).Round(time.Second))
	}
	for _, c := range d.Conditions {
		fmt.Fprintf(out, "  %s: %s\n", c.Type, c.Message)
	}
}
