package translate

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netutils "k8s.io/utils/net"
)

// closed are ranges of which no packet comes.
var closed = map[bool]netip.Prefix{true: netip.MustParsePrefix("0.0.0.0/32"), false: netip.MustParsePrefix("::/128")}

// sourceRanges are the sources that a VIP of one family may be reached from; none
// when from anywhere. A range that cannot be read opens nothing. A Service that
// names ranges of one family only is closed to the other one: who lists who may
// come does not mean everybody else's IPv6.
func (t *translation) sourceRanges(four bool) []netip.Prefix {
	texts := t.Service.Spec.LoadBalancerSourceRanges
	field := "spec.loadBalancerSourceRanges"
	if v := strings.TrimSpace(t.Service.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]); len(texts) == 0 && v != "" {
		texts, field = strings.Split(v, ","), "annotation "+corev1.AnnotationLoadBalancerSourceRangesKey
	}
	if len(texts) == 0 {
		return nil
	}
	var out []netip.Prefix
	others := 0
	for _, text := range texts {
		p, ok := prefix(strings.TrimSpace(text))
		switch {
		case !ok:
			t.warn(InvalidSourceRange, "%s: %q is not a range such as 203.0.113.0/24; it lets nobody in", field, text)
		case p.Addr().Is4() != four:
			others++
		case p.Bits() == 0:
			return nil
		default:
			out = append(out, p)
		}
	}
	if len(out) > 0 {
		slices.SortFunc(out, netip.Prefix.Compare)
		return slices.Compact(out)
	}
	if others > 0 {
		named, other := "IPv6", "IPv4"
		if !four {
			named, other = other, named
		}
		t.warn(SourceRangesOfOneFamily, "%s: has ranges of %s only, so that the %s address lets nobody in", field, named, other)
	}
	return []netip.Prefix{closed[four]}
}

// prefix reads a range as sloppily as Kubernetes did: with leading zeros, and with
// bits after the prefix.
func prefix(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		_, n, err := netutils.ParseCIDRSloppy(text)
		if err != nil {
			return netip.Prefix{}, false
		}
		a, _ := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		p = netip.PrefixFrom(a, ones)
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}
