package migrate

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pool is an AddressPool of Fairlead, as far as MetalLB has words for it.
type Pool struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   PoolName `json:"metadata"`
	Spec       PoolSpec `json:"spec"`
}

// PoolName is the metadata of a Pool.
type PoolName struct {
	Name string `json:"name"`
}

// PoolSpec is the spec of a Pool.
type PoolSpec struct {
	Addresses         []string              `json:"addresses"`
	AutoAssign        *bool                 `json:"autoAssign,omitempty"`
	AvoidBuggyIPs     bool                  `json:"avoidBuggyIPs,omitempty"`
	Priority          int                   `json:"priority,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	ServiceSelector   *metav1.LabelSelector `json:"serviceSelector,omitempty"`
	Namespaces        []string              `json:"namespaces,omitempty"`
}

func (in *Input) planPools(p *Plan) {
	pools := sortedBy(in.pools, func(o *object[poolSpec]) string { return o.Name })
	ranks := rank(pools)
	for i := range pools {
		o := &pools[i]
		subject := "IPAddressPool " + o.Name
		out := Pool{APIVersion: "fairlead.io/v1alpha1", Kind: "AddressPool", Metadata: PoolName{o.Name}}
		for _, text := range o.Spec.Addresses {
			canonical, wrong := addresses(text)
			if wrong != "" {
				p.note(subject, "addresses", "%q %s; it is left out", text, wrong)
				continue
			}
			out.Spec.Addresses = append(out.Spec.Addresses, canonical)
		}
		if len(out.Spec.Addresses) == 0 {
			p.note(subject, "", "has no address, and is left out")
			continue
		}
		if o.Spec.AutoAssign != nil && !*o.Spec.AutoAssign {
			out.Spec.AutoAssign = new(false)
		}
		out.Spec.AvoidBuggyIPs = o.Spec.AvoidBuggyIPs
		if a := o.Spec.ServiceAllocation; a != nil {
			out.Spec.Priority = ranks[a.Priority]
			p.allocate(subject, a, &out.Spec)
		}
		p.Pools = append(p.Pools, out)
	}
}

// rank turns MetalLB's priorities, of which the smallest wins and 0 is last, into
// ours, of which the greatest wins.
func rank(pools []object[poolSpec]) map[int]int {
	set := map[int]bool{}
	for i := range pools {
		if a := pools[i].Spec.ServiceAllocation; a != nil && a.Priority > 0 {
			set[a.Priority] = true
		}
	}
	out := map[int]int{}
	for i, p := range slices.Backward(slices.Sorted(maps.Keys(set))) {
		out[p] = len(set) - i
	}
	return out
}

// allocate says whose addresses those of a pool may be. What ours cannot say keeps
// the pool from being used unasked: else addresses would go to Services that must
// not have them.
func (p *Plan) allocate(subject string, a *allocation, out *PoolSpec) {
	if len(a.Namespaces) > 0 && len(a.NamespaceSelectors) > 0 {
		p.note(subject, "serviceAllocation", "namespaces or namespaceSelectors of MetalLB admit a Service, and both of ours do; the pool is given out on request only: choose one of the two")
		out.AutoAssign = new(false)
	} else {
		out.Namespaces = a.Namespaces
		out.NamespaceSelector = p.single(subject, "serviceAllocation.namespaceSelectors", a.NamespaceSelectors, out)
	}
	out.ServiceSelector = p.single(subject, "serviceAllocation.serviceSelectors", a.ServiceSelectors, out)
}

// single makes one selector of several, any of which would do.
func (p *Plan) single(subject, field string, list []metav1.LabelSelector, out *PoolSpec) *metav1.LabelSelector {
	if len(list) == 0 {
		return nil
	}
	if len(list) == 1 {
		return &list[0]
	}
	key, values := "", []string(nil)
	for i := range list {
		if len(list[i].MatchLabels) != 1 || len(list[i].MatchExpressions) > 0 {
			key = ""
			break
		}
		for k, v := range list[i].MatchLabels {
			if i > 0 && k != key {
				k = ""
			}
			key, values = k, append(values, v)
		}
		if key == "" {
			break
		}
	}
	if key == "" {
		p.note(subject, field, "any of %d selectors admits a Service, and a pool of ours has one; the pool is given out on request only: split it, or use one label", len(list))
		out.AutoAssign = new(false)
		return nil
	}
	slices.Sort(values)
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: metav1.LabelSelectorOpIn, Values: slices.Compact(values)}}}
}

// addresses writes a prefix or range as AddressPool takes it.
func addresses(text string) (canonical, wrong string) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return "", "is neither a prefix nor a range"
		}
		if prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()).Masked(); !prefix.IsValid() {
			return "", "is neither a prefix nor a range"
		}
		if prefix.IsSingleIP() {
			return prefix.Addr().String(), ""
		}
		return prefix.String(), ""
	}
	a, err1 := netip.ParseAddr(strings.TrimSpace(first))
	b, err2 := netip.ParseAddr(strings.TrimSpace(last))
	a, b = a.Unmap(), b.Unmap()
	switch {
	case err1 != nil || err2 != nil:
		return "", "is neither a prefix nor a range"
	case a.Is4() != b.Is4() || b.Less(a):
		return "", "ends before it begins"
	case a == b:
		return a.String(), ""
	}
	return a.String() + "-" + b.String(), ""
}

// poolsOf are the names of the pools that an advertisement is about; all says that
// they are all there are.
func (in *Input) poolsOf(s *selection) (names []string, all bool) {
	if len(s.IPAddressPools)+len(s.IPAddressPoolSelectors) == 0 {
		for i := range in.pools {
			names = append(names, in.pools[i].Name)
		}
		slices.Sort(names)
		return names, true
	}
	names = append(names, s.IPAddressPools...)
	for i := range s.IPAddressPoolSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s.IPAddressPoolSelectors[i])
		if err != nil {
			continue
		}
		for j := range in.pools {
			if selector.Matches(labelSet(in.pools[j].Labels)) {
				names = append(names, in.pools[j].Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	all = true
	for i := range in.pools {
		all = all && slices.Contains(names, in.pools[i].Name)
	}
	return names, all
}

// quote writes a text as TOML does.
func quote(text string) string { return strconv.Quote(text) }
