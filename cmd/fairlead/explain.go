package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/offline"
	"fairlead/configs"
	"fairlead/dataplane/explain"
	"fairlead/dataplane/packet"
)

func newExplain() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain CLIENT:PORT tcp|udp|sctp ADDRESS:PORT",
		Short: "Say stage by stage what a configuration does with a flow",
		Long: `Say stage by stage what a configuration does with the first packet of a flow:
which service it matches, where its hash falls in the table, which backend that
is, how packets get there, and what they look like then; or what is missing and
why the packet is dropped. IPv6 addresses stand in brackets.

It needs neither an interface nor any rights. Interfaces and next hops are those
that the configuration gives in [[interface]] and [[neighbor]].`,
		Example: `  fairlead explain 203.0.113.9:1234 tcp 198.18.0.10:80
  fairlead explain [2001:db8::9]:1234 udp [2001:db8:1::53]:53 -o json`,
		Args: cobra.ExactArgs(3),
	}
	path := configFlag(c)
	format := c.Flags().StringP("output", "o", "text", "text or json")
	c.RunE = func(_ *cobra.Command, args []string) error {
		q, err := parseFlow(args)
		if err != nil {
			return exitWith(exitUsage, err)
		}
		return runExplain(*path, *format, q, os.Stdout)
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

func runExplain(path, format string, q explain.Query, out io.Writer) error {
	if format != "text" && format != "json" {
		return usageError("unknown output format %q: it is text or json", format)
	}
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
	if format == "text" {
		return e.Write(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(e)
}
