package compile

import (
	"fmt"
	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// maxPacket is the largest IP packet there is without jumbograms.
const maxPacket = 65535

// interfaces lists the interfaces in the order of the observations, which is
// that of a frame's Port.
func (c *compiler) interfaces() error {
	if len(c.obs.Interfaces) > 1<<16 {
		return fmt.Errorf("%d interfaces are more than an image holds", len(c.obs.Interfaces))
	}
	c.ways.ports = make(map[string]uint16, len(c.obs.Interfaces))
	for i := range c.obs.Interfaces {
		in := &c.obs.Interfaces[i]
		if _, taken := c.ways.ports[in.Name]; taken {
			return fmt.Errorf("interface %s is observed twice", in.Name)
		}
		c.ways.ports[in.Name] = uint16(i)
		c.out.Interfaces = append(c.out.Interfaces, fib.Interface{
			MAC:     in.MAC,
			MTU:     uint32(min(max(in.MTU, 0), maxPacket)),
			IfIndex: uint32(in.Index),
			Gateway: fib.NoIndex,
			Name:    c.out.Name(in.Name),
		})
	}
	c.ways.interfaces = c.out.Interfaces
	for i := range c.obs.Interfaces {
		in := &c.obs.Interfaces[i]
		if !in.Gateway.IsValid() {
			continue
		}
		way := c.ways.nextHop(in.Gateway)
		if way.exists {
			c.out.Interfaces[i].Gateway = c.hops.intern(c.out, &way.hop)
		}
		c.interfaceWarnings = append(c.interfaceWarnings, gatewayWarning(in, way.problem))
	}
	if c.index != nil {
		c.ways.use(c.index)
	}
	return nil
}

// gatewayWarning says what keeps packets from an interface's gateway, "" when
// nothing does.
func gatewayWarning(in *model.Interface, problem string) string {
	if problem == "" {
		return ""
	}
	return fmt.Sprintf("interface %s: gateway %s %s", in.Name, in.Gateway, problem)
}

// locals gives every address of ours its record: VIPs as listed and as
// services name them, SNAT addresses, tunnel sources.
func (c *compiler) locals() error {
	s := c.state
	seen := make(map[netip.Addr]bool, len(s.VIPs)+len(s.SNATs)+2)
	for i := range s.VIPs {
		if err := c.vip(&s.VIPs[i], seen); err != nil {
			return err
		}
	}
	unlisted := model.DefaultVIP()
	for i := range s.Services {
		unlisted.Address = s.Services[i].VIP
		if err := c.vip(&unlisted, seen); err != nil {
			return err
		}
	}
	for i := range s.SNATs {
		if err := c.snat(&s.SNATs[i]); err != nil {
			return err
		}
	}
	for _, a := range []netip.Addr{s.Tunnel.Source4, s.Tunnel.Source6} {
		if !a.IsValid() {
			continue
		}
		if _, err := c.local(a, fib.LocalTunnel, fib.LocalAnswerARP, fib.NoIndex); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) vip(v *model.VIP, seen map[netip.Addr]bool) error {
	if seen[v.Address] {
		return nil
	}
	seen[v.Address] = true
	var flags uint8
	if v.AnswerARP {
		flags |= fib.LocalAnswerARP
	}
	if !v.AnswerPing {
		flags |= fib.LocalNoPing
	}
	if v.FailAction == model.FailPass {
		flags |= fib.LocalFailPass
	}
	_, err := c.local(v.Address, fib.LocalVIP, flags, fib.NoIndex)
	return err
}

func (c *compiler) snat(n *model.SNAT) error {
	index, _, err := c.ids.snats.slot(n.Address)
	if err != nil {
		return err
	}
	id, err := c.local(n.Address, fib.LocalSNAT, fib.LocalAnswerARP, index)
	if err != nil {
		return err
	}
	c.out.SNATs = grow(c.out.SNATs, index)
	c.out.SNATs[index] = fib.SNAT{Addr: addr(n.Address), Local: id, PortFirst: n.Ports.First, PortLast: n.Ports.Last}
	return nil
}

func (c *compiler) local(a netip.Addr, kind fib.LocalKind, flags uint8, snat uint32) (id uint16, err error) {
	slot, _, err := c.ids.locals.slot(localKey{a, kind})
	if err != nil {
		return 0, err
	}
	c.out.Locals = append(c.out.Locals, fib.Local{Addr: addr(a), ID: uint16(slot), Kind: kind, Flags: flags, SNAT: snat})
	return uint16(slot), nil
}

// grow lengthens a slice of records so that it has a place for index.
func grow[T any](records []T, index uint32) []T {
	if n := int(index) + 1 - len(records); n > 0 {
		records = append(records, make([]T, n)...)
	}
	return records
}
