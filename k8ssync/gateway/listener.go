package gateway

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
)

// listener is one of spec.listeners of a Gateway.
type listener struct {
	spec     *gatewayv1.Listener
	protocol model.Protocol // "" when its protocol is not served
	kinds    []gatewayv1.Kind
	// refusal is why it is not accepted; its Reason is empty when it is.
	refusal verdict
	// conflict says which listeners it collides with; "" when with none.
	conflict string
	// badKinds are those of allowedRoutes.kinds that it cannot take.
	badKinds []string
	from     gatewayv1.FromNamespaces
	selector labels.Selector // with from Selector

	accepted int    // routes that are attached
	carries  *route // the oldest of these, whose backends it sends to
}

func newListener(spec *gatewayv1.Listener, served map[gatewayv1.Kind]bool) listener {
	l := listener{spec: spec, from: gatewayv1.NamespacesFromSame}
	native, known := protocols[spec.Protocol]
	switch {
	case !known:
		l.refusal = verdict{string(gatewayv1.ListenerReasonUnsupportedProtocol),
			fmt.Sprintf("protocol %s is not supported; TCP and UDP are", spec.Protocol)}
	case !served[native.kind]:
		l.refusal = verdict{string(gatewayv1.ListenerReasonUnsupportedProtocol),
			fmt.Sprintf("the API server does not serve %s in version v1 of %s; install the Gateway API of release 1.6 or later", native.kind, gatewayv1.GroupName)}
	case spec.Port < 1 || spec.Port > 65535:
		l.refusal = verdict{string(gatewayv1.ListenerReasonPortUnavailable), fmt.Sprintf("port %d is none of 1 to 65535", spec.Port)}
	default:
		l.protocol, l.kinds = native.protocol, []gatewayv1.Kind{native.kind}
	}
	l.allow(spec.AllowedRoutes)
	return l
}

// allow reads which routes may attach.
func (l *listener) allow(allowed *gatewayv1.AllowedRoutes) {
	if allowed == nil {
		return
	}
	if len(allowed.Kinds) > 0 {
		native := l.kinds
		l.kinds = nil
		for _, k := range allowed.Kinds {
			group := gatewayv1.Group(gatewayv1.GroupName)
			if k.Group != nil {
				group = *k.Group
			}
			switch {
			case group == gatewayv1.GroupName && slices.Contains(native, k.Kind):
				if !slices.Contains(l.kinds, k.Kind) {
					l.kinds = append(l.kinds, k.Kind)
				}
			case l.protocol == "" && group == gatewayv1.GroupName && slices.Contains(routeKinds, k.Kind):
				// The protocol is what is wrong, and is said; its kinds are not ours to judge.
			case group == "":
				l.badKinds = append(l.badKinds, "core "+string(k.Kind))
			default:
				l.badKinds = append(l.badKinds, string(group)+" "+string(k.Kind))
			}
		}
	}
	ns := allowed.Namespaces
	if ns == nil || ns.From == nil {
		return
	}
	l.from = *ns.From
	switch l.from {
	case gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromNone:
	case gatewayv1.NamespacesFromSelector:
		if ns.Selector == nil {
			l.refuse(verdict{string(gatewayv1.ListenerReasonUnsupportedValue), "allowedRoutes.namespaces.from is Selector and there is no selector"})
			return
		}
		selector, err := metav1.LabelSelectorAsSelector(ns.Selector)
		if err != nil {
			l.refuse(verdict{string(gatewayv1.ListenerReasonUnsupportedValue), "allowedRoutes.namespaces.selector: " + err.Error()})
			return
		}
		l.selector = selector
	default:
		l.refuse(verdict{string(gatewayv1.ListenerReasonUnsupportedValue), fmt.Sprintf("allowedRoutes.namespaces.from %q is none of All, Same, Selector, None", l.from)})
	}
}

// routeKinds are the kinds of routes of the Gateway API.
var routeKinds = []gatewayv1.Kind{"HTTPRoute", "GRPCRoute", "TLSRoute", KindTCPRoute, KindUDPRoute}

// refuse keeps the first reason.
func (l *listener) refuse(v verdict) {
	if l.refusal.Reason == "" {
		l.refusal = v
	}
}

// valid reports whether packets may be taken for it.
func (l *listener) valid() bool { return l.refusal.Reason == "" }

// takes reports whether routes of a kind and namespace may attach. labels are those
// of the namespace.
func (l *listener) takes(r *route, gateway string, labels labels.Labels) bool {
	if !slices.Contains(l.kinds, r.key.Kind) {
		return false
	}
	switch l.from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return r.key.Namespace == gateway
	case gatewayv1.NamespacesFromSelector:
		return l.selector != nil && l.selector.Matches(labels)
	}
	return false
}

// selected reports whether a parent reference means the listener.
func (l *listener) selected(ref *gatewayv1.ParentReference) bool {
	return (ref.SectionName == nil || *ref.SectionName == "" || *ref.SectionName == l.spec.Name) &&
		(ref.Port == nil || *ref.Port == l.spec.Port)
}

// transport is what a listener's port is taken of: HTTP, HTTPS and TLS are carried
// by TCP.
func transport(p gatewayv1.ProtocolType) string {
	switch p {
	case gatewayv1.TCPProtocolType, gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
		return "TCP"
	}
	return string(p)
}

// conflicts marks listeners that are not distinct: of one transport and port, when
// one of them is of protocol TCP or UDP, by which nothing else tells them apart. None of them wins.
func conflicts(listeners []listener) {
	type place struct {
		transport string
		port      gatewayv1.PortNumber
	}
	at := make(map[place][]int)
	for i := range listeners {
		where := place{transport(listeners[i].spec.Protocol), listeners[i].spec.Port}
		at[where] = append(at[where], i)
	}
	for where, same := range at {
		plain := slices.ContainsFunc(same, func(i int) bool { _, ours := protocols[listeners[i].spec.Protocol]; return ours })
		if len(same) < 2 || !plain {
			continue
		}
		for _, i := range same {
			var others []string
			for _, j := range same {
				if j != i {
					others = append(others, fmt.Sprintf("%s (%s)", listeners[j].spec.Name, listeners[j].spec.Protocol))
				}
			}
			slices.Sort(others)
			l := &listeners[i]
			l.conflict = fmt.Sprintf("port %d of %s is also that of listener %s", where.port, where.transport, strings.Join(others, ", "))
			l.refuse(verdict{string(gatewayv1.ListenerReasonPortUnavailable), l.conflict})
		}
	}
}
