package compile

import (
	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// services lays out the services, their claims on ports, their idle times and
// their source ranges.
func (c *compiler) services() error {
	locals := make(map[netip.Addr]uint16, len(c.out.Locals))
	for i := range c.out.Locals {
		locals[c.out.Locals[i].Addr.Netip()] = c.out.Locals[i].ID
	}
	sets := make(map[fib.Timeouts]uint32)
	for i := range c.state.Services {
		svc := &c.state.Services[i]
		slot, epoch, err := c.ids.services.slot(serviceKey{svc.Name, svc.VIP, svc.Protocol, svc.Ports})
		if err != nil {
			return err
		}
		record := fib.Service{
			ID:        fib.MakeID(slot, epoch),
			Pool:      c.poolIndex[svc.Pool],
			Local:     locals[svc.VIP],
			PortFirst: svc.Ports.First,
			PortLast:  svc.Ports.Last,
			Proto:     protocol(svc.Protocol),
			Method:    method(svc.Method),
			Gone:      gone(svc.Gone),
			Timeouts:  c.timeouts(timeouts(svc.Timeouts), sets),
			Name:      c.out.Name(svc.Name),
		}
		if svc.Affinity.Enabled {
			record.Affinity, record.AffinityMS = 1, milliseconds(svc.Affinity.Timeout)
		}
		// Only with NAT do both directions pass through us, and only TCP has
		// segments to clamp.
		if svc.Method == model.NAT && svc.Protocol == model.TCP && !svc.DisableMSS {
			record.ClampMSS = 1
		}
		record.Ranges, record.RangeCount = c.sourceRanges(svc.SourceRanges)
		c.out.Services = grow(c.out.Services, slot)
		c.out.Services[slot] = record

		claim := fib.PortMatch{Local: record.Local, Proto: record.Proto, PortFirst: record.PortFirst, PortLast: record.PortLast, Service: slot}
		if record.AllPorts() {
			claim.Default = 1
		}
		c.out.Matches = append(c.out.Matches, claim)
	}
	return nil
}

// timeouts is the index of a set of idle times; equal sets are one record.
func (c *compiler) timeouts(t fib.Timeouts, sets map[fib.Timeouts]uint32) uint32 {
	index, ok := sets[t]
	if !ok {
		index = uint32(len(c.out.Timeouts))
		c.out.Timeouts = append(c.out.Timeouts, t)
		sets[t] = index
	}
	return index
}

func (c *compiler) sourceRanges(prefixes []netip.Prefix) (first, count uint32) {
	if len(prefixes) == 0 {
		return 0, 0
	}
	ranges := make([]fib.SourceRange, len(prefixes))
	for i, p := range prefixes {
		ranges[i] = fib.SourceRangeFrom(p)
	}
	ranges = fib.SortRanges(ranges)
	first = uint32(len(c.out.SourceRanges))
	c.out.SourceRanges = append(c.out.SourceRanges, ranges...)
	return first, uint32(len(ranges))
}
