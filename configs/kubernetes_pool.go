package configs

import (
	"net/netip"
	"slices"

	"fairlead/controlplane/model"
)

// KubernetesPool is a set of addresses that Services and Gateways get VIPs of:
// [[kubernetes.pool]].
type KubernetesPool struct {
	Name              string
	Ranges            []AddressRange // in the order of the file; they do not overlap
	AutoAssign        bool           // for those that ask for no pool
	AvoidBuggy        bool           // .0 and .255 of IPv4 are not given out
	Priority          int            // of several pools the greatest is tried first
	NamespaceSelector string         // as kubectl takes it; empty: all
	ServiceSelector   string
	Namespaces        []string // empty: all
}

// AddressRange is an inclusive range of addresses of one family.
type AddressRange struct{ First, Last netip.Addr }

// overlaps reports whether two ranges have an address in common.
func (a AddressRange) overlaps(b AddressRange) bool {
	return a.First.Is4() == b.First.Is4() && !a.Last.Less(b.First) && !b.Last.Less(a.First)
}

const (
	maxKubernetesPools = 1000
	maxPoolRanges      = 4096 // of all pools together
	maxPoolNamespaces  = 1000
	maxPoolPriority    = 1_000_000
)

// ownAddress is an address of the node itself, which can be no VIP.
type ownAddress struct {
	address netip.Addr
	what    string
}

// ownAddresses are those of the node itself, sorted.
func ownAddresses(s *model.State) (own []ownAddress) {
	for _, a := range s.SNATs {
		own = append(own, ownAddress{a.Address, "a SNAT address"})
	}
	for _, a := range []netip.Addr{s.Tunnel.Source4, s.Tunnel.Source6} {
		if a.IsValid() {
			own = append(own, ownAddress{a, "the source of tunnel packets"})
		}
	}
	slices.SortFunc(own, func(a, b ownAddress) int { return a.address.Compare(b.address) })
	return own
}

func (r *reader) kubernetesPools(list []*table, own []ownAddress) []KubernetesPool {
	var out []KubernetesPool
	for i, t := range list {
		if i == maxKubernetesPools {
			t.refuse("name", "there are %d pools; there may be %d", len(list), maxKubernetesPools)
			break
		}
		p := KubernetesPool{Name: t.text("name", "")}
		switch {
		case !t.require("name") || t.bad:
		case !dnsName(p.Name):
			t.refuse("name", "%q is no name of a pool: at most 253 small letters, digits, \"-\" and \".\", a letter or digit first and last", p.Name)
		case slices.ContainsFunc(out, func(have KubernetesPool) bool { return have.Name == p.Name }):
			t.refuse("name", "pool %q is listed twice", p.Name)
		}
		t.require("addresses")
		p.Ranges = t.addressRanges("addresses", out, own)
		p.AutoAssign = t.flag("auto_assign", true)
		p.AvoidBuggy = t.flag("avoid_buggy_ips", false)
		p.Priority = t.integer("priority", 0, -maxPoolPriority, maxPoolPriority)
		p.NamespaceSelector = t.selector("namespace_selector")
		p.ServiceSelector = t.selector("service_selector")
		p.Namespaces = t.namespaces("namespaces")
		t.finish()
		out = append(out, p)
	}
	return out
}

// addressRanges reads addresses, ranges and prefixes. None may have an address
// that another one of the list, or of a pool before it, has.
func (t *table) addressRanges(key string, before []KubernetesPool, own []ownAddress) []AddressRange {
	words := t.words(key)
	switch {
	case len(words)+rangesOf(before) > maxPoolRanges:
		t.refuse(key, "there are more than %d addresses, ranges and prefixes in all pools", maxPoolRanges)
		return nil
	case words != nil && len(words) == 0:
		t.refuse(key, "is empty: the pool has no address")
		return nil
	}
	var out []AddressRange
	for i, w := range words {
		first, last, wrong := parseSpan(w)
		span := AddressRange{first, last}
		if wrong == "" {
			wrong = noVIP(span, own)
		}
		if wrong != "" {
			t.refuseElement(key, i, "%s", wrong)
			continue
		}
		if j := slices.IndexFunc(out, span.overlaps); j >= 0 {
			t.refuseElement(key, i, "%q has addresses of %q, too", w, words[j])
			continue
		}
		if j := slices.IndexFunc(before, func(p KubernetesPool) bool { return slices.ContainsFunc(p.Ranges, span.overlaps) }); j >= 0 {
			t.refuseElement(key, i, "%q has addresses of pool %q, too", w, before[j].Name)
			continue
		}
		out = append(out, span)
	}
	if len(out) < len(words) {
		return nil
	}
	return out
}

// rangesOf counts the ranges of pools.
func rangesOf(pools []KubernetesPool) (n int) {
	for i := range pools {
		n += len(pools[i].Ranges)
	}
	return n
}

// noVIP says which address of a range can be no VIP.
func noVIP(s AddressRange, own []ownAddress) string {
	i, _ := slices.BinarySearchFunc(own, s.First, func(o ownAddress, a netip.Addr) int { return o.address.Compare(a) })
	if i < len(own) && !s.Last.Less(own[i].address) {
		return own[i].address.String() + " is " + own[i].what + " of this node and can be no VIP"
	}
	for _, special := range []struct{ prefix, name string }{
		{"0.0.0.0/8", "are no host's"}, {"127.0.0.0/8", "are loopback addresses"}, {"169.254.0.0/16", "are link-local"},
		{"224.0.0.0/4", "are multicast addresses"}, {"240.0.0.0/4", "are reserved"},
		{"::/128", "are no host's"}, {"::1/128", "are loopback addresses"}, {"fe80::/10", "are link-local"}, {"ff00::/8", "are multicast addresses"},
	} {
		p := netip.MustParsePrefix(special.prefix)
		if s.overlaps(AddressRange{p.Addr(), lastOf(p)}) {
			if s.First == s.Last {
				return s.First.String() + " can be no VIP: those of " + special.prefix + " " + special.name
			}
			return s.First.String() + "-" + s.Last.String() + " has addresses that can be no VIP: those of " + special.prefix + " " + special.name
		}
	}
	return ""
}

func (t *table) namespaces(key string) []string {
	words := t.words(key)
	if len(words) > maxPoolNamespaces {
		t.refuse(key, "%d namespaces are too many; there may be %d", len(words), maxPoolNamespaces)
		return nil
	}
	var out []string
	for i, w := range words {
		switch {
		case !dnsLabel(w):
			t.refuseElement(key, i, "%q is no name of a namespace: at most 63 small letters, digits and \"-\", a letter or digit first and last", w)
		case slices.Contains(out, w):
			t.refuseElement(key, i, "%q is listed twice", w)
		default:
			out = append(out, w)
		}
	}
	return out
}
