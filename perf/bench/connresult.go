package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// connectionsName is what the contest is called, for -case and headings.
const connectionsName = "tcp connections"

// connBaseline is the proxy that ratios refer to.
var connBaseline = haproxyTCP.name

// Connections is the contest of TCP connections: each is opened, carries a
// request and a response, and is closed.
type Connections struct {
	RequestBytes  int                 `json:"requestBytes"`
	ResponseBytes int                 `json:"responseBytes"`
	Parallel      int                 `json:"parallel"` // connections at a time
	Results       []ConnectionsResult `json:"results"`
}

// ConnectionsResult is one proxy. Figures are medians over the rounds.
type ConnectionsResult struct {
	Name      string    `json:"name"`
	What      string    `json:"what"`
	NotRun    string    `json:"notRun,omitempty"`
	Failed    []string  `json:"failed,omitempty"` // errors of rounds that are not in the figures
	PerSecond float64   `json:"perSecond,omitempty"`
	Rounds    []float64 `json:"rounds,omitempty"` // connections a second in each round
	// UserUS and SystemUS are CPU time in us for each connection, of the proxy's
	// processes and of the threads that take in its host's frames; TotalUS is
	// the sum. This is what carries over to another machine.
	UserUS   float64 `json:"userUs,omitempty"`
	SystemUS float64 `json:"systemUs,omitempty"`
	TotalUS  float64 `json:"totalUs,omitempty"`
	// CPUs is how many CPUs the proxy kept busy.
	CPUs float64 `json:"cpus,omitempty"`
	// Broken are connections without a response, in all rounds.
	Broken uint64 `json:"broken"`
	// Ratio is PerSecond, and RatioUS TotalUS, against HAProxy's in the same rounds.
	Ratio   float64 `json:"ratio,omitempty"`
	RatioUS float64 `json:"ratioUs,omitempty"`
	Foreign float64 `json:"foreign"`
}

// connCollected are one proxy's rounds; nil for one that has failed.
type connCollected struct {
	notRun string
	failed []string
	rounds []*connMeasurement
}

func (c *connCollected) out() bool { return c.notRun != "" || len(c.failed) >= mostFailures }

// figure is a number of every round that has not failed.
func (c *connCollected) figure(f func(*connMeasurement) float64) []float64 {
	var values []float64
	for _, m := range c.rounds {
		if m != nil {
			values = append(values, f(m))
		}
	}
	return values
}

// runConnections has all proxies take turns in rounds. It goes on whatever
// fails, unless ctx ends.
func (k *kit) runConnections(ctx context.Context) (*Connections, error) {
	all := make([]connCollected, len(k.proxies))
	for i, who := range k.proxies {
		if who.refuse != nil {
			all[i].notRun = who.refuse()
		}
	}
	var err error
	if k.conns, err = newConnWorld(k.cpus); err != nil {
		for i := range all {
			all[i].notRun = fmt.Sprintf("build the lab: %v", err)
		}
	}
	for round := range k.rounds {
		for i, who := range k.proxies {
			if all[i].out() {
				continue
			}
			m, err := k.undisturbedConnections(ctx, who)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			all[i].rounds = append(all[i].rounds, m)
			if err != nil {
				all[i].failed = append(all[i].failed, err.Error())
				fmt.Fprintf(k.log, "%s: round %d: %s: %v\n", connectionsName, round+1, who.name, err)
				continue
			}
			k.foreign = max(k.foreign, m.foreign)
			fmt.Fprintf(k.log, "%s: round %d: %-18s %6.0f a second, %.1f us of CPU each, others took %.0f%% of the CPUs\n",
				connectionsName, round+1, who.name, m.perSecond(), m.totalUS(), 100*m.foreign)
		}
	}
	return k.connections(all), nil
}

func (k *kit) undisturbedConnections(ctx context.Context, who proxy) (*connMeasurement, error) {
	var best *connMeasurement
	for range k.attempts {
		m, err := k.measureConnections(ctx, k.conns, who)
		if err != nil {
			return nil, err
		}
		if best == nil || m.foreign < best.foreign {
			best = m
		}
		if best.foreign <= quiet {
			break
		}
	}
	return best, nil
}

// us is a time of the proxy's for each connection.
func (m *connMeasurement) us(ns int64) float64 {
	return float64(ns) / 1000 / max(float64(m.completed), 1)
}

func (m *connMeasurement) totalUS() float64 { return m.us(m.own.total.Nanoseconds()) }

func (k *kit) connections(all []connCollected) *Connections {
	c := &Connections{RequestBytes: requestLen, ResponseBytes: responseLen, Parallel: parallel}
	base := slices.IndexFunc(k.proxies, func(p proxy) bool { return p.name == connBaseline })
	for i, who := range k.proxies {
		one := ConnectionsResult{Name: who.name, What: who.what, NotRun: all[i].notRun, Failed: all[i].failed}
		one.Rounds = all[i].figure((*connMeasurement).perSecond)
		if one.NotRun == "" && len(one.Rounds) == 0 {
			one.NotRun, one.Failed = strings.Join(slices.Compact(one.Failed), "; "), nil
		}
		if one.NotRun == "" {
			one.fill(&all[i])
		}
		if one.NotRun == "" && base >= 0 {
			one.Ratio = connRatio(&all[i], &all[base], (*connMeasurement).perSecond)
			one.RatioUS = connRatio(&all[i], &all[base], (*connMeasurement).totalUS)
		}
		c.Results = append(c.Results, one)
	}
	return c
}

func (one *ConnectionsResult) fill(c *connCollected) {
	of := func(f func(*connMeasurement) float64) float64 { return median(c.figure(f)) }
	one.PerSecond = median(one.Rounds)
	one.UserUS = of(func(m *connMeasurement) float64 { return m.us(m.own.user().Nanoseconds()) })
	one.SystemUS = of(func(m *connMeasurement) float64 { return m.us(m.own.system().Nanoseconds()) })
	one.TotalUS = of((*connMeasurement).totalUS)
	one.CPUs = of(func(m *connMeasurement) float64 { return float64(m.own.total) / float64(m.duration) })
	one.Foreign = of(func(m *connMeasurement) float64 { return m.foreign })
	for _, m := range c.rounds {
		if m != nil {
			one.Broken += m.failed
		}
	}
}

// connRatio is the median of the ratios within each round.
func connRatio(one, base *connCollected, f func(*connMeasurement) float64) float64 {
	var ratios []float64
	for n := range min(len(one.rounds), len(base.rounds)) {
		if a, b := one.rounds[n], base.rounds[n]; a != nil && b != nil && f(b) > 0 {
			ratios = append(ratios, f(a)/f(b))
		}
	}
	return median(ratios)
}

// writeConnections prints the contest for people.
func writeConnections(out io.Writer, c *Connections) error {
	if c == nil {
		return nil
	}
	fmt.Fprintf(out, "\n%s, %d at a time, each with a request and a response of %d and %d bytes\n", connectionsName, c.Parallel, c.RequestBytes, c.ResponseBytes)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "contestant\ta second\tratio\tbroken\tuser us\tsys us\ttotal us\tratio\tCPUs\tothers\t\n")
	for _, r := range c.Results {
		if r.NotRun == "" {
			fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%d\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%.0f%%\t\n", r.Name, r.PerSecond, r.Ratio, r.Broken,
				r.UserUS, r.SystemUS, r.TotalUS, r.RatioUS, r.CPUs, 100*r.Foreign)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "Clients and servers have one CPU, the contestant the other. One that kept less of it busy could have carried more;\n"+
		"what carries over to another machine is its CPU time for a connection, waiting in a loop included.")
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
