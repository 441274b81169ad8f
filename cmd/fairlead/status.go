package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// servicesInStatus is how many services a status shows as a table.
const servicesInStatus = 100

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how a running node is: its health, services, backends, and where every packet went",
		Long: `Show how a running node is: whether all is as it is wanted, how far the desired
state has come, services and backends with their counters, and the ledger in
which every packet has ended for a named reason.

As a table the first 100 services are shown; "fairlead services" and "fairlead
backends" list all. JSON and YAML have all of them.

With --all every member of the cluster is shown in a line, with what is not as it is
wanted, and the sums over all.

The exit status is 1 when the node, or a service of it, fails; with --all, of any.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	all := allFlag(c, "all members of the cluster, and what they count together")
	c.RunE = func(*cobra.Command, []string) error {
		if err := notBoth(*all, node); err != nil {
			return err
		}
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(askWithin)
		defer cancel()
		if *all {
			return showSummaries(ctx, client, out, os.Stdout)
		}
		s, err := statusOf(ctx, client, out.Tabular())
		if err != nil {
			return err
		}
		if err := out.Write(os.Stdout, s, func(w io.Writer) error { return writeStatus(w, out, s, time.Now()) }); err != nil {
			return err
		}
		if s.Health == api.HealthFailing {
			return exitWith(exitFailed, nil)
		}
		return nil
	}
	return c
}

// errEnough ends a list that need not be complete.
var errEnough = errors.New("enough")

// statusOf asks for a node's status, with the first of its services or with all.
func statusOf(ctx context.Context, client *api.Client, first bool) (*api.Status, error) {
	if !first {
		return client.Status(ctx)
	}
	summary, err := client.Summary(ctx)
	if err != nil {
		return nil, err
	}
	s := &api.Status{Summary: *summary}
	query := url.Values{"backends": {"true"}, "limit": {strconv.Itoa(servicesInStatus)}}
	err = client.Services(ctx, query, func(v *api.Service) error {
		if len(s.Services) == servicesInStatus {
			return errEnough
		}
		s.Services = append(s.Services, *v)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return s, err
}

func writeStatus(out io.Writer, o *output.Options, s *api.Status, now time.Time) error {
	fmt.Fprintf(out, "health: %s\n", s.Health)
	for _, c := range s.Conditions {
		fmt.Fprintf(out, "  %s: %s: %s\n", c.Health, c.Subject, c.Message)
	}
	fmt.Fprintf(out, "node %s, version %s, up %s\n", s.Node, s.Version, output.Span(time.Duration(s.UptimeMS)*time.Millisecond))
	writeDesired(out, &s.Desired, now)
	fmt.Fprintf(out, "generation: published %d, acknowledged %d\n", s.Generation.Published, s.Generation.Acknowledged)
	fmt.Fprintf(out, "data process: pid %d, uid %d, %s, replaced %s\n", s.Data.PID, s.Data.UID, counted(s.Data.Workers, "worker"), counted(s.Data.Restarts, "time"))
	c := &s.Counts
	fmt.Fprintf(out, "%s, %s, %s: %d up, %d down, %d draining, %d unresolved\n\n",
		counted(c.Services, "service"), counted(c.Pools, "pool"), counted(c.Backends, "backend"), c.Up, c.Down, c.Draining, c.Unresolved)
	if err := writeStatusServices(out, o, s); err != nil {
		return err
	}
	writeLedger(out, s)
	fmt.Fprintf(out, "\nXDP program:  %s\n", counts(s.Steering))
	_, err := fmt.Fprintf(out, "sockets:      %s\n", counts(s.Sockets))
	return err
}

func writeStatusServices(out io.Writer, o *output.Options, s *api.Status) error {
	if len(s.Services) == 0 {
		return nil
	}
	t := o.Table("SERVICE", "VIP", "PORTS", "METHOD", "BACKEND", "STATE", ">WEIGHT", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS")
	for i := range s.Services {
		v := &s.Services[i]
		t.Row(v.Name, v.VIP, v.Ports+"/"+v.Protocol, v.Method, " ", " ", " ", output.Count(v.Flows), output.Count(v.Packets), output.Bytes(v.Bytes), output.Count(v.Drops))
		for j := range v.Backends {
			b := &v.Backends[j]
			t.Row(" ", " ", " ", " ", b.Name, b.State, strconv.Itoa(int(b.Weight)), output.Count(b.Flows), output.Count(b.Packets), output.Bytes(b.Bytes), output.Count(b.Drops))
		}
	}
	if err := t.Flush(out); err != nil {
		return err
	}
	if more := s.Counts.Services - len(s.Services); more > 0 {
		fmt.Fprintf(out, "and %d more: fairlead services, fairlead backends\n", more)
	}
	fmt.Fprintln(out)
	return nil
}

func writeLedger(out io.Writer, s *api.Status) {
	l := &s.Ledger
	fmt.Fprintf(out, "ledger: received %d + created %d = transmitted %d + passed %d + dropped %d + in flight %d (difference %d)\n",
		l.Received, l.Created, l.Transmitted, l.Passed, l.Dropped, l.InFlight, l.Difference)
	for _, name := range slices.Sorted(maps.Keys(l.Reasons)) {
		fmt.Fprintf(out, "  %-24s %d\n", name, l.Reasons[name])
	}
	for i, w := range s.Workers {
		fmt.Fprintf(out, "  worker %d: received %d, transmitted %d, dropped %d\n", i, w.Received, w.Transmitted, w.Dropped)
	}
}

// counts writes named counters in one line.
func counts(m map[string]uint64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(list, ", ")
}
