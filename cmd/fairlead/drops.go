package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newDrops() *cobra.Command {
	c := &cobra.Command{
		Use:   "drops",
		Short: "Show how many packets were dropped and why, or watch them being dropped",
		Long: `Show how many packets were dropped since the node began, by who dropped them and
why, and of which services.

--watch says at every interval how many there were and at what rate, and shows the
headers of some: at most so many of each reason per second and worker, so that a
flood does no harm. Of packets that the XDP program or the kernel drops, before
any worker sees them, there are only counts. Forwarding is not slowed down while
nobody watches.`,
		Example: `  fairlead drops
  fairlead drops --watch --service web
  fairlead drops --watch --reason tcp_flags_invalid --samples 1`,
		Args: cobra.NoArgs,
	}
	f := &dropFlags{node: memberFlag(c), out: output.Flags(c)}
	f.all = allFlag(c, "sums over all members of the cluster; -o wide has each member's part")
	f.packets.flags(c)
	c.Flags().BoolVar(&f.watch, "watch", false, "go on saying what is dropped, until interrupted")
	c.Flags().DurationVar(&f.interval, "interval", time.Second, "with --watch: how often to say how many there were, 100ms to 1m")
	c.Flags().IntVar(&f.samples, "samples", 5, "with --watch: how many packets of each reason to show per second and worker, at most 1000; 0: none")
	c.Flags().DurationVar(&f.length, "for", 0, "with --watch: for how long; 0: until interrupted")
	c.RunE = func(*cobra.Command, []string) error { return f.run(c) }
	return c
}

type dropFlags struct {
	node             *nodeFlags
	out              *output.Options
	packets          packetFlags
	watch            bool
	all              *bool
	interval, length time.Duration
	samples          int
}

func (f *dropFlags) run(c *cobra.Command) error {
	for _, name := range []string{"interval", "samples", "for", "reason", "service", "backend", "client"} {
		if c.Flags().Changed(name) && !f.watch {
			return usageError("--%s is for --watch", name)
		}
	}
	if f.watch && f.out.Format == output.FormatYAML {
		return usageError("--watch writes lines as they come: -o table, wide or json")
	}
	if f.watch && (*f.all || f.node.member != "") {
		return usageError("--watch is of the node itself; --all and --node are not for it")
	}
	if err := notBoth(*f.all, f.node); err != nil {
		return err
	}
	client, err := f.node.client()
	if err != nil {
		return err
	}
	if f.watch {
		ctx, stop := interruptible()
		defer stop()
		ctx, cancel := lasting(ctx, f.length)
		defer cancel()
		return f.writeReports(ctx, os.Stdout, client)
	}
	ctx, cancel := askContext(askWithin)
	defer cancel()
	if *f.all {
		return showSummedDrops(ctx, client, f.out)
	}
	d, err := client.Drops(ctx)
	if err != nil {
		return err
	}
	return f.out.Write(os.Stdout, d, func(out io.Writer) error { return writeDrops(out, f.out, d) })
}

func writeDrops(out io.Writer, o *output.Options, d *api.Drops) error {
	if len(d.Reasons) == 0 {
		_, err := fmt.Fprintln(out, "nothing was dropped")
		return err
	}
	t := o.Table("WHERE", "REASON", ">PACKETS")
	for _, r := range d.Reasons {
		t.Row(r.Where, r.Reason, fmt.Sprint(r.Packets))
	}
	if err := t.Flush(out); err != nil || len(d.Services) == 0 {
		return err
	}
	fmt.Fprintln(out)
	t = o.Table("SERVICE", ">PACKETS")
	for _, s := range d.Services {
		t.Row(s.Service, fmt.Sprint(s.Packets))
	}
	return t.Flush(out)
}

func (f *dropFlags) writeReports(ctx context.Context, out io.Writer, client *api.Client) error {
	query := api.DropQuery{PacketFilter: f.packets.filter(), Interval: api.Duration(f.interval), Samples: f.samples}
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	err := client.WatchDrops(ctx, query, func(r *api.DropReport) error {
		if !f.out.Tabular() {
			return lines.Encode(r)
		}
		return f.writeReport(out, r)
	})
	return unlessOver(ctx, err)
}

// writeReport writes samples as they are, and counts with their rates.
func (f *dropFlags) writeReport(out io.Writer, r *api.DropReport) error {
	if r.Begun && !f.out.NoHeaders {
		fmt.Fprintf(out, "%s watching\n", clock(r.Time))
	}
	for i := range r.Samples {
		if err := writePacket(out, &r.Samples[i], f.out.Format == output.FormatWide); err != nil {
			return err
		}
	}
	for _, c := range r.Reasons {
		if _, err := fmt.Fprintf(out, "%s %-6s %-24s %8d packets %8s/s\n", clock(r.Time), c.Where, c.Reason, c.Packets, output.Rate(c.Rate)); err != nil {
			return err
		}
	}
	if r.Missed > 0 {
		_, err := fmt.Fprintf(out, "%s %d samples came too fast to be shown\n", clock(r.Time), r.Missed)
		return err
	}
	return nil
}

// writePacket writes one packet in a line; with all, what names it more exactly.
func writePacket(out io.Writer, p *api.Packet, all bool) error {
	where := p.Interface
	if p.Queue >= 0 {
		where = fmt.Sprintf("%s/%d", p.Interface, p.Queue)
	}
	direction := "<"
	if p.Sent {
		direction = ">"
	}
	line := fmt.Sprintf("%s %s %s %-20s %s", p.Time.Local().Format("15:04:05.000000"), direction, where, p.Reason, p.Summary)
	if p.Service != "" {
		line += " service " + p.Service
	}
	if p.Backend != "" {
		line += " backend " + p.Backend
	}
	if p.Altered {
		line += " (rewritten before it was dropped)"
	}
	if all {
		line += fmt.Sprintf(" worker %d frame of %d bytes: %x", p.Worker, p.Length, p.Data)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
