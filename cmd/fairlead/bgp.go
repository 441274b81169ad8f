package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newBGP() *cobra.Command {
	c := &cobra.Command{Use: "bgp", Short: "Show what routers are told by BGP"}
	c.AddCommand(newBGPPeers(), newBGPRoutes())
	return c
}

func newBGPPeers() *cobra.Command {
	c := &cobra.Command{
		Use:   "peers",
		Short: "Show the BGP sessions with routers",
		Long: `Show the BGP sessions with routers. The exit status is 1 when a session does not
stand.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var s api.BGP
		if err := node.ask(http.MethodGet, "/v1/bgp", nil, &s); err != nil {
			return err
		}
		if err := out.Write(os.Stdout, s, func(w io.Writer) error { return writePeers(w, out, &s, time.Now()) }); err != nil {
			return err
		}
		for _, p := range s.Peers {
			if p.State != "established" {
				return exitWith(exitFailed, nil)
			}
		}
		return nil
	}
	return c
}

func writePeers(w io.Writer, o *output.Options, s *api.BGP, now time.Time) error {
	if !s.Enabled {
		_, err := fmt.Fprintln(w, "no [bgp] is configured")
		return err
	}
	t := o.Table("PEER", ">ASN", "STATE", "SINCE", ">ADVERTISED", "BFD", "LAST ERROR", "+ADDRESS", "+ROUTER ID", "+>HOLD", "+RESTART", "+>RECEIVED", "+>SESSIONS")
	for _, p := range s.Peers {
		asn, bfd, hold, restart := "", "", "", "no"
		if p.ASN != 0 {
			asn = strconv.FormatUint(uint64(p.ASN), 10)
		}
		if p.BFD != nil {
			bfd = p.BFD.State
		}
		if p.HoldTimeS > 0 {
			hold = fmt.Sprintf("%ds", p.HoldTimeS)
		}
		if p.GracefulRestart {
			restart = "yes"
		}
		advertised := 0
		for _, n := range p.Advertised {
			advertised += n
		}
		t.Row(p.Name, asn, p.State, output.Age(p.Since, now), strconv.Itoa(advertised), bfd, p.LastError,
			p.Address, p.RouterID, hold, restart, strconv.Itoa(p.Received), strconv.Itoa(p.Established))
	}
	return t.Flush(w)
}

func newBGPRoutes() *cobra.Command {
	c := &cobra.Command{
		Use:   "routes",
		Short: "Show which VIPs are announced, and why others are not",
		Args:  cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var s api.Announcements
		if err := node.ask(http.MethodGet, "/v1/announcements", nil, &s); err != nil {
			return err
		}
		return out.Write(os.Stdout, s, func(w io.Writer) error { return writeRoutes(w, out, &s) })
	}
	return c
}

func writeRoutes(w io.Writer, o *output.Options, s *api.Announcements) error {
	if s.Phase != "in_service" {
		fmt.Fprintf(w, "the node is not in service: %s\n\n", s.Phase)
	}
	t := o.Table("VIP", "ANNOUNCED", "REASON", "COMMUNITIES", ">LOCAL PREF", "+>MED", "+ANSWERS ARP", "+OWNER")
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	for _, v := range s.VIPs {
		reason, preference, med := v.Reason, "", ""
		if len(v.Services) > 0 {
			reason += ": " + strings.Join(v.Services, ", ")
		}
		if v.LocalPreference != nil {
			preference = strconv.FormatUint(uint64(*v.LocalPreference), 10)
		}
		if v.MED != 0 {
			med = strconv.FormatUint(uint64(v.MED), 10)
		}
		t.Row(v.Address, yes(v.Announced), reason, strings.Join(v.Communities, " "), preference, med, yes(v.Owned), v.Owner)
	}
	return t.Flush(w)
}
