package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// listWithin is how long a list of any length may take.
const listWithin = 10 * time.Minute

func newServices() *cobra.Command {
	c := &cobra.Command{
		Use:   "services [NAME]",
		Short: "List the services of a running node, or show one with its backends",
		Long: `List the services of a running node by name, or show one with its backends.
Flows are those that have begun since the node did; with -o wide, ACTIVE are those
in the flow table.

With --all numbers are sums over all members of the cluster. UP is the least and the
most that members have, where they do not agree; NODES says how many have the service.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromNode(0, serviceNames),
	}
	node, out := memberFlag(c), output.Flags(c)
	all := allFlag(c, "sums over all members of the cluster; -o wide has each member's part")
	filter := make(map[string]*string)
	for name, says := range map[string]string{"vip": "only services of this address", "protocol": "only services of this protocol: tcp, udp or sctp", "pool": "only services that use this pool"} {
		filter[name] = c.Flags().String(name, "", says)
	}
	completeFlag(c, "pool", poolNames)
	c.RunE = func(_ *cobra.Command, args []string) error {
		query := filled(filter)
		if len(args) == 1 && len(query) > 0 {
			return usageError("a service is shown by its name alone")
		}
		if len(args) == 1 && *all {
			return usageError("--all lists services; one is shown of one node, --node")
		}
		if err := notBoth(*all, node); err != nil {
			return err
		}
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(listWithin)
		defer cancel()
		if len(args) == 1 {
			return showService(ctx, client, out, args[0], os.Stdout)
		}
		if out.Format != output.FormatTable {
			query.Set("active", "true")
		}
		if *all {
			return listSummedServices(ctx, client, out, query, os.Stdout)
		}
		return listServices(ctx, client, out, query, os.Stdout)
	}
	return c
}

// filled are the flags that were given, as a query.
func filled(flags map[string]*string) url.Values {
	query := make(url.Values)
	for name, value := range flags {
		if *value != "" {
			query.Set(name, *value)
		}
	}
	return query
}

func serviceTable(o *output.Options) *output.Table {
	return o.Table("NAME", "VIP", "PORTS", "METHOD", "POOL", ">UP", "+>ACTIVE", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS", "+TABLE")
}

func serviceRow(t *output.Table, s *api.Service) {
	t.Row(s.Name, s.VIP, s.Ports+"/"+s.Protocol, s.Method, s.Pool, fmt.Sprintf("%d/%d", s.Up, s.Total), optional(s.Active),
		output.Count(s.Flows), output.Count(s.Packets), output.Bytes(s.Bytes), output.Count(s.Drops), s.Table)
}

// optional is a number that may not be known.
func optional(n *uint64) string {
	if n == nil {
		return ""
	}
	return output.Count(*n)
}

func listServices(ctx context.Context, client *api.Client, o *output.Options, query url.Values, out io.Writer) error {
	return output.List(o, out, "services", serviceTable(o), serviceRow, func(add func(*api.Service) error) error {
		return client.Services(ctx, query, add)
	})
}

func showService(ctx context.Context, client *api.Client, o *output.Options, name string, out io.Writer) error {
	s, err := client.Service(ctx, name)
	if err != nil {
		return err
	}
	return o.Write(out, s, func(w io.Writer) error {
		t := serviceTable(o)
		serviceRow(t, s)
		if err := t.Flush(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
		b := backendTable(o)
		for i := range s.Backends {
			backendRow(b, &api.PoolBackend{Pool: s.Pool, Backend: s.Backends[i]}, time.Now())
		}
		return b.Flush(w)
	})
}

func newBackends() *cobra.Command {
	c := &cobra.Command{
		Use:   "backends",
		Short: "List the backends of a running node: state, health, share and counters",
		Long: `List the backends of a running node by pool and name. SHARE is the part of new
flows that a backend gets, as the pool's table has it. Counters are of all
services that use the pool.

STATE is "up", "down" (its checks failed, or an operator disabled it), "draining"
(no new flows) or "unresolved" (the way to it is not known: "fairlead neighbors").
CHECK is what its health checks say; in a cluster, what the nodes that check it say
together. With -o wide, ACTIVE are its flows in the flow table, NODES is what each node
of a cluster says, and the last failure is shown.

With --all numbers are sums over all members of the cluster, and STATE says how many
members take the backend for what, where they do not agree.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	all := allFlag(c, "sums over all members of the cluster; -o wide has each member's part")
	filter := make(map[string]*string)
	for name, says := range map[string]string{
		"service": "only backends of this service's pool", "pool": "only backends of this pool",
		"state": "only backends in this state: up, down, draining or unresolved",
	} {
		filter[name] = c.Flags().String(name, "", says)
	}
	completeFlag(c, "service", serviceNames)
	completeFlag(c, "pool", poolNames)
	completeFlag(c, "state", func(context.Context, *api.Client) ([]string, error) {
		return []string{"up", "down", "draining", "unresolved"}, nil
	})
	c.RunE = func(*cobra.Command, []string) error {
		if err := notBoth(*all, node); err != nil {
			return err
		}
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(listWithin)
		defer cancel()
		query := filled(filter)
		if out.Format != output.FormatTable {
			query.Set("active", "true")
		}
		if *all {
			return listSummedBackends(ctx, client, out, query, os.Stdout)
		}
		now := time.Now()
		row := func(t *output.Table, b *api.PoolBackend) { backendRow(t, b, now) }
		return output.List(out, os.Stdout, "backends", backendTable(out), row, func(add func(*api.PoolBackend) error) error {
			return client.Backends(ctx, query, add)
		})
	}
	return c
}

func backendTable(o *output.Options) *output.Table {
	return o.Table("POOL", "BACKEND", "ADDRESS", "STATE", "CHECK", ">LATENCY", ">WEIGHT", ">SHARE", "+>ACTIVE", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS", "+SINCE", "+NODES", "+ERROR")
}

func backendRow(t *output.Table, b *api.PoolBackend, now time.Time) {
	check, latency, since, failure := "", "", "", ""
	if h := b.Health; h != nil {
		check, failure, since = h.State, h.Error, output.Age(h.Since, now)
		if h.LatencyUS > 0 {
			latency = output.Span(time.Duration(h.LatencyUS) * time.Microsecond)
		}
	}
	t.Row(b.Pool, b.Name, endpoint(&b.Backend), b.State, check, latency, strconv.Itoa(int(b.Weight)), output.Percent(b.Expected), optional(b.Active),
		output.Count(b.Flows), output.Count(b.Packets), output.Bytes(b.Bytes), output.Count(b.Drops), since, nodesText(b.Health), failure)
}

// nodesText is what each node of a cluster has found of a backend: "lb1=up lb2=down".
// One that does not count is in parentheses.
func nodesText(h *api.BackendHealth) string {
	if h == nil {
		return ""
	}
	var out []string
	for _, n := range h.Nodes {
		text := n.Node + "=" + n.State
		if n.Ignored != "" {
			text = "(" + text + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}
