package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
	"fairlead/k8ssync/translate"
)

// Groups are what a Gateway puts in force: at each address that its status records,
// its listeners that a route carries. There is one group for each family of the
// addresses, so that a node that can carry one of them only carries that. There is
// none when the Gateway is not ours, not accepted, being deleted, without our
// finalizer, or has no address yet.
func (p *Plan) Groups(key kube.Key) (groups []model.Group, problems []kube.Problem) {
	g := p.gateways[key]
	if g == nil || g.refusal.Reason != "" || g.object.DeletionTimestamp != nil || !slices.Contains(g.object.Finalizers, Finalizer) {
		return nil, nil
	}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		vips := slices.DeleteFunc(recorded(g.object), func(a netip.Addr) bool { return familyOf(a.Is4()) != family })
		if len(vips) == 0 {
			continue
		}
		group, told := p.group(g, family, vips)
		groups = append(groups, group)
		for _, t := range told {
			if !slices.Contains(problems, t) {
				problems = append(problems, t)
			}
		}
	}
	return groups, problems
}

func (p *Plan) group(g *gateway, family corev1.IPFamily, vips []netip.Addr) (group model.Group, problems []kube.Problem) {
	group.Name = translate.GroupName(g.key, family)
	for _, vip := range vips {
		v := model.DefaultVIP()
		v.Address = vip
		if g.options.FailAction != "" {
			v.FailAction = g.options.FailAction
		}
		group.VIPs = append(group.VIPs, v)
	}
	for _, rk := range slices.SortedFunc(maps.Keys(g.routes), compareRoutes) {
		problems = append(problems, p.addAttached(&group, g, g.routes[rk], family, vips)...)
	}
	return group, problems
}

// addAttached adds the pool of a route and the services of the listeners that it
// carries.
func (p *Plan) addAttached(group *model.Group, g *gateway, a *attached, family corev1.IPFamily, vips []netip.Addr) []kube.Problem {
	pool, problems := p.pool(group.Name, g, a, family)
	used := false
	for _, vip := range vips {
		for _, i := range a.listeners {
			l := &g.listeners[i]
			if !l.valid() {
				continue
			}
			svc := model.Service{
				Name:         shorten(group.Name + "/" + string(l.spec.Name) + "/" + vip.String()),
				VIP:          vip,
				Protocol:     l.protocol,
				Ports:        model.PortRange{First: uint16(l.spec.Port), Last: uint16(l.spec.Port)},
				Pool:         pool.Name,
				Method:       model.NAT,
				Gone:         g.options.Gone,
				DrainTimeout: translate.DrainTimeout(g.options, g.options.Method, l.protocol),
			}
			translate.SetIdleTimeout(&svc, g.options.IdleTimeout)
			if svc.Gone == "" {
				svc.Gone = model.GoneReset
			}
			group.Services = append(group.Services, svc)
			used = true
		}
	}
	if used {
		group.Pools = append(group.Pools, pool)
	}
	return problems
}

// pool is what a route sends to, in one family.
func (p *Plan) pool(group string, g *gateway, a *attached, family corev1.IPFamily) (pool model.Pool, problems []kube.Problem) {
	r := a.route
	var portions []portion
	for i := range r.refs {
		ref := &r.refs[i]
		backends, told := p.in.Endpoints(ref.service, ref.port, family, g.options)
		for _, t := range told {
			t.Message = fmt.Sprintf("%s: Service %s: %s", r.key, ref.name, t.Message)
			problems = append(problems, t)
		}
		portions = append(portions, portion{ref.weight, backends})
	}
	lost := int64(0)
	for _, l := range r.lost {
		lost += l.weight
	}
	pool = model.Pool{
		Name: shorten(group + "/" + strings.ToLower(string(r.key.Kind)) + "/" + r.key.Namespace + "/" + r.key.Name),
	}
	if c := g.options.Check; c != nil && !g.options.DisableCheck {
		check := *c
		if fits(&check, r.protocol) {
			pool.Check, pool.SlowStart = &check, g.options.SlowStart
		} else {
			problems = append(problems, kube.Problem{Severity: kube.Warning, Reason: translate.CheckNotApplied, Message: fmt.Sprintf(
				"%s: a check of type %s cannot ask a port of protocol %s; annotation %s can name another one", r.key, c.Type, r.protocol, options.HealthCheckPort)})
		}
	}
	pool.Backends, pool.Refused = share(portions, lost)
	if n := len(pool.Backends); n >= model.MaxPoolBackends {
		problems = append(problems, kube.Problem{Severity: kube.Warning, Reason: "TooManyEndpoints",
			Message: fmt.Sprintf("%s has %d endpoints; %d are used", r.key, n, model.MaxPoolBackends-1)})
		pool.Backends = pool.Backends[:model.MaxPoolBackends-1]
	}
	distinct(pool.Backends)
	return pool, problems
}

// fits reports whether a check can ask ports of a protocol.
func fits(c *model.Check, p corev1.Protocol) bool {
	switch c.Type {
	case model.CheckICMP:
		return true
	case model.CheckUDP, model.CheckDNS:
		return c.Port != 0 || p == corev1.ProtocolUDP
	}
	return c.Port != 0 || p == corev1.ProtocolTCP
}

// recorded are the addresses that a Gateway's status records, sorted.
func recorded(gw *gatewayv1.Gateway) []netip.Addr {
	var out []netip.Addr
	for _, a := range gw.Status.Addresses {
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType {
			continue
		}
		if addr, err := netip.ParseAddr(a.Value); err == nil && addr.Zone() == "" {
			out = append(out, addr.Unmap())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func compareRoutes(a, b RouteKey) int {
	return strings.Compare(a.String(), b.String())
}

// shorten keeps a name within model.MaxNameLength: of one that is longer, the end is
// replaced by a digest of all of it.
func shorten(name string) string {
	if len(name) <= model.MaxNameLength {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "~" + hex.EncodeToString(sum[:8])
	return name[:model.MaxNameLength-len(tail)] + tail
}
