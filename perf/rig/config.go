package rig

import (
	"fmt"
	"net/netip"
	"strings"

	"fairlead/perf/lab"
)

// Config is a node's configuration file in the making. Text renders it; what it
// has no field for goes into the Options of its parts, as lines of TOML.
type Config struct {
	// Options are tables of their own, for example "[limits]\nreply_rate = 5".
	Options string
	// PinPath keeps the XDP programs while no process lives; "" keeps nothing.
	PinPath          string
	Interfaces       []Interface
	Neighbors        []Neighbor
	SNAT             []netip.Addr
	Tunnel4, Tunnel6 netip.Addr
	VIPs             []VIP
	Pools            []Pool
	Services         []Service
}

// Interface is an [[interface]].
type Interface struct {
	Name    string
	Options string
}

// Neighbor is a [[neighbor]].
type Neighbor struct {
	Address   netip.Addr
	MAC       string
	Interface string
}

// VIP is a [[vip]].
type VIP struct {
	Address netip.Addr
	Options string
}

// Pool is a [[pool]].
type Pool struct {
	Name     string
	Options  string
	Backends []Backend
}

// Backend is a [[pool.backend]].
type Backend struct {
	Address netip.Addr
	Port    uint16 // 0: the client's
	Weight  int
	Name    string // "": its address
	Options string
}

// Service is a [[service]].
type Service struct {
	Name     string
	VIP      netip.Addr
	Protocol string // tcp, udp or sctp
	Port     uint16
	Pool     string
	Method   string // nat, ipip, gue or l2
	Options  string
}

// Neighbors are the hosts' addresses of both families as static neighbours
// behind an interface of the load balancer.
func Neighbors(behind *lab.Interface, hosts ...*lab.Node) []Neighbor {
	var all []Neighbor
	for _, h := range hosts {
		for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
			all = append(all, Neighbor{Address: a, MAC: h.Interface.MAC.String(), Interface: behind.Name})
		}
	}
	return all
}

// Text is the configuration file.
func (c *Config) Text() string {
	var b strings.Builder
	options := func(text string) {
		if text != "" {
			fmt.Fprintf(&b, "%s\n", strings.TrimSpace(text))
		}
	}
	options(c.Options)
	fmt.Fprintf(&b, "[xdp]\npin_path = %q\n", c.PinPath)
	if c.Tunnel4.IsValid() || c.Tunnel6.IsValid() {
		fmt.Fprintf(&b, "[tunnel]\n")
		if c.Tunnel4.IsValid() {
			fmt.Fprintf(&b, "source_ipv4 = %q\n", c.Tunnel4)
		}
		if c.Tunnel6.IsValid() {
			fmt.Fprintf(&b, "source_ipv6 = %q\n", c.Tunnel6)
		}
	}
	for _, i := range c.Interfaces {
		fmt.Fprintf(&b, "[[interface]]\nname = %q\n", i.Name)
		options(i.Options)
	}
	for _, n := range c.Neighbors {
		fmt.Fprintf(&b, "[[neighbor]]\naddress = %q\nmac = %q\ninterface = %q\n", n.Address, n.MAC, n.Interface)
	}
	for _, a := range c.SNAT {
		fmt.Fprintf(&b, "[[snat]]\naddress = %q\n", a)
	}
	for _, v := range c.VIPs {
		fmt.Fprintf(&b, "[[vip]]\naddress = %q\n", v.Address)
		options(v.Options)
	}
	for _, p := range c.Pools {
		fmt.Fprintf(&b, "[[pool]]\nname = %q\n", p.Name)
		options(p.Options)
		for _, k := range p.Backends {
			fmt.Fprintf(&b, "[[pool.backend]]\naddress = %q\nweight = %d\n", k.address(), k.Weight)
			if k.Name != "" {
				fmt.Fprintf(&b, "name = %q\n", k.Name)
			}
			options(k.Options)
		}
	}
	for _, s := range c.Services {
		fmt.Fprintf(&b, "[[service]]\nname = %q\nvip = %q\nprotocol = %q\nport = %d\npool = %q\nmethod = %q\n",
			s.Name, s.VIP, s.Protocol, s.Port, s.Pool, s.Method)
		options(s.Options)
	}
	return b.String()
}

func (b *Backend) address() string {
	if b.Port == 0 {
		return b.Address.String()
	}
	return netip.AddrPortFrom(b.Address, b.Port).String()
}
