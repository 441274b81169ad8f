// Command clustersim runs a cluster of many nodes in one process, with the real
// membership and the real store over a network in memory that loses and delays, and
// says how long things take and what they cost. docs/performance.md says how that
// is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "clustersim:", err)
		os.Exit(1)
	}
}

// Plan is what is simulated.
type Plan struct {
	Entries int           // that all nodes share: the pools of so many services
	Probe   time.Duration // how often each node probes another one
	Loss    float64       // part of the packets of gossip
	Least   time.Duration // that anything is on its way for
	Most    time.Duration
	Samples int           // changes, one after the other
	Deaths  int           // nodes that die, one after the other
	Quiet   time.Duration // for which nothing is changed
	Churn   time.Duration // for which Rate entries are changed a second
	Rate    int
	Say     io.Writer // progress
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("clustersim", flag.ContinueOnError)
	p := Plan{Say: os.Stderr}
	sizes := flags.String("nodes", "10,100", "how many `nodes`; several, with commas, one after the other")
	flags.IntVar(&p.Entries, "entries", 10_000, "entries that all nodes share")
	flags.DurationVar(&p.Probe, "probe", 100*time.Millisecond, "how often each node probes another one")
	flags.Float64Var(&p.Loss, "loss", 0.01, "part of the packets of gossip that are lost")
	flags.DurationVar(&p.Least, "least", 200*time.Microsecond, "least time that anything is on its way for")
	flags.DurationVar(&p.Most, "most", 2*time.Millisecond, "most time that anything is on its way for")
	flags.IntVar(&p.Samples, "samples", 30, "single changes")
	flags.IntVar(&p.Deaths, "deaths", 5, "nodes that die, one after the other")
	flags.DurationVar(&p.Quiet, "quiet", 30*time.Second, "for how long nothing is changed")
	flags.DurationVar(&p.Churn, "churn", 30*time.Second, "for how long entries are changed")
	flags.IntVar(&p.Rate, "rate", 100, "how many entries are changed a second then")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return errors.New("nothing but flags")
	}
	var results []*Result
	for word := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 3 || p.Deaths > n-2 {
			return fmt.Errorf("-nodes %s: want numbers of 3 and more, and two nodes beyond those that die", *sizes)
		}
		r, err := Simulate(ctx, n, p)
		if err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
		results = append(results, r)
	}
	return Print(out, p, results)
}

// Result is what came of one size of cluster.
type Result struct {
	Nodes      int
	Joined     time.Duration   // until every node knew every other
	Late       time.Duration   // for a node without anything to have all entries
	Change     []time.Duration // from writing an entry until every node had it
	Death      []time.Duration // from a node's death until every other knew
	Quiet      Traffic         // while nothing is changed
	Busy       Traffic         // while entries are changed
	BusyChange []time.Duration // as Change, meanwhile
	Written    int             // changes meanwhile
	CPU        time.Duration   // of the whole process meanwhile, for each second
	QuietCPU   time.Duration   // likewise while nothing is changed
	Memory     uint64          // heap in use, by node
	Mistakes   uint64          // times that a living node was taken for dead, idle and busy
}

// Traffic is what is sent, by node and second.
type Traffic struct{ Packets, Bytes float64 }

// Print writes a table.
func Print(out io.Writer, p Plan, results []*Result) error {
	fmt.Fprintf(out, "Nodes in one process of %d CPUs, %.0f %% of the packets of gossip lost, %v to %v on the way; %d entries shared, a probe by each node every %v.\n\n",
		runtime.NumCPU(), 100*p.Loss, p.Least, p.Most, p.Entries, p.Probe)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, f func(*Result) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, r := range results {
			fmt.Fprintf(t, "%s\t", f(r))
		}
		fmt.Fprintln(t)
	}
	row("nodes", func(r *Result) string { return strconv.Itoa(r.Nodes) })
	row("all know all, after", func(r *Result) string { return seconds(r.Joined) })
	row("a new node has all entries, after", func(r *Result) string { return seconds(r.Late) })
	row("one change has reached all, median", func(r *Result) string { return millis(quantile(r.Change, 0.5)) })
	row("  longest", func(r *Result) string { return millis(quantile(r.Change, 1)) })
	row("a death is known to all, median", func(r *Result) string { return millis(quantile(r.Death, 0.5)) })
	row("  longest", func(r *Result) string { return millis(quantile(r.Death, 1)) })
	row("idle: bytes by node and second", func(r *Result) string { return fmt.Sprintf("%.0f", r.Quiet.Bytes) })
	row("  packets", func(r *Result) string { return fmt.Sprintf("%.0f", r.Quiet.Packets) })
	row("  CPU of all nodes, ms by second", func(r *Result) string { return fmt.Sprint(r.QuietCPU.Milliseconds()) })
	row(fmt.Sprintf("%d changes a second: bytes by node and second", p.Rate), func(r *Result) string { return fmt.Sprintf("%.0f", r.Busy.Bytes) })
	row("  packets", func(r *Result) string { return fmt.Sprintf("%.0f", r.Busy.Packets) })
	row("  changes made, by second", func(r *Result) string { return fmt.Sprintf("%.0f", float64(r.Written)/p.Churn.Seconds()) })
	row("  one has reached all, median", func(r *Result) string { return millis(quantile(r.BusyChange, 0.5)) })
	row("  99 of 100", func(r *Result) string { return millis(quantile(r.BusyChange, 0.99)) })
	row("  longest", func(r *Result) string { return millis(quantile(r.BusyChange, 1)) })
	row("  CPU of all nodes, ms by second", func(r *Result) string { return fmt.Sprint(r.CPU.Milliseconds()) })
	row("idle and busy: living nodes suspected", func(r *Result) string { return fmt.Sprint(r.Mistakes) })
	row("heap, MB by node", func(r *Result) string { return fmt.Sprintf("%.1f", float64(r.Memory)/1e6) })
	return t.Flush()
}

func millis(d time.Duration) string  { return fmt.Sprintf("%d ms", d.Milliseconds()) }
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
