// Package translate makes what the data path is to do out of a Service, its
// EndpointSlices and the nodes. It is pure: the same objects, in any order, give the
// same group; and whatever the objects say, the group is valid (model.Validate).
//
// What Kubernetes promises about Services is kept here. Its enhancement proposals
// are named where the rule stands.
package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// Input is all that a translation goes by. Nothing of it is changed.
type Input struct {
	Service *corev1.Service
	Slices  []*discoveryv1.EndpointSlice // all that belong to the Service, in any order
	Nodes   *Nodes                       // of the cluster; nil where NeedsNodes says no
	// PodWeight is the value of the annotation options.Weight of a pod, not ok when it
	// has none. nil: weights are not read, and all pods are equal.
	PodWeight func(namespace, name string) (value string, ok bool)
	Options   kube.Options
	Settings  kube.Settings
}

// Output is what follows from an Input.
type Output struct {
	Key kube.Key
	// Groups are one for each family of the VIPs, so that a node that can carry one of
	// them only carries that.
	Groups []model.Group
	// Programmable: the groups are to be in force. Otherwise none of this object is,
	// and Why says the reason in a few words.
	Programmable bool
	Why          string

	Method     kube.Method
	IPMode     kube.IPMode
	Problems   []kube.Problem // in a fixed order, each once
	PortErrors []PortError    // ports of the Service that are not served
}

// PortError says why a port of a Service is not served, as its status has it.
type PortError struct {
	Port     int32
	Protocol corev1.Protocol
	Reason   string // in the form of status.loadBalancer.ingress[].ports[].error
	Message  string
}

// Service translates a Service.
func Service(in Input) Output {
	svc := in.Service
	t := &translation{Input: in, method: MethodOf(svc, in.Options, in.Settings), seen: map[kube.Problem]bool{}}
	out := Output{Key: KeyOf(svc), Method: t.method, IPMode: IPMode(svc, in.Options, in.Settings)}
	if Serves(svc, in.Settings) {
		t.fit()
	}
	if out.Why = t.unprogrammable(out.Key.Group()); out.Why == "" {
		for _, four := range []bool{true, false} {
			if slices.ContainsFunc(t.vips, func(a netip.Addr) bool { return a.Is4() == four }) {
				out.Groups = append(out.Groups, t.group(out.Key.Group(), four))
			}
		}
		out.Programmable = true
	}
	out.Problems, out.PortErrors = t.problems, t.portErrors
	return out
}

// translation carries one of them.
type translation struct {
	Input
	method     kube.Method
	vips       []netip.Addr
	served     []servedPort
	problems   []kube.Problem
	seen       map[kube.Problem]bool
	portErrors []PortError
}

// servedPort is a port of the Service that can be served.
type servedPort struct {
	*corev1.ServicePort
	label    string
	protocol model.Protocol
}

func (t *translation) warn(reason, format string, args ...any) {
	p := kube.Problem{Severity: kube.Warning, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if !t.seen[p] {
		t.seen[p] = true
		t.problems = append(t.problems, p)
	}
}

// unprogrammable says why nothing of the Service is to be in force; "" when
// something is. It finds the VIPs.
func (t *translation) unprogrammable(group string) string {
	svc := t.Service
	switch {
	case !Serves(svc, t.Settings):
		return "it is not ours"
	case !slices.Contains(svc.Finalizers, kube.Finalizer):
		// Ours is set before a status is written. One without may have been left by
		// another provider, and name addresses that are not ours to take.
		return "no address has been assigned by us"
	case model.NameProblem(group+strings.Repeat("x", longestSuffix)) != "":
		return "its name cannot be used"
	}
	for _, text := range statusAddresses(svc) {
		a, bad := address(text)
		if bad == "" {
			t.vips = append(t.vips, a)
		} else {
			t.warn(InvalidStatusAddress, "status.loadBalancer.ingress: %s", bad)
		}
	}
	slices.SortFunc(t.vips, netip.Addr.Compare)
	t.vips = slices.Compact(t.vips)
	switch {
	case len(t.vips) == 0:
		return "no address has been assigned"
	case len(t.served) == 0:
		return "no port can be served"
	}
	return ""
}

// longestSuffix is by how much the longest name of a service or pool is longer
// than that of its group: protocol, port and an IPv6 address.
const longestSuffix = len("/sctp-65535/") + 39

// fit finds the ports that can be served, and what was asked for and does not fit
// the rest.
func (t *translation) fit() {
	o := &t.Options
	done := map[string]bool{}
	for i := range t.Service.Spec.Ports {
		p := &t.Service.Spec.Ports[i]
		if label, protocol, ok := t.port(p); ok && !done[label] {
			done[label] = true
			t.served = append(t.served, servedPort{p, label, protocol})
		}
	}
	if t.method == kube.Nodes && o.IPMode == kube.ModeProxy {
		t.warn(AnnotationWithoutEffect, "annotation %s/ip-mode: Proxy has no effect with method nodes, for nodes take the VIP for their own only with VIP", kube.Domain)
	}
	if t.method != kube.Nodes && o.NodesVia != "" {
		t.warn(AnnotationWithoutEffect, "annotation %s/nodes-via: has no effect with method %s", kube.Domain, t.method)
	}
	if t.method != kube.Nodes && Local(t.Service) {
		t.warn(ClientAddressNotPreserved, "externalTrafficPolicy: Local keeps the client's address, and method %s does not; method nodes does", t.method)
	}
	if t.method == kube.Pods && o.SlowStart > 0 && o.Check == nil {
		t.warn(AnnotationWithoutEffect, "annotation %s/slow-start: has no effect without %s/health-check", kube.Domain, kube.Domain)
	}
}

// GroupName is the name of the group of an object's VIPs of one family.
func GroupName(key kube.Key, family corev1.IPFamily) string {
	return key.Group() + "/" + familyName(family != corev1.IPv6Protocol)
}

// group translates each port of the Service for each VIP of a family. All names begin
// with name.
func (t *translation) group(name string, four bool) model.Group {
	g := model.Group{Name: name + "/" + familyName(four)}
	for _, vip := range t.vips {
		if vip.Is4() == four && t.Options.FailAction != "" && t.Options.FailAction != model.FailDrop {
			v := model.DefaultVIP()
			v.Address, v.FailAction = vip, t.Options.FailAction
			g.VIPs = append(g.VIPs, v)
		}
	}
	for _, port := range t.served {
		pool := t.pool(name+"/"+port.label+"/"+familyName(four), port.ServicePort, four)
		g.Pools = append(g.Pools, pool)
		for _, vip := range t.vips {
			if vip.Is4() == four {
				g.Services = append(g.Services, t.service(name+"/"+port.label+"/"+vip.String(), vip, port, pool.Name))
			}
		}
	}
	byName(&g)
	return g
}

// byName makes the order of a group's parts that of their names, whatever order
// the ports were listed in.
func byName(g *model.Group) {
	slices.SortFunc(g.Services, func(a, b model.Service) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(g.Pools, func(a, b model.Pool) int { return strings.Compare(a.Name, b.Name) })
}

// port gives what a port is called. Its name is not part of it: who renames a port
// does not break its flows.
func (t *translation) port(p *corev1.ServicePort) (label string, protocol model.Protocol, ok bool) {
	refuse := func(reason, format string, args ...any) {
		message := fmt.Sprintf(format, args...)
		t.warn(reason, "%s", message)
		t.portErrors = append(t.portErrors, PortError{p.Port, protocolOf(p), kube.Domain + "/" + reason, message})
	}
	protocol = protocols[protocolOf(p)]
	switch {
	case protocol == "":
		refuse(ProtocolNotSupported, "port %d: protocol %s is none of TCP, UDP and SCTP", p.Port, protocolOf(p))
	case p.Port < 1 || p.Port > 65535:
		refuse(InvalidPort, "port %d: is not 1 to 65535", p.Port)
	case t.method == kube.NodePorts && (p.NodePort < 1 || p.NodePort > 65535):
		refuse(NodePortMissing, "port %d: has no node port, which method nodeports needs: allocateLoadBalancerNodePorts must not be false", p.Port)
	default:
		return fmt.Sprintf("%s-%d", protocol, p.Port), protocol, true
	}
	return "", "", false
}

var protocols = map[corev1.Protocol]model.Protocol{corev1.ProtocolTCP: model.TCP, corev1.ProtocolUDP: model.UDP, corev1.ProtocolSCTP: model.SCTP}

// protocolOf is the protocol of a port; TCP where it says nothing.
func protocolOf(p *corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

func familyName(four bool) string {
	if four {
		return "ipv4"
	}
	return "ipv6"
}
