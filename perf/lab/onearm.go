package lab

import "errors"

// OneArm puts everything on one segment, as a rack behind one switch does:
//
//	client .2      lb .1      b1 .11  b2 .12 ...
//	   |            |            |       |
//	   +------------+---switch---+-------+
//	       198.18.0.0/24, 2001:db8::/64
//
// The load balancer has one interface, eth0, for requests and replies. Clients
// reach routed VIPs by way of lb; on-link VIPs by ARP and neighbour discovery.
// Backends answer clients directly, as everybody is on-link.
func OneArm(cfg Config) (*Topology, error) { return build(cfg, buildOneArm) }

func buildOneArm(t *Topology, cfg Config) error {
	if cfg.Router {
		return errors.New("a one-arm topology has no router")
	}
	sw, err := t.AddSwitch("switch")
	if err != nil {
		return err
	}
	t.FrontSwitch, t.BackSwitch = sw, sw

	if t.LB, err = t.AddHost("lb"); err != nil {
		return err
	}
	ifc, err := sw.Plug(t.LB, frontInterface, cfg.link())
	if err != nil {
		return err
	}
	if t.Front, err = arm(ifc, frontSegment); err != nil {
		return err
	}
	t.Back = t.Front

	if t.Client, err = t.addNode(sw, frontSegment, "client", clientHostNumber, cfg); err != nil {
		return err
	}
	if err := addRoutes(t.Client.Host, vipSegment, frontSegment, lbHostNumber); err != nil {
		return err
	}
	return t.addBackends(sw, frontSegment, cfg)
}
