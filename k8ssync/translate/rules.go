package translate

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	netutils "k8s.io/utils/net"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// Reasons of problems.
const (
	InvalidStatusAddress      = "InvalidStatusAddress"      // the status has what is no address
	InvalidPort               = "InvalidPort"               // a port is not 1 to 65535
	ProtocolNotSupported      = "ProtocolNotSupported"      // none of TCP, UDP and SCTP
	NodePortMissing           = "NodePortMissing"           // method nodeports, and there is none
	NodeAddressMissing        = "NodeAddressMissing"        // nodes that cannot be reached in a family
	EndpointIgnored           = "EndpointIgnored"           // endpoints with addresses that cannot be used
	EndpointWithoutNode       = "EndpointWithoutNode"       // endpoints of which it is not said where they are
	BackendOnBalancer         = "BackendOnBalancer"         // endpoints, or a node, that this node is itself
	TooManyEndpoints          = "TooManyEndpoints"          // more than a pool may have
	InvalidWeight             = "InvalidWeight"             // of a pod
	ClientAddressNotPreserved = "ClientAddressNotPreserved" // Local, by a method that rewrites
	InvalidSourceRange        = "InvalidSourceRange"        // in spec.loadBalancerSourceRanges
	SourceRangesOfOneFamily   = "SourceRangesOfOneFamily"   // so that the other one is closed
	CheckNotApplied           = "CheckNotApplied"           // the port does not speak what the check asks
	AnnotationWithoutEffect   = "AnnotationWithoutEffect"   // with what else is said, it does nothing
)

// KeyOf is the Service's key.
func KeyOf(svc *corev1.Service) kube.Key {
	return kube.Key{Kind: kube.Service, Namespace: svc.Namespace, Name: svc.Name}
}

// Serves reports whether a Service is ours to serve: of type LoadBalancer, and of
// our class, or of none where Services without one are served. Whatever it says of
// all others, they are not touched. One that is being deleted is served for as long
// as its status has addresses.
func Serves(svc *corev1.Service, s kube.Settings) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	class := s.Class
	if class == "" {
		class = kube.Class
	}
	if svc.Spec.LoadBalancerClass == nil {
		return s.DefaultClass
	}
	return *svc.Spec.LoadBalancerClass == class
}

// Local reports whether the Service keeps external traffic on the node that it
// comes to.
func Local(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// MethodOf is how packets get to the Service's pods.
func MethodOf(svc *corev1.Service, o kube.Options, s kube.Settings) kube.Method {
	switch {
	case o.Method != "":
		return o.Method
	case Local(svc) && s.LocalMethod != "":
		return s.LocalMethod
	case Local(svc):
		return kube.Nodes
	case s.Method != "":
		return s.Method
	}
	return kube.Pods
}

// NeedsNodes reports whether a translation needs Input.Nodes.
func NeedsNodes(svc *corev1.Service, o kube.Options, s kube.Settings) bool {
	return MethodOf(svc, o, s) != kube.Pods
}

// IPMode is what the status is to say of the Service's addresses (KEP-1860): VIP
// where nodes see the VIP as destination. Where they do not, because we translate
// addresses, clients in the cluster are to come by us.
func IPMode(svc *corev1.Service, o kube.Options, s kube.Settings) kube.IPMode {
	switch {
	case MethodOf(svc, o, s) == kube.Nodes:
		return kube.ModeVIP
	case o.IPMode != "":
		return o.IPMode
	}
	return kube.ModeProxy
}

// VIPs are the addresses in a Service's status, canonically and each once.
// Host names, and what is no address of a VIP, are left out.
func VIPs(svc *corev1.Service) (vips []netip.Addr) {
	for _, text := range statusAddresses(svc) {
		if a, bad := address(text); bad == "" {
			vips = append(vips, a)
		}
	}
	return vips
}

func statusAddresses(svc *corev1.Service) (texts []string) {
	seen := map[string]bool{}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && !seen[in.IP] {
			seen[in.IP] = true
			texts = append(texts, in.IP)
		}
	}
	return texts
}

// address reads one as sloppily as Kubernetes does (leading zeros, IPv4-mapped), and
// gives it canonically. bad says what is wrong with it.
func address(text string) (a netip.Addr, bad string) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		ip := netutils.ParseIPSloppy(text)
		if ip == nil {
			return netip.Addr{}, fmt.Sprintf("%q is not an IP address", text)
		}
		a, _ = netip.AddrFromSlice(ip)
	}
	a = a.Unmap()
	if bad := model.AddressProblem(a); bad != "" {
		return netip.Addr{}, fmt.Sprintf("%s %s", a, bad)
	}
	return a, ""
}
