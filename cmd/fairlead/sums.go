package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// allFlag adds --all.
func allFlag(c *cobra.Command, what string) *bool {
	return c.Flags().Bool("all", false, what)
}

// notBoth refuses --all with --node.
func notBoth(all bool, node *nodeFlags) error {
	if all && node.member != "" {
		return usageError("--all is all members, --node is one")
	}
	return nil
}

// showSummaries shows all members of the cluster.
func showSummaries(ctx context.Context, client *api.Client, o *output.Options, out io.Writer) error {
	s, err := client.NodeSummaries(ctx)
	if err != nil {
		return err
	}
	if err := o.Write(out, s, func(w io.Writer) error { return writeSummaries(w, o, s) }); err != nil {
		return err
	}
	if s.Health == api.HealthFailing {
		return exitWith(exitFailed, nil)
	}
	return nil
}

func writeSummaries(out io.Writer, o *output.Options, s *api.NodeSummaries) error {
	fmt.Fprintf(out, "health: %s\n", s.Health)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Summary == nil {
			fmt.Fprintf(out, "  %s does not answer: %s\n", n.Node, n.Error)
			continue
		}
		for _, c := range n.Summary.Conditions {
			fmt.Fprintf(out, "  %s: %s: %s: %s\n", n.Node, c.Health, c.Subject, c.Message)
		}
	}
	fmt.Fprintln(out)
	t := o.Table("NODE", "HEALTH", "VERSION", ">UP", ">SERVICES", ">BACKENDS", ">DOWN", ">CONFIG", ">GENERATION", ">RECEIVED", ">TRANSMITTED", ">DROPPED", "+>PASSED", "+>IN FLIGHT", "+>DIFFERENCE")
	for i := range s.Nodes {
		n := s.Nodes[i].Summary
		if n == nil {
			t.Row(s.Nodes[i].Node, "unknown")
			continue
		}
		l, c := &n.Ledger, &n.Counts
		t.Row(n.Node, string(n.Health), n.Version, output.Span(time.Duration(n.UptimeMS)*time.Millisecond), fmt.Sprint(c.Services), fmt.Sprint(c.Backends), fmt.Sprint(c.Down+c.Unresolved),
			fmt.Sprint(n.Desired.Version), fmt.Sprint(n.Generation.Acknowledged), output.Count(l.Received), output.Count(l.Transmitted), output.Count(l.Dropped),
			output.Count(l.Passed), output.Count(l.InFlight), fmt.Sprint(l.Difference))
	}
	l := &s.Ledger
	t.Row(fmt.Sprintf("all %d", len(s.Answered)), string(s.Health), "", "", "", "", "", "", "", output.Count(l.Received), output.Count(l.Transmitted), output.Count(l.Dropped),
		output.Count(l.Passed), output.Count(l.InFlight), fmt.Sprint(l.Difference))
	if err := t.Flush(out); err != nil {
		return err
	}
	return writeSumsOver(out, s.Answered, s.Unanswered)
}

// perNode adds columns for each node to the headings of a table.
func perNode(heads []string, nodes []string, what ...string) []string {
	for _, node := range nodes {
		for _, w := range what {
			heads = append(heads, "+>"+strings.ToUpper(w)+"@"+node)
		}
	}
	return heads
}

// listSummedServices lists services with what all members count.
func listSummedServices(ctx context.Context, client *api.Client, o *output.Options, query url.Values, out io.Writer) error {
	p, err := client.SummedServices(ctx, query)
	if err != nil {
		return err
	}
	return o.Write(out, p, func(w io.Writer) error { return writeSummedServices(w, o, p) })
}

func writeSummedServices(out io.Writer, o *output.Options, p *api.SummedServicePage) error {
	nodes := nodeNames(p.Services, func(s *api.SummedService) []api.ServiceOnNode { return s.Nodes }, func(n *api.ServiceOnNode) string { return n.Node })
	t := o.Table(perNode([]string{"NAME", "VIP", "PORTS", "METHOD", "POOL", ">UP", ">NODES", "+>ACTIVE", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS", "TABLE"}, nodes, "flows", "packets")...)
	for i := range p.Services {
		s := &p.Services[i]
		cells := []string{s.Name, s.VIP, s.Ports + "/" + s.Protocol, s.Method, s.Pool, upText(s.Nodes), fmt.Sprintf("%d/%d", len(s.Nodes), len(p.Answered)), optional(s.Active),
			output.Count(s.Flows), output.Count(s.Packets), output.Bytes(s.Bytes), output.Count(s.Drops), tableText(s.Nodes)}
		for _, node := range nodes {
			at := slices.IndexFunc(s.Nodes, func(n api.ServiceOnNode) bool { return n.Node == node })
			if at < 0 {
				cells = append(cells, "", "")
				continue
			}
			cells = append(cells, output.Count(s.Nodes[at].Flows), output.Count(s.Nodes[at].Packets))
		}
		t.Row(cells...)
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	return writeSumsOver(out, p.Answered, p.Unanswered)
}

// upText says how many backends are up, where members do not agree the least and
// the most.
func upText(nodes []api.ServiceOnNode) string {
	least, most, total := nodes[0].Up, nodes[0].Up, 0
	for _, n := range nodes {
		least, most, total = min(least, n.Up), max(most, n.Up), max(total, n.Total)
	}
	if least == most {
		return fmt.Sprintf("%d/%d", most, total)
	}
	return fmt.Sprintf("%d-%d/%d", least, most, total)
}

// tableText is the checksum of a service's table, when members agree on it.
func tableText(nodes []api.ServiceOnNode) string {
	for _, n := range nodes {
		if n.Table != nodes[0].Table {
			return "differs"
		}
	}
	return nodes[0].Table
}

// listSummedBackends lists backends with what all members count.
func listSummedBackends(ctx context.Context, client *api.Client, o *output.Options, query url.Values, out io.Writer) error {
	p, err := client.SummedBackends(ctx, query)
	if err != nil {
		return err
	}
	return o.Write(out, p, func(w io.Writer) error { return writeSummedBackends(w, o, p) })
}

func writeSummedBackends(out io.Writer, o *output.Options, p *api.SummedBackendPage) error {
	nodes := nodeNames(p.Backends, func(b *api.SummedBackend) []api.BackendOnNode { return b.Nodes }, func(n *api.BackendOnNode) string { return n.Node })
	heads := []string{"POOL", "NAME", "ADDRESS", "STATE", ">NODES", ">WEIGHT", "+>ACTIVE", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS"}
	for _, node := range nodes {
		heads = append(heads, "+STATE@"+node, "+>FLOWS@"+node, "+>PACKETS@"+node)
	}
	t := o.Table(heads...)
	for i := range p.Backends {
		b := &p.Backends[i]
		state := b.State
		if len(b.States) > 1 {
			state = statesText(b.States)
		}
		cells := []string{b.Pool, b.Name, endpoint(&b.Backend), state, fmt.Sprintf("%d/%d", len(b.Nodes), len(p.Answered)), fmt.Sprint(b.Weight), optional(b.Active),
			output.Count(b.Flows), output.Count(b.Packets), output.Bytes(b.Bytes), output.Count(b.Drops)}
		for _, node := range nodes {
			at := slices.IndexFunc(b.Nodes, func(n api.BackendOnNode) bool { return n.Node == node })
			if at < 0 {
				cells = append(cells, "", "", "")
				continue
			}
			n := &b.Nodes[at]
			cells = append(cells, n.State, output.Count(n.Flows), output.Count(n.Packets))
		}
		t.Row(cells...)
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	return writeSumsOver(out, p.Answered, p.Unanswered)
}

// statesText says how many members take a backend for what.
func statesText(states []api.NodesValue) string {
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("%s on %d", s.Value, len(s.Nodes)))
	}
	return strings.Join(parts, ", ")
}

// showSummedDrops shows what all members have dropped.
func showSummedDrops(ctx context.Context, client *api.Client, o *output.Options) error {
	d, err := client.SummedDrops(ctx)
	if err != nil {
		return err
	}
	return o.Write(os.Stdout, d, func(w io.Writer) error { return writeSummedDrops(w, o, d) })
}

func writeSummedDrops(out io.Writer, o *output.Options, d *api.SummedDrops) error {
	if len(d.Reasons) == 0 {
		fmt.Fprintln(out, "nothing was dropped")
		return writeSumsOver(out, d.Answered, d.Unanswered)
	}
	heads := []string{"WHERE", "REASON", ">PACKETS"}
	for i := range d.Nodes {
		heads = append(heads, "+>"+d.Nodes[i].Node)
	}
	t := o.Table(heads...)
	for _, r := range d.Reasons {
		cells := []string{r.Where, r.Reason, fmt.Sprint(r.Packets)}
		for i := range d.Nodes {
			cell := ""
			for _, of := range d.Nodes[i].Reasons {
				if of.Where == r.Where && of.Reason == r.Reason {
					cell = fmt.Sprint(of.Packets)
				}
			}
			cells = append(cells, cell)
		}
		t.Row(cells...)
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	if len(d.Services) > 0 {
		fmt.Fprintln(out)
		t = o.Table("SERVICE", ">PACKETS")
		for _, s := range d.Services {
			t.Row(s.Service, fmt.Sprint(s.Packets))
		}
		if err := t.Flush(out); err != nil {
			return err
		}
	}
	return writeSumsOver(out, d.Answered, d.Unanswered)
}
