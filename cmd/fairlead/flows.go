package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newFlows() *cobra.Command {
	c := &cobra.Command{
		Use:   "flows",
		Short: "List, count or watch the flows in a node's flow table",
		Long: `List, count or watch the flows in a node's flow table: those of which everything
is true that is asked for.

Forwarding does not notice: the table is read without a lock, and slowly. Packets
and bytes are not counted for each flow; they are for each service and backend.
Packets of a flow that go by a memo are noted up to ten seconds late, so such a
flow may look idle for so long.

--watch looks at the table again and again and says what has changed. A flow that
begins and ends between two looks is not seen.`,
		Example: `  fairlead flows --service web --state half_open
  fairlead flows --client 203.0.113.0/24 --limit 0 -o json
  fairlead flows --count --by backend --service web
  fairlead flows --watch --backend web1 --for 1m`,
		Args: cobra.NoArgs,
	}
	f := &flowFlags{node: nodeFlag(c), out: output.Flags(c)}
	f.filterFlags(c)
	c.Flags().IntVar(&f.limit, "limit", 1000, "how many flows to list at most; 0: all")
	c.Flags().BoolVar(&f.count, "count", false, "count flows in place of listing them")
	c.Flags().StringVar(&f.by, "by", "service", "with --count: what to group by: service, backend, state, protocol or vip")
	c.Flags().BoolVar(&f.watch, "watch", false, "say what becomes of flows, until interrupted")
	c.Flags().DurationVar(&f.interval, "interval", time.Second, "with --watch: how often to look, 100ms to 1m")
	c.Flags().DurationVar(&f.length, "for", 0, "with --watch: for how long; 0: until interrupted")
	c.MarkFlagsMutuallyExclusive("count", "watch")
	c.RunE = func(*cobra.Command, []string) error { return f.run(c) }
	return c
}

// flowFlags are what the command line says of flows.
type flowFlags struct {
	node                           *nodeFlags
	out                            *output.Options
	service, backend, state, proto string
	client, vip                    endsFlag
	idleOver, idleUnder            time.Duration
	limit                          int
	count, watch                   bool
	by                             string
	interval, length               time.Duration
}

func (f *flowFlags) filterFlags(c *cobra.Command) {
	c.Flags().StringVar(&f.service, "service", "", "only flows of this service")
	c.Flags().StringVar(&f.backend, "backend", "", "only flows to this backend: its name, address, or address and port")
	c.Flags().Var(&f.client, "client", "only flows of this client: an address, a prefix, or an address and port")
	c.Flags().Var(&f.vip, "vip", "only flows to this virtual address: an address, a prefix, or an address and port")
	c.Flags().StringVar(&f.state, "state", "", "only flows in this state: half_open, established, fin_wait, closed, unreplied, stream; or session affinity records: affinity")
	c.Flags().StringVar(&f.proto, "protocol", "", "only flows of this protocol: tcp, udp or sctp")
	c.Flags().DurationVar(&f.idleOver, "idle-over", 0, "only flows without a packet for longer than this")
	c.Flags().DurationVar(&f.idleUnder, "idle-under", 0, "only flows with a packet within this time")
}

// endsFlag is a flag that names one end of flows.
type endsFlag struct{ *api.Ends }

// String implements pflag.Value.
func (e *endsFlag) String() string {
	if e.Ends == nil {
		return ""
	}
	return e.Ends.String()
}

// Type implements pflag.Value.
func (e *endsFlag) Type() string { return "address" }

// Set implements pflag.Value.
func (e *endsFlag) Set(text string) error {
	e.Ends = new(api.Ends)
	return e.Ends.UnmarshalText([]byte(text))
}

func (f *flowFlags) filter() api.FlowFilter {
	return api.FlowFilter{
		Service: f.service, Backend: f.backend, Client: f.client.Ends, VIP: f.vip.Ends, State: f.state, Protocol: f.proto,
		IdleOver: api.Duration(f.idleOver), IdleUnder: api.Duration(f.idleUnder),
	}
}

func (f *flowFlags) run(c *cobra.Command) error {
	for _, only := range []struct{ flag, with string }{{"by", "count"}, {"interval", "watch"}, {"for", "watch"}} {
		if c.Flags().Changed(only.flag) && !c.Flags().Changed(only.with) {
			return usageError("--%s is for --%s", only.flag, only.with)
		}
	}
	if f.watch && f.out.Format == output.FormatYAML {
		return usageError("--watch writes lines as they come: -o table, wide or json")
	}
	client, err := f.node.client()
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	switch {
	case f.count:
		return f.writeCounts(ctx, os.Stdout, client)
	case f.watch:
		ctx, cancel := lasting(ctx, f.length)
		defer cancel()
		return f.writeEvents(ctx, os.Stdout, client)
	}
	return f.writeFlows(ctx, os.Stdout, os.Stderr, client)
}

// lasting bounds ctx by a length of time; 0 is none.
func lasting(ctx context.Context, length time.Duration) (context.Context, context.CancelFunc) {
	if length == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, length)
}

// unlessOver is the error of something that goes on until ctx ends, which is no
// error.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

func (f *flowFlags) writeFlows(ctx context.Context, out, notes io.Writer, client *api.Client) error {
	more := false
	t := f.out.Table("PROTO", "CLIENT", "VIP", "SERVICE", "BACKEND", "ADDRESS", "STATE", ">IDLE", ">EXPIRES", "+METHOD", "+SNAT", "+INTERFACE", "+VIA")
	row := func(t *output.Table, w *api.Flow) {
		t.Row(w.Protocol, w.Client, w.VIP, w.Service, w.Backend, w.Address, w.State, idle(w.IdleMS), span(w.ExpiresMS), w.Method, w.SNAT, w.Interface, w.Via)
	}
	err := output.List(f.out, out, "flows", t, row, func(add func(*api.Flow) error) error {
		return client.Flows(ctx, api.FlowQuery{FlowFilter: f.filter(), Limit: f.limit}, func(b *api.FlowBatch) error {
			more = more || b.More
			for i := range b.Flows {
				if err := add(&b.Flows[i]); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil && more {
		fmt.Fprintf(notes, "there are more flows than %d; --limit 0 lists all\n", f.limit)
	}
	return err
}

func span(ms int64) string { return output.Span(time.Duration(ms) * time.Millisecond) }

func idle(ms int64) string {
	if ms < 0 {
		return ""
	}
	return span(ms)
}

func (f *flowFlags) writeCounts(ctx context.Context, out io.Writer, client *api.Client) error {
	counts, err := client.CountFlows(ctx, api.FlowCountQuery{FlowFilter: f.filter(), By: f.by})
	if err != nil {
		return err
	}
	return f.out.Write(out, counts, func(out io.Writer) error {
		heads := []string{strings.ToUpper(f.by), ">FLOWS"}
		if f.by == "backend" {
			heads = append([]string{"POOL"}, heads...)
		}
		t := f.out.Table(heads...)
		add := func(pool, group string, flows uint64) {
			cells := []string{group, fmt.Sprint(flows)}
			if f.by == "backend" {
				cells = append([]string{pool}, cells...)
			}
			t.Row(cells...)
		}
		for _, g := range counts.Groups {
			name := g.Group
			if name == "" {
				name = "(no more)"
			}
			add(g.Pool, name, g.Flows)
		}
		add("", "total", counts.Total)
		return t.Flush(out)
	})
}

// flowLine is an event with its time, for programs.
type flowLine struct {
	Time time.Time `json:"time"`
	api.FlowEvent
}

func (f *flowFlags) writeEvents(ctx context.Context, out io.Writer, client *api.Client) error {
	query := api.FlowWatchQuery{FlowFilter: f.filter(), Interval: api.Duration(f.interval)}
	lines := json.NewEncoder(out)
	err := client.WatchFlows(ctx, query, func(e *api.FlowEvents) error {
		if e.Watching != nil && f.out.Tabular() && !f.out.NoHeaders {
			if _, err := fmt.Fprintf(out, "%s watching %d flows\n", clock(e.Time), *e.Watching); err != nil {
				return err
			}
		}
		for i := range e.Events {
			var err error
			if f.out.Tabular() {
				_, err = fmt.Fprintln(out, f.line(e.Time, &e.Events[i]))
			} else {
				err = lines.Encode(flowLine{e.Time, e.Events[i]})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return unlessOver(ctx, err)
}

// clock writes the time of day of something that has just happened.
func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }

// line writes what became of a flow.
func (f *flowFlags) line(at time.Time, e *api.FlowEvent) string {
	state := e.State
	if e.Was != "" {
		state = e.Was + " -> " + e.State
	}
	line := fmt.Sprintf("%s %-7s %s %s > %s %s %s %s %s", clock(at), e.Event, e.Protocol, e.Client, e.VIP, orDash(e.Service), orDash(e.Backend), orDash(e.Address), state)
	if f.out.Format == output.FormatWide {
		line += fmt.Sprintf(" idle %s snat %s via %s %s", orDash(idle(e.IdleMS)), orDash(e.SNAT), orDash(e.Interface), orDash(e.Via))
	}
	return line
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
