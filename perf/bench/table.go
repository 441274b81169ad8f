package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// writeTable prints a run for people.
func writeTable(out io.Writer, r *Run) error {
	m := r.Machine
	fmt.Fprintf(out, "%s, %d cores, kernel %s; %s\n", m.CPU, m.Cores, m.Kernel, m.Placement)
	fmt.Fprintf(out, "%s; load before: %.1f; others took up to %.0f%% of the CPUs\n",
		r.extent(), m.Load, 100*r.Foreign)
	if r.disturbed() {
		fmt.Fprintln(out, "Disturbed: other work took much of the machine. No figure here means anything, ratios included.")
	}
	if r.Note != "" {
		fmt.Fprintf(out, "Note: %s\n", r.Note)
	}
	for i := range r.Cases {
		if err := writeCase(out, &r.Cases[i]); err != nil {
			return err
		}
	}
	if err := writeConnections(out, r.Connections); err != nil {
		return err
	}
	return writeTargets(out, r)
}

func writeCase(out io.Writer, c *CaseResult) error {
	fmt.Fprintf(out, "\n%v (the generator alone: %.0f ns a frame, %.1f Mpps)\n", c.Case, c.GeneratorNS, c.GeneratorMpps())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	rows := throughputRow
	if c.Rate > 0 {
		rows = delayRow
	}
	rows(t, nil)
	for i := range c.Results {
		if c.Results[i].NotRun == "" {
			rows(t, &c.Results[i])
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range c.Results {
		if r.GeneratorBound {
			fmt.Fprintln(out, "* the generator was the bottleneck: nearly all that was sent was forwarded")
			break
		}
	}
	if c.Katran != nil {
		fmt.Fprintln(out, c.Katran)
	}
	for _, r := range c.Results {
		if r.NotRun != "" {
			fmt.Fprintf(out, "not run: %s: %s\n", r.Name, r.NotRun)
		}
		for _, failure := range r.Failed {
			fmt.Fprintf(out, "a round without %s: %s\n", r.Name, failure)
		}
	}
	return nil
}

// throughputRow writes a result of a case without a fixed rate; the header for nil.
func throughputRow(t io.Writer, r *Result) {
	if r == nil {
		fmt.Fprint(t, "contestant\tMpps\tratio\toffered\tloss\tinput ns\tuser ns\tsys ns\ttotal ns\tratio\tothers\t\n")
		return
	}
	bound := ""
	if r.GeneratorBound {
		bound = "*"
	}
	fmt.Fprintf(t, "%s\t%.2f%s\t%.2f\t%.2f\t%.0f%%\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f%%\t\n", r.Name, r.Mpps, bound, r.Ratio,
		r.Offered, 100*r.Loss, r.InputNS, r.UserNS, r.SystemNS+r.SoftirqNS, r.TotalNS, r.RatioNS, 100*r.Foreign)
}

// delayRow writes a result of a case at a fixed rate; the header for nil.
func delayRow(t io.Writer, r *Result) {
	if r == nil {
		fmt.Fprint(t, "contestant\toffered\tloss\tp50 us\tp90 us\tp99 us\tp99.9 us\tothers\t\n")
		return
	}
	fmt.Fprintf(t, "%s\t%.2f\t%.2f%%\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f%%\t\n", r.Name, r.Offered, 100*r.Loss,
		r.Delays.P50, r.Delays.P90, r.Delays.P99, r.Delays.P999, 100*r.Foreign)
}
