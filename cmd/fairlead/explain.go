package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/cmd/fairlead/internal/output"
	"fairlead/configs"
	"fairlead/controlplane/api"
	"fairlead/dataplane/explain"
	"fairlead/dataplane/packet"
)

func newExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain CLIENT:PORT tcp|udp|sctp ADDRESS:PORT",
		Short: "Say stage by stage what a node, or a configuration, does with a flow",
		Long: `Say stage by stage what a running node does with the first packet of a flow: which
service it matches, where its hash falls in the table, which backend that is, how
packets get there, and what they look like then; or what is missing and why the
packet is dropped. When there is such a flow, it says where the flow table sends
its packets. IPv6 addresses stand in brackets. Nothing is sent.

With --config it says what a configuration would do, and needs neither a node nor
an interface nor any rights. Interfaces and next hops are those that the
configuration gives in [[interface]] and [[neighbor]].`,
		Example: `  fairlead explain 203.0.113.9:1234 tcp 198.18.0.10:80
  fairlead explain [2001:db8::9]:1234 udp [2001:db8:1::53]:53 -o json
  fairlead explain --config new.toml 203.0.113.9:1234 tcp 198.18.0.10:80`,
		Args: cobra.ExactArgs(3),
	}
	node, out := nodeFlag(c), output.Flags(c)
	path := c.Flags().StringP("config", "c", "", "configuration file to explain by, in place of a running node")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q, err := parseFlow(args)
		if err != nil {
			return exitWith(exitUsage, err)
		}
		if c.Flags().Changed("config") {
			return explainConfig(*path, out, q, os.Stdout)
		}
		return explainNode(node, out, api.ExplainQuery{Client: q.Client, Protocol: args[1], Destination: q.Destination}, os.Stdout)
	}
	return c
}

// parseFlow reads CLIENT:PORT PROTOCOL ADDRESS:PORT.
func parseFlow(args []string) (q explain.Query, err error) {
	if q.Client, err = parseEnd(args[0]); err != nil {
		return q, fmt.Errorf("client: %w", err)
	}
	protocols := map[string]uint8{"tcp": packet.ProtoTCP, "udp": packet.ProtoUDP, "sctp": packet.ProtoSCTP}
	var known bool
	if q.Protocol, known = protocols[args[1]]; !known {
		return q, fmt.Errorf("unknown protocol %q: it is tcp, udp or sctp", args[1])
	}
	if q.Destination, err = parseEnd(args[2]); err != nil {
		return q, fmt.Errorf("destination: %w", err)
	}
	return q, nil
}

func parseEnd(text string) (netip.AddrPort, error) {
	end, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return end, fmt.Errorf("%q is no address and port such as 192.0.2.1:80 or [2001:db8::1]:80", text)
	case end.Addr().Zone() != "":
		return end, fmt.Errorf("%q: an address with a zone is not forwarded", text)
	case end.Addr().Is4In6():
		return end, fmt.Errorf("%q: write an IPv4 address as such", text)
	}
	return end, nil
}

// explainConfig explains by a configuration.
func explainConfig(path string, o *output.Options, q explain.Query, out io.Writer) error {
	cfg, err := configs.Load(path)
	if err != nil {
		return err
	}
	snapshot, _, err := offline.Snapshot(cfg)
	if err != nil {
		return err
	}
	e, err := explain.Explain(snapshot, q)
	if errors.Is(err, explain.ErrQuery) {
		return exitWith(exitUsage, err)
	}
	if err != nil {
		return err
	}
	return o.Write(out, e, e.Write)
}

// explainNode explains by what a node has in force.
func explainNode(node *nodeFlags, o *output.Options, q api.ExplainQuery, out io.Writer) error {
	client, err := node.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(askWithin)
	defer cancel()
	e, err := client.Explain(ctx, q)
	if err != nil {
		return err
	}
	return o.Write(out, e, func(w io.Writer) error { return writeExplanation(w, e) })
}

// writeExplanation writes the stages, and the flow when there is one.
func writeExplanation(out io.Writer, e *api.Explanation) error {
	if err := e.Write(out); err != nil || e.Flow == nil {
		return err
	}
	f := e.Flow
	where := f.Backend
	if where == "" {
		where = "a backend that is no more"
	} else if f.Address != "" {
		where += " (" + f.Address + ")"
	}
	_, err := fmt.Fprintf(out, "\nThere is such a flow: %s, to %s, idle %s. Its packets go there; the stages above are those of a new one.\n",
		f.State, where, output.Span(time.Duration(f.IdleMS)*time.Millisecond))
	return err
}
