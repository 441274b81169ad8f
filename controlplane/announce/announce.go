// Package announce decides which VIPs a node tells the network that it has, and
// how. The decision is a pure function; its subpackages carry it out.
package announce

import (
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
)

// Phase is how far a node is on its way out of service, and back.
type Phase string

// The phases, in the order of a planned stop.
const (
	InService Phase = "in_service"
	// Leaving asks routers for every other way first: the graceful shutdown
	// community (RFC 8326) and local preference 0.
	Leaving   Phase = "leaving"
	Withdrawn Phase = "withdrawn" // nothing is announced; what comes still is served
	Drained   Phase = "drained"   // nothing comes any more, or nobody waits for it
)

// Condition is what holds for all VIPs of a node.
type Condition struct {
	// Forwarding says that packets for the VIPs would be forwarded: a data
	// process decides by a published generation, and interfaces have carrier.
	Forwarding bool
	Phase      Phase
	// Unfit says that the node cannot reach most of the backends that other nodes
	// of its cluster reach.
	Unfit bool
}

// Reason says why a VIP is not announced. It is stable: metrics and the API
// show it.
type Reason string

// The reasons; the empty one is that of a VIP that is announced.
const (
	Off           Reason = "off"            // the node has no [bgp], or the VIP says bgp = false
	NotForwarding Reason = "not_forwarding" // the node could not forward
	Draining      Reason = "draining"       // the node is taken out of service
	Unfit         Reason = "unfit"          // other nodes of the cluster reach backends that the node does not
	NoService     Reason = "no_service"     // no service has the VIP
	NoBackends    Reason = "no_backends"    // too many services have no backend that serves; see model.Withdraw
)

// VIP is what is announced of one VIP.
type VIP struct {
	Address netip.Addr
	// Owned says that the node answers for the VIP on its segments, by ARP and
	// neighbour discovery, as far as it is up to this node alone.
	Owned bool

	// Withheld says why BGP peers are not told of it; empty: they are, with
	// what follows.
	Withheld        Reason
	Starved         []string // services without a backend that serves, sorted; with reason NoBackends
	Communities     model.Communities
	LocalPreference uint32 // iBGP only; meaningless unless HasPreference
	HasPreference   bool
	MED             uint32 // 0: none
}

// Equal reports whether peers are told the same.
func (v *VIP) Equal(o *VIP) bool {
	return v.Address == o.Address && v.Owned == o.Owned && v.Withheld == o.Withheld && v.Communities == o.Communities &&
		v.LocalPreference == o.LocalPreference && v.HasPreference == o.HasPreference && v.MED == o.MED &&
		slices.Equal(v.Starved, o.Starved)
}

// Decide says of every VIP of a state what is announced, in order of address.
// serving is how many backends of a pool take new flows because they are alive,
// enabled and have a weight; it is asked once for each service of a VIP.
func Decide(s *model.State, b *model.BGP, serving func(pool string) int, c Condition) []VIP {
	all := make(map[netip.Addr]*vip, len(s.VIPs))
	for i := range s.VIPs {
		v := s.VIPs[i]
		all[v.Address] = &vip{VIP: v}
	}
	for i := range s.Services {
		svc := &s.Services[i]
		v := all[svc.VIP]
		if v == nil {
			v = &vip{VIP: model.DefaultVIP()}
			v.Address = svc.VIP
			all[svc.VIP] = v
		}
		v.services++
		if serving(svc.Pool) == 0 {
			v.starved = append(v.starved, svc.Name)
		}
	}
	out := make([]VIP, 0, len(all))
	for _, v := range all {
		out = append(out, v.decide(b, c))
	}
	slices.SortFunc(out, func(a, b VIP) int { return a.Address.Compare(b.Address) })
	return out
}

// vip is a VIP with its services counted.
type vip struct {
	model.VIP
	services int
	starved  []string
}

func (v *vip) decide(b *model.BGP, c Condition) VIP {
	out := VIP{Address: v.Address, Owned: v.AnswerARP && c.Forwarding && (c.Phase == InService || c.Phase == Leaving)}
	out.Withheld = v.withheld(b, c)
	switch out.Withheld {
	case NoBackends:
		slices.Sort(v.starved)
		out.Starved = v.starved
		return out
	case "":
	default:
		return out
	}
	out.Communities = b.Communities.With(v.Announce.Communities)
	out.LocalPreference, out.MED = b.LocalPreference, b.MED
	if v.Announce.LocalPreference != 0 {
		out.LocalPreference = v.Announce.LocalPreference
	}
	out.HasPreference = out.LocalPreference != 0
	if c.Phase == Leaving {
		out.Communities = out.Communities.With(model.NewCommunities(model.GracefulShutdown))
		out.LocalPreference, out.HasPreference = 0, true
	}
	return out
}

// withheld names the reason that an operator has to look at first.
func (v *vip) withheld(b *model.BGP, c Condition) Reason {
	switch {
	case !b.Enabled || !v.Announce.BGP:
		return Off
	case c.Phase == Withdrawn || c.Phase == Drained:
		return Draining
	case !c.Forwarding:
		return NotForwarding
	case v.Announce.Withdraw == model.WithdrawNever:
		return ""
	case c.Unfit:
		return Unfit
	case v.services == 0:
		return NoService
	case len(v.starved) == v.services, v.Announce.Withdraw == model.WithdrawAny && len(v.starved) > 0:
		return NoBackends
	}
	return ""
}
