package model

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// badAddress says what is wrong with an address that is to be a VIP, a SNAT
// address, a tunnel source or a backend; "" when nothing is.
func badAddress(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "is missing"
	case a.Is4In6():
		return "is an IPv4-mapped IPv6 address; write it as " + a.Unmap().String()
	case a.Zone() != "":
		return "has a zone"
	case a.IsUnspecified():
		return "is the unspecified address"
	case a.IsLoopback():
		return "is a loopback address"
	case a.IsMulticast():
		return "is a multicast address"
	case a.Is6() && a.IsLinkLocalUnicast():
		return "is an IPv6 link-local address"
	case a.Is4() && a.As4()[0] == 0:
		return "is in 0.0.0.0/8, which is no host's address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is the broadcast address"
	}
	return ""
}

// family names the family of an address.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// address reports what is wrong with an address and tells whether it is right.
func (v *validator) address(a netip.Addr, kind string, index, sub int, field, what string) bool {
	bad := badAddress(a)
	switch {
	case bad == "":
		return true
	case !a.IsValid():
		v.report(kind, index, sub, field, "%s %s", what, bad)
	default:
		v.report(kind, index, sub, field, "%s %s %s", what, a, bad)
	}
	return false
}

// badName says what is wrong with a name; "" when nothing is.
func badName(name string) string {
	switch {
	case name == "":
		return "is missing"
	case len(name) > MaxNameLength:
		return "is longer than 253 bytes"
	case strings.ContainsFunc(name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return "has characters that cannot be printed"
	case strings.TrimSpace(name) != name:
		return "begins or ends with a space"
	}
	return ""
}

func (v *validator) vips() {
	seen := make(map[netip.Addr]bool, len(v.state.VIPs))
	for i, vip := range v.state.VIPs {
		if v.address(vip.Address, KindVIP, i, -1, "address", "VIP address") {
			if seen[vip.Address] {
				v.report(KindVIP, i, -1, "address", "VIP %s is listed twice", vip.Address)
			}
			seen[vip.Address] = true
		}
		if vip.FailAction != FailDrop && vip.FailAction != FailPass {
			v.report(KindVIP, i, -1, "fail_action", "VIP %s: fail action %q is neither drop nor pass", vip.Address, string(vip.FailAction))
		}
		if w := vip.Announce.Withdraw; w != WithdrawAll && w != WithdrawAny && w != WithdrawNever {
			v.report(KindVIP, i, -1, "withdraw", "VIP %s: withdraw %q is none of all, any and never", vip.Address, string(w))
		}
	}
}

func (v *validator) snats() {
	seen := make(map[netip.Addr]bool, len(v.state.SNATs))
	for i, snat := range v.state.SNATs {
		if v.address(snat.Address, KindSNAT, i, -1, "address", "SNAT address") {
			if seen[snat.Address] {
				v.report(KindSNAT, i, -1, "address", "SNAT address %s is listed twice", snat.Address)
			}
			seen[snat.Address] = true
		}
		switch r := snat.Ports; {
		case r.First == 0:
			v.report(KindSNAT, i, -1, "ports", "SNAT address %s: port 0 is no source port", snat.Address)
		case r.First > r.Last:
			v.report(KindSNAT, i, -1, "ports", "SNAT address %s: the port range %d-%d ends before it begins", snat.Address, r.First, r.Last)
		}
	}
}

func (v *validator) tunnel() {
	t := v.state.Tunnel
	if t.Source4.IsValid() && v.address(t.Source4, KindTunnel, 0, -1, "source_ipv4", "tunnel source") && !t.Source4.Is4() {
		v.report(KindTunnel, 0, -1, "source_ipv4", "tunnel source %s is not an IPv4 address", t.Source4)
	}
	if t.Source6.IsValid() && v.address(t.Source6, KindTunnel, 0, -1, "source_ipv6", "tunnel source") && !t.Source6.Is6() {
		v.report(KindTunnel, 0, -1, "source_ipv6", "tunnel source %s is not an IPv6 address", t.Source6)
	}
}

func (v *validator) limits() {
	l := v.state.Limits
	count := func(field string, n, most int) {
		if n < 1 || n > most {
			v.report(KindLimits, 0, -1, field, "%s is %d; it must be 1 to %d", field, n, most)
		}
	}
	duration := func(field string, d, most time.Duration) {
		if d < time.Millisecond || d > most {
			v.report(KindLimits, 0, -1, field, "%s is %s; it must be %s to %s", field, d, time.Millisecond, most)
		}
	}
	count("fragment_hold", l.FragmentHold, MaxFragmentHold)
	duration("fragment_hold_timeout", l.FragmentHoldTimeout, time.Minute)
	duration("fragment_timeout", l.FragmentTimeout, time.Hour)
	count("reply_rate", l.ReplyRate, MaxReplyRate)
	count("reply_burst", l.ReplyBurst, MaxReplyRate)
}

// ownership checks that no address has two roles and that there are not too
// many of them.
func (v *validator) ownership() {
	s, roles := v.state, v.roles()
	for i := range s.Pools {
		v.foreign(i, &s.Pools[i], roles)
	}
}

// foreign checks that no backend of a pool has an address of the node's own.
func (v *validator) foreign(i int, pool *Pool, roles map[netip.Addr]string) {
	for j := range pool.Backends {
		if role, taken := roles[pool.Backends[j].Address]; taken {
			v.report(KindPool, i, j, "address", "pool %q: backend %s is also a %s", pool.Name, pool.Backends[j].Address, role)
		}
	}
}

// roles says what each of the node's own addresses is for.
func (v *validator) roles() map[netip.Addr]string {
	s := v.state
	roles := make(map[netip.Addr]string, len(s.VIPs)+len(s.Services)+len(s.SNATs)+2)
	// take gives an address its role. An invalid address has been reported
	// and gets none; the same role twice is no conflict here.
	take := func(a netip.Addr, role, kind string, index int, field string) {
		if badAddress(a) != "" {
			return
		}
		switch have, taken := roles[a]; {
		case !taken:
			roles[a] = role
			if len(roles) == MaxLocals+1 {
				v.report(kind, index, -1, field, "%s %s is one too many: a node has at most %d addresses", role, a, MaxLocals)
			}
		case have != role:
			v.report(kind, index, -1, field, "%s %s is also a %s", role, a, have)
		}
	}
	for i, vip := range s.VIPs {
		take(vip.Address, "VIP", KindVIP, i, "address")
	}
	for i := range s.Services {
		take(s.Services[i].VIP, "VIP", KindService, i, "vip")
	}
	for i, snat := range s.SNATs {
		take(snat.Address, "SNAT address", KindSNAT, i, "address")
	}
	take(s.Tunnel.Source4, "tunnel source", KindTunnel, 0, "source_ipv4")
	take(s.Tunnel.Source6, "tunnel source", KindTunnel, 0, "source_ipv6")
	return roles
}
