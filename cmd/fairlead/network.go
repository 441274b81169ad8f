package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newNeighbors() *cobra.Command {
	c := &cobra.Command{
		Use:   "neighbors",
		Short: "Show the hosts that backends are reached by, and which of them do not answer",
		Long: `Show the neighbours that backends and gateways are reached by: those with a
problem first, and what to do about it. An Ethernet address that is known stays
in use while its owner does not answer; a backend whose address is not known gets
no traffic.`,
		Args: cobra.NoArgs,
	}
	node, options, problems := memberFlag(c), output.Flags(c), problemsFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		return node.within(askWithin, func(ctx context.Context, client *api.Client) error {
			return writeNeighbors(os.Stdout, options, time.Now(), func(f func(*api.Neighbor) error) error { return client.Neighbors(ctx, problems.query(), f) })
		})
	}
	return c
}

func newRoutes() *cobra.Command {
	c := &cobra.Command{
		Use:   "routes",
		Short: "Show how each backend is reached",
		Long: `Show the next hops of each backend's address, as the routes of the host give
them, those with a problem first. Of several next hops an address uses one;
addresses spread over them by weight, and leave one that does not answer.`,
		Args: cobra.NoArgs,
	}
	node, options, problems := memberFlag(c), output.Flags(c), problemsFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		return node.within(askWithin, func(ctx context.Context, client *api.Client) error {
			return writeWays(os.Stdout, options, func(f func(*api.Route) error) error { return client.Routes(ctx, problems.query(), f) })
		})
	}
	return c
}

func newAddresses() *cobra.Command {
	c := &cobra.Command{
		Use:   "addresses",
		Short: "Show the node's VIPs and SNAT addresses, and how they are announced by ARP and neighbour discovery",
		Args:  cobra.NoArgs,
	}
	node, options := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		return node.within(askWithin, func(ctx context.Context, client *api.Client) error {
			return writeAddresses(os.Stdout, options, time.Now(), func(f func(*api.Address) error) error { return client.Addresses(ctx, nil, f) })
		})
	}
	return c
}

// problemsOnly says whether a list is of what is wrong, and not of everything.
type problemsOnly bool

// problemsFlag adds --problems.
func problemsFlag(c *cobra.Command) *problemsOnly {
	p := new(bool)
	c.Flags().BoolVar(p, "problems", false, "only those with a problem")
	return (*problemsOnly)(p)
}

func (p *problemsOnly) query() url.Values {
	if !*p {
		return url.Values{}
	}
	return url.Values{"problems": {"true"}}
}

// trouble is what is wrong, and what to do about it.
func trouble(problem, advice string) string {
	if advice == "" {
		return problem
	}
	return problem + "; " + advice
}

func writeNeighbors(out io.Writer, options *output.Options, now time.Time, each func(func(*api.Neighbor) error) error) error {
	table := options.Table("INTERFACE", "ADDRESS", "MAC", "STATE", "AGE", ">TARGETS", "+FOR", "PROBLEM")
	row := func(t *output.Table, n *api.Neighbor) {
		t.Row(n.Interface, n.Address, n.MAC, n.State, age(n.Since, now), output.Count(uint64(n.Targets)), strings.Join(n.For, " "), trouble(n.Problem, n.Advice))
	}
	return output.List(options, out, "neighbors", table, row, each)
}

// age is how long ago something was, empty when it was not.
func age(at *time.Time, now time.Time) string {
	if at == nil {
		return ""
	}
	return output.Age(*at, now)
}

func writeWays(out io.Writer, options *output.Options, each func(func(*api.Route) error) error) error {
	table := options.Table("TARGET", "BACKENDS", "INTERFACE", "BY", "MAC", "+HOPS", "PROBLEM")
	row := func(t *output.Table, r *api.Route) {
		backends := strings.Join(r.Backends, " ")
		if more := r.Count - len(r.Backends); more > 0 {
			backends += fmt.Sprintf(" and %d more", more)
		}
		var first api.RouteHop
		var hops []string
		for i, h := range r.Hops {
			if i == 0 {
				first = h
			}
			hops = append(hops, fmt.Sprintf("%s@%s*%d(%s)", h.Address, h.Interface, h.Weight, h.State))
		}
		if len(r.Hops) > 0 && first.Address == r.Target {
			first.Address = "on link"
		}
		t.Row(r.Target, backends, first.Interface, first.Address, first.MAC, strings.Join(hops, " "), trouble(r.Problem, r.Advice))
	}
	return output.List(options, out, "routes", table, row, each)
}

func writeAddresses(out io.Writer, options *output.Options, now time.Time, each func(func(*api.Address) error) error) error {
	table := options.Table("ADDRESS", "KIND", "ANSWERED", "OWNER", "ANNOUNCED ON", ">TIMES", "LAST", "PROBLEM")
	row := func(t *output.Table, a *api.Address) {
		answered, times, problem := "no", "", ""
		if a.Answered {
			answered = "yes"
		}
		if len(a.Interfaces) > 0 {
			times = output.Count(uint64(a.Announced))
		}
		if c := a.Conflict; c != nil {
			problem = fmt.Sprintf("claimed by %s on %s, too, last %s ago", c.MAC, c.Interface, output.Age(c.Last, now))
		}
		t.Row(a.Address, a.Kind, answered, a.Owner, strings.Join(a.Interfaces, " "), times, age(a.Last, now), problem)
	}
	return output.List(options, out, "addresses", table, row, each)
}
