package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

func (v *validator) pools() {
	names := make(map[string]bool, len(v.state.Pools))
	total := 0
	for i := range v.state.Pools {
		p := &v.state.Pools[i]
		if bad := badName(p.Name); bad != "" {
			v.report(KindPool, i, -1, "name", "pool name %s", bad)
		} else if names[p.Name] {
			v.report(KindPool, i, -1, "name", "pool %q is defined twice", p.Name)
		}
		names[p.Name] = true
		v.poolSize(i, p)
		total += len(p.Backends)
		if total > MaxBackends && total-len(p.Backends) <= MaxBackends {
			v.report(KindPool, i, -1, "backend", "with pool %q there are more than %d backends", p.Name, MaxBackends)
		}
		v.backends(i, p)
		v.health(i, p)
	}
}

func (v *validator) poolSize(i int, p *Pool) {
	if len(p.Backends) > MaxPoolBackends {
		v.report(KindPool, i, -1, "backend", "pool %q has %d backends; it may have %d", p.Name, len(p.Backends), MaxPoolBackends)
	}
	switch {
	case p.Refused < 0 || p.Refused > MaxWeight:
		v.report(KindPool, i, -1, "refused", "pool %q refuses a share of weight %d; it must be 0 to %d", p.Name, p.Refused, MaxWeight)
	case p.Refused > 0 && len(p.Backends) == MaxPoolBackends:
		v.report(KindPool, i, -1, "refused", "pool %q has %d backends; one that refuses a share may have %d", p.Name, len(p.Backends), MaxPoolBackends-1)
	}
}

func (v *validator) backends(i int, p *Pool) {
	ends := make(map[netip.AddrPort]bool, len(p.Backends))
	names := make(map[string]bool)
	for j := range p.Backends {
		b := &p.Backends[j]
		if badAddress(b.Address) != "" {
			v.address(b.Address, KindPool, i, j, "address", fmt.Sprintf("pool %q: backend address", p.Name))
		} else {
			end := netip.AddrPortFrom(b.Address, b.Port)
			if ends[end] {
				v.report(KindPool, i, j, "address", "pool %q: backend %s is listed twice", p.Name, b.Label())
			}
			ends[end] = true
		}
		if b.Weight < 0 || b.Weight > MaxWeight {
			v.report(KindPool, i, j, "weight", "pool %q: backend %s has weight %d; it must be 0 to %d", p.Name, b.Label(), b.Weight, MaxWeight)
		}
		if least := leastMTU(b.Address); b.MTU != 0 && (b.MTU < least || b.MTU > 65535) {
			v.report(KindPool, i, j, "mtu", "pool %q: backend %s has MTU %d; it must be %d to 65535", p.Name, b.Label(), b.MTU, least)
		}
		if b.Name != "" {
			if bad := badName(b.Name); bad != "" {
				v.report(KindPool, i, j, "name", "pool %q: backend name %s", p.Name, bad)
			} else if names[b.Name] {
				v.report(KindPool, i, j, "name", "pool %q: backend name %q is given twice", p.Name, b.Name)
			}
			names[b.Name] = true
		}
	}
}

// leastMTU is the smallest MTU a path of the address's family may have:
// RFC 8200 section 5 for IPv6; for IPv4 the 576 bytes that every host accepts
// (RFC 1122 section 3.3.2).
func leastMTU(a netip.Addr) int {
	if a.Is6() {
		return 1280
	}
	return 576
}

// Label is the backend's name, or else its address and port, or its address
// alone when the client's port is kept.
func (b *Backend) Label() string {
	if b.Name != "" {
		return b.Name
	}
	if b.Port == 0 {
		return b.Address.String()
	}
	return netip.AddrPortFrom(b.Address, b.Port).String()
}

func (v *validator) services() {
	s := v.state
	if len(s.Services) > MaxServices {
		v.report(KindService, MaxServices, -1, "name", "there are %d services; there may be %d", len(s.Services), MaxServices)
	}
	pools := make(map[string]*Pool, len(s.Pools))
	for i := range s.Pools {
		if _, taken := pools[s.Pools[i].Name]; !taken {
			pools[s.Pools[i].Name] = &s.Pools[i]
		}
	}
	snat4, snat6 := v.snatFamilies()
	names := make(map[string]bool, len(s.Services))
	for i := range s.Services {
		svc := &s.Services[i]
		if bad := badName(svc.Name); bad != "" {
			v.report(KindService, i, -1, "name", "service name %s", bad)
		} else if names[svc.Name] {
			v.report(KindService, i, -1, "name", "service %q is defined twice", svc.Name)
		}
		names[svc.Name] = true

		vip := badAddress(svc.VIP) == ""
		if !vip {
			v.address(svc.VIP, KindService, i, -1, "vip", fmt.Sprintf("service %q: VIP", svc.Name))
		}
		v.serviceValues(i, svc)
		if vip {
			v.sourceRanges(i, svc)
		}
		pool := pools[svc.Pool]
		switch {
		case svc.Pool == "":
			v.report(KindService, i, -1, "pool", "service %q: pool is missing", svc.Name)
		case pool == nil:
			v.report(KindService, i, -1, "pool", "service %q: there is no pool %q", svc.Name, svc.Pool)
		case vip:
			v.method(i, svc, pool, snat4, snat6)
			v.checkPort(i, svc, pool)
		}
	}
	v.claims()
}

// snatFamilies says of which families there are SNAT addresses.
func (v *validator) snatFamilies() (snat4, snat6 bool) {
	for i := range v.state.SNATs {
		snat4 = snat4 || v.state.SNATs[i].Address.Is4()
		snat6 = snat6 || v.state.SNATs[i].Address.Is6()
	}
	return snat4, snat6
}

// serviceValues checks the fields that stand for themselves.
func (v *validator) serviceValues(i int, svc *Service) {
	switch svc.Protocol {
	case TCP, UDP, SCTP:
	case "":
		v.report(KindService, i, -1, "protocol", "service %q: protocol is missing", svc.Name)
	default:
		v.report(KindService, i, -1, "protocol", "service %q: protocol %q is none of tcp, udp, sctp", svc.Name, string(svc.Protocol))
	}
	switch svc.Method {
	case NAT, IPIP, GUE, L2:
	default:
		v.report(KindService, i, -1, "method", "service %q: method %q is none of nat, ipip, gue, l2", svc.Name, string(svc.Method))
	}
	switch svc.Gone {
	case GoneReset, GoneRehash, GoneDrop:
	default:
		v.report(KindService, i, -1, "on_backend_gone", "service %q: %q is none of reset, rehash, drop", svc.Name, string(svc.Gone))
	}
	switch r := svc.Ports; {
	case r == AllPorts:
	case r.First == 0:
		v.report(KindService, i, -1, "port", "service %q: port 0 cannot be part of a range; port = 0 alone means every port", svc.Name)
	case r.First > r.Last:
		v.report(KindService, i, -1, "port", "service %q: the port range %d-%d ends before it begins", svc.Name, r.First, r.Last)
	}
	duration := func(field string, d, least time.Duration) {
		if d < least || d > MaxTimeout {
			v.report(KindService, i, -1, field, "service %q: %s is %s; it must be %s to %s", svc.Name, field, d, least, MaxTimeout)
		}
	}
	if svc.Affinity.Enabled || svc.Affinity.Timeout != 0 {
		duration("affinity_timeout", svc.Affinity.Timeout, MinTimeout)
	}
	duration("drain_timeout", svc.DrainTimeout, 0)
	duration("timeouts.tcp_syn_sent", svc.Timeouts.TCPSynSent, MinTimeout)
	duration("timeouts.tcp_established", svc.Timeouts.TCPEstablished, MinTimeout)
	duration("timeouts.tcp_fin_wait", svc.Timeouts.TCPFinWait, MinTimeout)
	duration("timeouts.tcp_close", svc.Timeouts.TCPClose, MinTimeout)
	duration("timeouts.udp", svc.Timeouts.UDP, MinTimeout)
	duration("timeouts.udp_stream", svc.Timeouts.UDPStream, MinTimeout)
	duration("timeouts.sctp", svc.Timeouts.SCTP, MinTimeout)
	duration("timeouts.icmp", svc.Timeouts.ICMP, MinTimeout)
}

func (v *validator) sourceRanges(i int, svc *Service) {
	for _, r := range svc.SourceRanges {
		switch {
		case !r.IsValid():
			v.report(KindService, i, -1, "source_ranges", "service %q: a source range is not a prefix", svc.Name)
		case r.Addr().Is4In6():
			v.report(KindService, i, -1, "source_ranges", "service %q: source range %s is IPv4-mapped; write it as an IPv4 prefix", svc.Name, r)
		case r.Addr().Is4() != svc.VIP.Is4():
			v.report(KindService, i, -1, "source_ranges", "service %q: source range %s is %s and the VIP %s is %s", svc.Name, r, family(r.Addr()), svc.VIP, family(svc.VIP))
		case r.Masked() != r:
			v.report(KindService, i, -1, "source_ranges", "service %q: source range %s has bits set after its prefix; write it as %s", svc.Name, r, r.Masked())
		}
	}
}

// method checks that the service's method can reach each backend of its pool.
// The first backend that cannot be reached stands for all of them.
func (v *validator) method(i int, svc *Service, pool *Pool, snat4, snat6 bool) {
	single := svc.Ports.First == svc.Ports.Last
	otherFamily, otherPort := badBackends{}, badBackends{}
	has4, has6 := false, false
	for j := range pool.Backends {
		b := &pool.Backends[j]
		if badAddress(b.Address) != "" {
			continue // reported with its pool
		}
		has4 = has4 || b.Address.Is4()
		has6 = has6 || b.Address.Is6()
		if b.Address.Is4() != svc.VIP.Is4() {
			otherFamily.add(b)
		}
		switch {
		case b.Port == 0:
		case svc.Method == NAT && !single, svc.Method != NAT && !(single && b.Port == svc.Ports.First):
			otherPort.add(b)
		}
	}
	report := func(field, format string, args ...any) {
		v.report(KindService, i, -1, field, "service %q: "+format, append([]any{svc.Name}, args...)...)
	}
	switch svc.Method {
	case NAT, L2:
		if otherFamily.count > 0 {
			report("method", "method %s cannot carry the %s VIP %s to the %s %s of pool %q; ipip and gue can",
				svc.Method, family(svc.VIP), svc.VIP, family(otherFamily.first.Address), otherFamily, pool.Name)
		}
		if svc.Method == NAT && otherFamily.count == 0 && (svc.VIP.Is4() && has4 && !snat4 || svc.VIP.Is6() && has6 && !snat6) {
			report("method", "method nat needs an %s SNAT address and there is none", family(svc.VIP))
		}
	case IPIP, GUE:
		if has4 && !v.state.Tunnel.Source4.IsValid() {
			report("method", "method %s to the IPv4 backends of pool %q needs tunnel.source_ipv4", svc.Method, pool.Name)
		}
		if has6 && !v.state.Tunnel.Source6.IsValid() {
			report("method", "method %s to the IPv6 backends of pool %q needs tunnel.source_ipv6", svc.Method, pool.Name)
		}
	}
	if otherPort.count == 0 {
		return
	}
	switch svc.Method {
	case NAT:
		report("pool", "a service of several ports keeps the client's port, and the %s of pool %q has a port of its own", otherPort, pool.Name)
	case IPIP, GUE, L2:
		report("method", "method %s cannot change the port, and the %s of pool %q has another port than the service", svc.Method, otherPort, pool.Name)
	}
}

// badBackends is a set of backends of which the first is named.
type badBackends struct {
	first *Backend
	count int
}

func (b *badBackends) add(x *Backend) {
	if b.count == 0 {
		b.first = x
	}
	b.count++
}

// String names the first and counts the others.
func (b badBackends) String() string {
	if b.count == 1 {
		return "backend " + b.first.Label()
	}
	return fmt.Sprintf("backend %s (and %d more)", b.first.Label(), b.count-1)
}

// claims checks that no port of a VIP and protocol belongs to two services. A
// service for every port takes what the others leave, so it conflicts only
// with another of its kind.
func (v *validator) claims() {
	services := v.state.Services
	order := make([]int, 0, len(services))
	for i := range services {
		svc := &services[i]
		if badAddress(svc.VIP) == "" && (svc.Ports == AllPorts || svc.Ports.First != 0 && svc.Ports.First <= svc.Ports.Last) {
			order = append(order, i)
		}
	}
	all := func(i int) int {
		if services[i].Ports == AllPorts {
			return 1
		}
		return 0
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &services[i], &services[j]
		if c := a.VIP.Compare(b.VIP); c != 0 {
			return c
		}
		if c := strings.Compare(string(a.Protocol), string(b.Protocol)); c != 0 {
			return c
		}
		if c := all(i) - all(j); c != 0 {
			return c
		}
		if c := int(a.Ports.First) - int(b.Ports.First); c != 0 {
			return c
		}
		return i - j
	})
	holder := -1 // of the ports seen so far, the service whose range ends last
	for _, i := range order {
		if holder < 0 {
			holder = i
			continue
		}
		a, b := &services[holder], &services[i]
		same := a.VIP == b.VIP && a.Protocol == b.Protocol && all(holder) == all(i)
		if same && b.Ports.First <= a.Ports.Last {
			first, second := min(holder, i), max(holder, i)
			shared, verb := PortRange{b.Ports.First, min(a.Ports.Last, b.Ports.Last)}, "belongs"
			if shared.First != shared.Last && shared != AllPorts {
				verb = "belong"
			}
			v.report(KindService, second, -1, "port", "service %q: %s %s %s already %s to service %q", services[second].Name,
				b.VIP, b.Protocol, portsText(shared), verb, services[first].Name)
			v.errs[len(v.errs)-1].Rival = services[first].Name
		}
		if !same || b.Ports.Last > a.Ports.Last {
			holder = i
		}
	}
}

// portsText is how a port range reads in a message.
func portsText(r PortRange) string {
	switch {
	case r == AllPorts:
		return "every port"
	case r.First == r.Last:
		return fmt.Sprintf("port %d", r.First)
	}
	return fmt.Sprintf("ports %d-%d", r.First, r.Last)
}
