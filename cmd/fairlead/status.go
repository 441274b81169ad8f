package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how a running node is: services, backends, and where every packet went",
		Args:  cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		client, err := node.client()
		if err != nil {
			return err
		}
		ctx, cancel := askContext(askWithin)
		defer cancel()
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		return out.Write(os.Stdout, s, func(w io.Writer) error { return writeStatus(w, out, s) })
	}
	return c
}

func writeStatus(out io.Writer, o *output.Options, s *api.Status) error {
	fmt.Fprintf(out, "node %s, version %s, up %v\n", s.Node, s.Version, (time.Duration(s.UptimeMS) * time.Millisecond).Round(time.Second))
	writeDesired(out, &s.Desired, time.Now())
	fmt.Fprintf(out, "generation: published %d, acknowledged %d\n", s.Generation.Published, s.Generation.Acknowledged)
	fmt.Fprintf(out, "data process: pid %d, uid %d, %d workers, replaced %d times\n\n", s.Data.PID, s.Data.UID, s.Data.Workers, s.Data.Restarts)
	t := o.Table("SERVICE", "VIP", "PORTS", "METHOD", "BACKEND", "STATE", ">WEIGHT", ">FLOWS", ">PACKETS", ">BYTES", ">DROPS")
	n := func(v uint64) string { return strconv.FormatUint(v, 10) }
	for _, v := range s.Services {
		t.Row(v.Name, v.VIP, v.Ports+"/"+v.Protocol, v.Method, "", "", "", n(v.Flows), n(v.Packets), n(v.Bytes), n(v.Drops))
		for _, b := range v.Backends {
			t.Row("", "", "", "", b.Name, b.State, n(uint64(b.Weight)), n(b.Flows), n(b.Packets), n(b.Bytes), n(b.Drops))
		}
	}
	if err := t.Flush(out); err != nil {
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
