package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newCluster() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Show and change the cluster that a running node is in",
		Long: `Show and change the cluster that a running node is in. Any member can be asked, and
shows the same; what it shows of others is their own word, which it asks them for
at once. A member that does not answer within two seconds is listed with the
reason.

Other commands show all members with --all, and one with --node.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newClusterMembers(), newClusterStatus(), newClusterDiff(), newClusterKey(), newClusterRevoke(), newClusterRevoked(), newClusterRestore())
	return c
}

func newClusterMembers() *cobra.Command {
	c := &cobra.Command{
		Use:   "members",
		Short: "List the members of the cluster",
		Long: `List the members of the cluster: whether they live, how they are, what they own
and carry.

STATE is "alive", "suspect" (it has not answered, and may yet), "dead" (it has not
answered for too long) or "left" (it has said that it goes), as the node sees it that
is asked, since SINCE. PHASE is how far it is out of service. VIPS are those that it
answers for by ARP and neighbour discovery, of all. RATE is what it receives. With -o
wide, WIRE is which versions of messages between nodes it reads.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		return answer(node, askWithin, out, (*api.Client).ClusterMembers, func(w io.Writer, m *api.ClusterMembers) error {
			return writeMembers(w, out, m.Members, time.Now())
		})
	}
	return c
}

func writeMembers(out io.Writer, o *output.Options, members []api.ClusterMember, now time.Time) error {
	t := o.Table("NAME", "STATE", "SINCE", "HEALTH", "PHASE", ">VIPS", ">PACKETS/S", ">RATE", ">FLOWS", "VERSION", "+WIRE", "ADDRESS", "+STREAM", "+STARTED", "+DRAINED BY", "ERROR")
	for i := range members {
		m := &members[i]
		name := m.Name
		if m.Self {
			name += " *"
		}
		vips, packets, rate, flows := "", "", "", ""
		if m.VIPs != nil {
			vips = fmt.Sprintf("%d/%d", m.VIPs.Owned, m.VIPs.All)
		}
		if m.Load != nil {
			packets, rate, flows = output.Rate(m.Load.PacketsPerSecond), output.Bits(m.Load.BytesPerSecond), optional(m.Load.Flows)
		}
		drained := ""
		if m.Drained != nil {
			drained = m.Drained.By
		}
		phase := m.Phase
		if phase == "" && m.Drained != nil {
			phase = "to be drained"
		}
		t.Row(name, m.State, output.Age(m.Since, now), string(m.Health), phase, vips, packets, rate, flows, m.Version,
			wireRange(m), m.Address, m.Stream, age(m.Started, now), drained, m.Error)
	}
	return t.Flush(out)
}

func wireRange(m *api.ClusterMember) string {
	if m.WireMin == m.WireMax {
		return strconv.Itoa(m.WireMax)
	}
	return fmt.Sprintf("%d-%d", m.WireMin, m.WireMax)
}

func newClusterStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the cluster is as a whole",
		Long: `Show how the cluster is as a whole: what is not as it is wanted, the members, and
whether they agree on what is to be equal on all of them: the software, the hash seed,
what is declared and set, and the Maglev tables. Members may disagree for the moment
that a change takes to reach all. Tables that differ for longer than ten seconds are an
alarm: packets of one connection could go to different backends.

The exit status is 1 when something fails.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		s, err := answered(node, askWithin, out, (*api.Client).ClusterStatus, func(w io.Writer, s *api.ClusterStatus) error {
			return writeClusterStatus(w, out, s, time.Now())
		})
		if err == nil && s.Health == api.HealthFailing {
			err = exitWith(exitFailed, nil)
		}
		return err
	}
	return c
}

func writeClusterStatus(out io.Writer, o *output.Options, s *api.ClusterStatus, now time.Time) error {
	fmt.Fprintf(out, "health: %s\n", s.Health)
	for _, c := range s.Conditions {
		fmt.Fprintf(out, "  %s: %s: %s\n", c.Health, c.Subject, c.Message)
	}
	k := &s.Counts
	fmt.Fprintf(out, "%s as %s sees them: %d alive, %d suspect, %d dead, %d left; %d drained; %d answered\n",
		counted(k.Members, "member"), s.Node, k.Alive, k.Suspect, k.Dead, k.Left, k.Drained, k.Answered)
	fmt.Fprintf(out, "messages between nodes: version %d\n\n", s.Wire)
	if err := writeMembers(out, o, s.Members, now); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t := o.Table("TO BE EQUAL", "AGREED", "VALUES")
	for i := range s.Agreements {
		a := &s.Agreements[i]
		agreed := "yes"
		if !a.Agreed() {
			agreed = "no"
		}
		t.Row(a.What, agreed, valuesText(a.Values))
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	if len(s.Shared) > 0 && o.Format == output.FormatWide {
		fmt.Fprintf(out, "\nshared: %s\n", counts(s.Shared))
	}
	return nil
}

// valuesText writes what nodes have: one value as it is, several with their nodes.
func valuesText(values []api.NodesValue) string {
	if len(values) == 1 {
		return values[0].Value
	}
	var parts []string
	for _, v := range values {
		parts = append(parts, valueText(&v)+" ("+strings.Join(v.Nodes, ", ")+")")
	}
	return strings.Join(parts, "; ")
}

func valueText(v *api.NodesValue) string {
	if v.Absent {
		return "none"
	}
	return v.Value
}

func newClusterDiff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff [NODE]",
		Short: "Show what differs between members of the cluster",
		Long: `Show what differs between the members of the cluster, or with NODE between the node
that is asked and that one: software, hash seed, what is declared and what operators
have set, by object and field, and Maglev tables with what their difference comes from.

The exit status is 1 when something differs.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromNode(0, memberNames),
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		diff := func(c *api.Client, ctx context.Context) (*api.ClusterDiff, error) {
			return c.ClusterDiff(ctx, strings.Join(args, ""))
		}
		d, err := answered(node, askWithin, out, diff, func(w io.Writer, d *api.ClusterDiff) error {
			return writeClusterDiff(w, out, d)
		})
		if err == nil && !d.Same {
			err = exitWith(exitFailed, nil)
		}
		return err
	}
	return c
}

func writeClusterDiff(out io.Writer, o *output.Options, d *api.ClusterDiff) error {
	if d.Same {
		fmt.Fprintf(out, "nothing differs between %s\n", strings.Join(d.Nodes, ", "))
	}
	t := o.Table("WHAT", "NAME", "FIELD", "VALUE", "NODES", "WHY")
	for i := range d.Differences {
		f := &d.Differences[i]
		for j := range f.Values {
			what, name, field, why := f.Kind, f.Name, f.Field, f.Why
			if j > 0 {
				what, name, field, why = " ", " ", " ", " "
			}
			t.Row(what, name, field, valueText(&f.Values[j]), strings.Join(f.Values[j].Nodes, ", "), why)
		}
	}
	if len(d.Differences) > 0 {
		if err := t.Flush(out); err != nil {
			return err
		}
	}
	if d.More > 0 {
		fmt.Fprintf(out, "and %d more objects\n", d.More)
	}
	return writeUnanswered(out, d.Unanswered)
}

// writeUnanswered names members that there is nothing of.
func writeUnanswered(out io.Writer, list []api.NodeError) error {
	for _, u := range list {
		if _, err := fmt.Fprintf(out, "without %s: %s\n", u.Node, u.Error); err != nil {
			return err
		}
	}
	return nil
}

// writeSumsOver says which members sums are over, when some are missing.
func writeSumsOver(out io.Writer, answered []string, unanswered []api.NodeError) error {
	if len(unanswered) == 0 {
		return nil
	}
	fmt.Fprintf(out, "sums are over %d of %d members: %s\n", len(answered), len(answered)+len(unanswered), strings.Join(answered, ", "))
	return writeUnanswered(out, unanswered)
}

// nodeNames are the nodes of lists, each once and by name.
func nodeNames[T, N any](items []T, nodes func(*T) []N, name func(*N) string) (names []string) {
	for i := range items {
		for _, n := range nodes(&items[i]) {
			names = append(names, name(&n))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
