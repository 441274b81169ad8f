package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"fairlead/controlplane/api"
)

// packetFlags are what the command line says of packets.
type packetFlags struct {
	reasons          []string
	service, backend string
	client           prefixFlag
}

func (f *packetFlags) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.reasons, "reason", nil, "only packets whose journey ends with this reason; may be given several times")
	c.Flags().StringVar(&f.service, "service", "", "only packets of this service")
	c.Flags().StringVar(&f.backend, "backend", "", "only packets to or from this backend: its name, address, or address and port")
	c.Flags().Var(&f.client, "client", "only packets of which one end is this address, or in this prefix")
}

func (f *packetFlags) filter() api.PacketFilter {
	return api.PacketFilter{Reasons: f.reasons, Service: f.service, Backend: f.backend, Client: f.client.Prefix}
}

// prefixFlag is a flag that is an address or a prefix.
type prefixFlag struct{ *netip.Prefix }

// String implements pflag.Value.
func (p *prefixFlag) String() string {
	if p.Prefix == nil {
		return ""
	}
	return p.Prefix.String()
}

// Type implements pflag.Value.
func (p *prefixFlag) Type() string { return "prefix" }

// Set implements pflag.Value.
func (p *prefixFlag) Set(text string) error {
	var e api.Ends
	if err := e.UnmarshalText([]byte(text)); err != nil || e.Port != 0 {
		return fmt.Errorf("%q is no address or prefix, such as 203.0.113.7 or 203.0.113.0/24", text)
	}
	p.Prefix = &e.Prefix
	return nil
}
