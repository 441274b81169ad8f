package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fairlead/controlplane/api"
)

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how a running node is: services, backends, and where every packet went",
		Args:  cobra.NoArgs,
	}
	socket := c.Flags().String("socket", api.DefaultSocket, "Unix socket of the node's admin API")
	format := c.Flags().StringP("output", "o", "table", "table or json")
	c.RunE = func(*cobra.Command, []string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s, err := api.NewClient(*socket).Status(ctx)
		if err != nil {
			return err
		}
		switch *format {
		case "table":
			return writeStatus(os.Stdout, s)
		case "json":
			e := json.NewEncoder(os.Stdout)
			e.SetIndent("", "  ")
			return e.Encode(s)
		}
		return fmt.Errorf("unknown output format %q: it is table or json", *format)
	}
	return c
}

func writeStatus(out io.Writer, s *api.Status) error {
	fmt.Fprintf(out, "node %s, version %s, up %v\n", s.Node, s.Version, (time.Duration(s.UptimeMS) * time.Millisecond).Round(time.Second))
	fmt.Fprintf(out, "generation: published %d, acknowledged %d\n", s.Generation.Published, s.Generation.Acknowledged)
	fmt.Fprintf(out, "data process: pid %d, uid %d, %d workers, replaced %d times\n\n", s.Data.PID, s.Data.UID, s.Data.Workers, s.Data.Restarts)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tVIP\tPORTS\tMETHOD\tBACKEND\tSTATE\tWEIGHT\tFLOWS\tPACKETS\tBYTES\tDROPS")
	for _, v := range s.Services {
		fmt.Fprintf(t, "%s\t%s\t%s/%s\t%s\t\t\t\t%d\t%d\t%d\t%d\n", v.Name, v.VIP, v.Ports, v.Protocol, v.Method, v.Flows, v.Packets, v.Bytes, v.Drops)
		for _, b := range v.Backends {
			fmt.Fprintf(t, "\t\t\t\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", b.Name, b.State, b.Weight, b.Flows, b.Packets, b.Bytes, b.Drops)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	l := &s.Ledger
	fmt.Fprintf(out, "\nledger: received %d + created %d = transmitted %d + passed %d + dropped %d + in flight %d (difference %d)\n",
		l.Received, l.Created, l.Transmitted, l.Passed, l.Dropped, l.InFlight, l.Difference)
	for _, name := range slices.Sorted(maps.Keys(l.Reasons)) {
		fmt.Fprintf(out, "  %-24s %d\n", name, l.Reasons[name])
	}
	for i, w := range s.Workers {
		fmt.Fprintf(out, "  worker %d: received %d, transmitted %d, dropped %d\n", i, w.Received, w.Transmitted, w.Dropped)
	}
	fmt.Fprintf(out, "\nXDP program:  %s\n", counts(s.Steering))
	fmt.Fprintf(out, "sockets:      %s\n", counts(s.Sockets))
	for _, w := range s.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	return nil
}

// counts writes named counters in one line.
func counts(m map[string]uint64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(list, ", ")
}
