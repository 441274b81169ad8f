package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newTop() *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "Show rates of a running node, the busiest first, again and again",
		Long: `Show how many packets, bits, new flows and drops there are in a second, by
service, by backend, or by the reason that packets ended for, the busiest first.
It goes on until it is interrupted, or for --iterations. With -o json each
iteration is a line of JSON.`,
		Example: `  fairlead top
  fairlead top --by backend --limit 5
  fairlead top --by reason --interval 10s --iterations 1 -o json`,
		Args: cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	t := &top{options: out, out: os.Stdout}
	c.Flags().StringVar(&t.by, "by", "service", "service, backend or reason")
	c.Flags().DurationVar(&t.interval, "interval", 2*time.Second, "how long rates are taken over, 100ms to 1h")
	c.Flags().IntVar(&t.iterations, "iterations", 0, "how often; 0 until interrupted")
	c.Flags().IntVar(&t.limit, "limit", 20, "how many rows; 0 all")
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"service", "backend", "reason"}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(*cobra.Command, []string) error {
		switch {
		case t.by != "service" && t.by != "backend" && t.by != "reason":
			return usageError("--by is service, backend or reason, not %q", t.by)
		case t.interval < 100*time.Millisecond || t.interval > time.Hour:
			return usageError("--interval is 100ms to 1h, not %s", t.interval)
		case t.iterations < 0 || t.limit < 0:
			return usageError("--iterations and --limit are not negative")
		case out.Format == output.FormatYAML && t.iterations != 1:
			return usageError("-o yaml is for --iterations 1")
		}
		client, err := node.client()
		if err != nil {
			return err
		}
		t.client = client
		ctx, cancel := interruptible()
		defer cancel()
		return t.run(ctx)
	}
	return c
}

// top shows rates.
type top struct {
	client     *api.Client
	options    *output.Options
	out        io.Writer
	by         string
	interval   time.Duration
	iterations int
	limit      int
}

// tally is what is counted of something.
type tally struct{ packets, bytes, flows, drops uint64 }

// reading is what all counters were at a moment.
type reading struct {
	at      time.Time
	summary *api.Summary
	names   []string // in the order that the node gives them
	tallies map[string]tally
}

// topRow is what there is of something in a second.
type topRow struct {
	Name    string  `json:"name"`
	Packets float64 `json:"packetsPerSecond"`
	Bytes   float64 `json:"bytesPerSecond"`
	Flows   float64 `json:"newFlowsPerSecond"`
	Drops   float64 `json:"dropsPerSecond"`
}

// topView is one iteration.
type topView struct {
	Time        time.Time  `json:"time"`
	Seconds     float64    `json:"seconds"` // that the rates are taken over
	Node        string     `json:"node"`
	Health      api.Health `json:"health"`
	Received    float64    `json:"receivedPerSecond"`
	Transmitted float64    `json:"transmittedPerSecond"`
	Dropped     float64    `json:"droppedPerSecond"`
	By          string     `json:"by"`
	Rows        []topRow   `json:"rows"`
}

func (t *top) run(ctx context.Context) error {
	before, err := t.read(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for i := 0; t.iterations == 0 || i < t.iterations; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := t.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.show(t.compare(before, now), i); err != nil {
			return err
		}
		before = now
	}
	return nil
}

func (t *top) read(ctx context.Context) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	r := &reading{at: time.Now(), tallies: make(map[string]tally)}
	var err error
	if r.summary, err = t.client.Summary(ctx); err != nil {
		return nil, err
	}
	add := func(name string, n tally) {
		r.names = append(r.names, name)
		r.tallies[name] = n
	}
	switch t.by {
	case "service":
		return r, t.client.Services(ctx, nil, func(s *api.Service) error {
			add(s.Name, tally{s.Packets, s.Bytes, s.Flows, s.Drops})
			return nil
		})
	case "backend":
		return r, t.client.Backends(ctx, nil, func(b *api.PoolBackend) error {
			add(b.Pool+" "+b.Name, tally{b.Packets, b.Bytes, b.Flows, b.Drops})
			return nil
		})
	}
	for name, n := range r.summary.Ledger.Reasons {
		add(name, tally{packets: n})
	}
	slices.Sort(r.names)
	return r, nil
}

// since is how much a counter has grown in a second; a node that has begun anew
// counts from 0.
func since(before, now uint64, seconds float64) float64 {
	if now < before || seconds <= 0 {
		return 0
	}
	return float64(now-before) / seconds
}

func (t *top) compare(before, now *reading) *topView {
	seconds := now.at.Sub(before.at).Seconds()
	was, is := &before.summary.Ledger, &now.summary.Ledger
	v := &topView{
		Time: now.at.UTC(), Seconds: seconds, Node: now.summary.Node, Health: now.summary.Health, By: t.by, Rows: []topRow{},
		Received:    since(was.Received, is.Received, seconds),
		Transmitted: since(was.Transmitted, is.Transmitted, seconds),
		Dropped:     since(was.Dropped, is.Dropped, seconds),
	}
	for _, name := range now.names {
		a, b := before.tallies[name], now.tallies[name]
		v.Rows = append(v.Rows, topRow{
			Name: name, Packets: since(a.packets, b.packets, seconds), Bytes: since(a.bytes, b.bytes, seconds),
			Flows: since(a.flows, b.flows, seconds), Drops: since(a.drops, b.drops, seconds),
		})
	}
	slices.SortStableFunc(v.Rows, func(a, b topRow) int { return cmp.Compare(b.Packets+b.Drops, a.Packets+a.Drops) })
	if t.limit > 0 && len(v.Rows) > t.limit {
		v.Rows = v.Rows[:t.limit]
	}
	return v
}

func (t *top) show(v *topView, iteration int) error {
	switch t.options.Format {
	case output.FormatJSON:
		return json.NewEncoder(t.out).Encode(v)
	case output.FormatYAML:
		return t.options.Write(t.out, v, nil)
	}
	var page strings.Builder
	if file, is := t.out.(*os.File); is && terminal(file) {
		page.WriteString("\x1b[H\x1b[2J")
	} else if iteration > 0 {
		page.WriteString("\n")
	}
	if !t.options.NoHeaders {
		fmt.Fprintf(&page, "%s  node %s %s, received %s/s, transmitted %s/s, dropped %s/s\n",
			v.Time.Local().Format(time.TimeOnly), v.Node, v.Health, output.Rate(v.Received), output.Rate(v.Transmitted), output.Rate(v.Dropped))
	}
	if err := t.table(v).Flush(&page); err != nil {
		return err
	}
	_, err := io.WriteString(t.out, page.String())
	return err
}

func (t *top) table(v *topView) *output.Table {
	if t.by == "reason" {
		table := t.options.Table("REASON", ">PACKETS/S")
		for _, r := range v.Rows {
			table.Row(r.Name, output.Rate(r.Packets))
		}
		return table
	}
	table := t.options.Table(strings.ToUpper(t.by), ">PACKETS/S", ">RATE", ">FLOWS/S", ">DROPS/S")
	for _, r := range v.Rows {
		table.Row(r.Name, output.Rate(r.Packets), output.Bits(r.Bytes), output.Rate(r.Flows), output.Rate(r.Drops))
	}
	return table
}

// terminal reports whether somebody watches.
func terminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
