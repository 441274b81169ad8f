package lab

// TwoArm puts clients and backends on different interfaces of the load balancer:
//
//	client .2 ---switch--- .1 eth0 lb eth1 .1 ---switch---+-------+
//	      198.18.0.0/24                198.18.10.0/24     |       |
//	      2001:db8::/64                2001:db8:10::/64   b1 .11  b2 .12 ...
//
// The client reaches routed VIPs by way of lb. The backends' default route is
// lb, whose kernel forwards what is not for a VIP or a SNAT address, so that
// direct server return works too.
//
// With Config.Router, clients are behind a router, which also has a leg in the
// backends' segment: replies by direct server return do not pass lb at all.
//
//	client .2 --switch-- .1 router .254 --switch-- .1 eth0 lb eth1 .1
//	     198.18.20.0/24       | .254   198.18.0.0/24           |
//	     2001:db8:20::/64     |        2001:db8::/64           |
//	                          +----switch----+-------+---------+
//	             198.18.10.0/24              |       |
//	             2001:db8:10::/64            b1 .11  b2 .12 ...
//
// The router sends the routed VIPs to lb and finds on-link VIPs by ARP and
// neighbour discovery; lb's way to the clients is the router.
func TwoArm(cfg Config) (*Topology, error) {
	if cfg.Router {
		return build(cfg, buildTwoArmRouted)
	}
	return build(cfg, buildTwoArm)
}

func buildTwoArm(t *Topology, cfg Config) error {
	if err := t.addFrontSegment(cfg); err != nil {
		return err
	}
	if err := t.addBackSegment(cfg); err != nil {
		return err
	}
	var err error
	if t.Client, err = t.addNode(t.FrontSwitch, frontSegment, "client", clientHostNumber, cfg); err != nil {
		return err
	}
	if err := t.LB.EnableForwarding(); err != nil {
		return err
	}
	for _, b := range t.Backends {
		if err := addDefaultRoutes(b.Host, backSegment, lbHostNumber); err != nil {
			return err
		}
	}
	return addDefaultRoutes(t.Client.Host, frontSegment, lbHostNumber)
}

func buildTwoArmRouted(t *Topology, cfg Config) error {
	if err := t.addFrontSegment(cfg); err != nil {
		return err
	}
	if err := t.addBackSegment(cfg); err != nil {
		return err
	}
	if err := t.addRouter(cfg); err != nil {
		return err
	}
	t.Front.Gateway4 = frontSegment.Addr4(routerHostNumber)
	t.Front.Gateway6 = frontSegment.Addr6(routerHostNumber)
	if err := addDefaultRoutes(t.LB, frontSegment, routerHostNumber); err != nil {
		return err
	}
	for _, b := range t.Backends {
		if err := addDefaultRoutes(b.Host, backSegment, routerHostNumber); err != nil {
			return err
		}
	}
	return addDefaultRoutes(t.Client.Host, clientSegment, lbHostNumber)
}

// addFrontSegment makes the front switch, the load balancer and its first arm.
func (t *Topology) addFrontSegment(cfg Config) error {
	sw, err := t.AddSwitch("frontsw")
	if err != nil {
		return err
	}
	t.FrontSwitch = sw
	if t.LB, err = t.AddHost("lb"); err != nil {
		return err
	}
	ifc, err := sw.Plug(t.LB, frontInterface, cfg.link())
	if err != nil {
		return err
	}
	t.Front, err = arm(ifc, frontSegment)
	return err
}

// addBackSegment makes the backends' switch, the load balancer's second arm and
// the backends.
func (t *Topology) addBackSegment(cfg Config) error {
	sw, err := t.AddSwitch("backsw")
	if err != nil {
		return err
	}
	t.BackSwitch = sw
	ifc, err := sw.Plug(t.LB, backInterface, cfg.link())
	if err != nil {
		return err
	}
	if t.Back, err = arm(ifc, backSegment); err != nil {
		return err
	}
	return t.addBackends(sw, backSegment, cfg)
}

// addRouter makes the router with its three legs and the client behind it.
func (t *Topology) addRouter(cfg Config) error {
	sw, err := t.AddSwitch("clientsw")
	if err != nil {
		return err
	}
	if t.Client, err = t.addNode(sw, clientSegment, "client", clientHostNumber, cfg); err != nil {
		return err
	}
	if t.Router, err = t.AddHost("router"); err != nil {
		return err
	}
	for _, leg := range []struct {
		ifname string
		sw     *Switch
		seg    Segment
		number int
	}{
		{"clients", sw, clientSegment, lbHostNumber},
		{"front", t.FrontSwitch, frontSegment, routerHostNumber},
		{"back", t.BackSwitch, backSegment, routerHostNumber},
	} {
		ifc, err := leg.sw.Plug(t.Router, leg.ifname, cfg.link())
		if err != nil {
			return err
		}
		if err := addAddresses(ifc, leg.seg, leg.number); err != nil {
			return err
		}
	}
	if err := t.Router.EnableForwarding(); err != nil {
		return err
	}
	return addRoutes(t.Router, vipSegment, frontSegment, lbHostNumber)
}
