package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// balancerHostBase is where the numbers of a rack's load balancers begin: lb1 is
// host number 61.
const (
	balancerHostBase = 60
	maxBalancers     = vipHostBase - balancerHostBase - 1
	maxRackBackends  = balancerHostBase - backendHostBase - 1
)

// Rack is several load balancers and everything else on one segment:
//
//	client .2     lb1 .61  lb2 .62 ...     b1 .11  b2 .12 ...
//	   |            |        |               |       |
//	   +------------+--------+----switch-----+-------+
//	              198.18.0.0/24, 2001:db8::/64
//
// Every host has one interface, eth0.
type Rack struct {
	*Lab
	Switch    *Switch
	Client    *Node
	Balancers []*Node // lb1, lb2, and so on
	Backends  []*Node // b1, b2, and so on
}

// NewRack makes a rack with so many load balancers.
func NewRack(balancers int, cfg Config) (*Rack, error) {
	if balancers < 1 || balancers > maxBalancers || cfg.backends() > maxRackBackends {
		return nil, fmt.Errorf("%d load balancers and %d backends: there can be 1 to %d, and up to %d", balancers, cfg.backends(), maxBalancers, maxRackBackends)
	}
	r := &Rack{}
	t, err := build(cfg, func(t *Topology, cfg Config) (err error) {
		if r.Switch, err = t.AddSwitch("switch"); err != nil {
			return err
		}
		if t.Client, err = t.addNode(r.Switch, frontSegment, "client", clientHostNumber, cfg); err != nil {
			return err
		}
		for i := 1; i <= balancers; i++ {
			n, err := t.addNode(r.Switch, frontSegment, fmt.Sprintf("lb%d", i), balancerHostBase+i, cfg)
			if err != nil {
				return err
			}
			r.Balancers = append(r.Balancers, n)
		}
		return t.addBackends(r.Switch, frontSegment, cfg)
	})
	if err != nil {
		return nil, err
	}
	r.Lab, r.Client, r.Backends = t.Lab, t.Client, t.Backends
	return r, nil
}

// Segment is the one that everybody is on.
func (r *Rack) Segment() Segment { return frontSegment }

// VIP4 is the n-th IPv4 virtual address (n from 1). It is on the segment: who
// wants to send there asks by ARP.
func (r *Rack) VIP4(n int) netip.Addr { return frontSegment.Addr4(numbered(vipHostBase, n, maxVIPs)) }

// VIP6 is the n-th IPv6 virtual address (n from 1), on the segment as well.
func (r *Rack) VIP6(n int) netip.Addr { return frontSegment.Addr6(numbered(vipHostBase, n, maxVIPs)) }

// SNAT4 is the n-th IPv4 address that is free for source NAT (n from 1).
func (r *Rack) SNAT4(n int) netip.Addr {
	return frontSegment.Addr4(numbered(snatHostBase, n, maxSNATs))
}

// SNAT6 is the n-th IPv6 address that is free for source NAT (n from 1).
func (r *Rack) SNAT6(n int) netip.Addr {
	return frontSegment.Addr6(numbered(snatHostBase, n, maxSNATs))
}

// Part leaves load balancers of different groups without a way to each other, in
// either direction; everybody else still reaches them all. Those that are in no
// group are a group of their own. Without groups everything is as before.
func (r *Rack) Part(groups ...[]*Node) error {
	group := map[*Node]int{}
	for i, g := range groups {
		for _, n := range g {
			group[n] = i + 1
		}
	}
	for _, n := range r.Balancers {
		rules := []string{"add table inet partition", "delete table inet partition"}
		if len(groups) > 0 {
			rules = append(rules, "add table inet partition", "add chain inet partition input { type filter hook input priority -300; }")
			for _, o := range r.Balancers {
				if group[o] != group[n] {
					rules = append(rules, fmt.Sprintf("add rule inet partition input ip saddr %s drop", o.IPv4), fmt.Sprintf("add rule inet partition input ip6 saddr %s drop", o.IPv6))
				}
			}
		}
		if err := r.nft(n.Host, rules); err != nil {
			return fmt.Errorf("partition at %s: %w", n.Name, err)
		}
	}
	return nil
}

func (r *Rack) nft(h *Host, rules []string) error {
	return h.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(strings.Join(rules, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}
