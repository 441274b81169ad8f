package writer

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead/k8ssync/kube"
)

// addressesOf are the addresses of a status, in its order.
func addressesOf(ingress []corev1.LoadBalancerIngress) []netip.Addr {
	var out []netip.Addr
	for i := range ingress {
		if a, err := netip.ParseAddr(ingress[i].IP); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// ingress is what the status of a Service that holds these addresses says.
func ingress(svc *corev1.Service, addrs []netip.Addr, r *Reading) []corev1.LoadBalancerIngress {
	if len(addrs) == 0 {
		return nil
	}
	ports := make([]corev1.PortStatus, len(svc.Spec.Ports))
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		ports[i] = corev1.PortStatus{Port: p.Port, Protocol: p.Protocol}
		if at := slices.IndexFunc(r.Ports, func(e PortError) bool { return e.Port == p.Port && e.Protocol == p.Protocol }); at >= 0 {
			reason := r.Ports[at].Reason
			ports[i].Error = &reason
		}
	}
	mode := corev1.LoadBalancerIPModeVIP
	if r.IPMode == kube.ModeProxy {
		mode = corev1.LoadBalancerIPModeProxy
	}
	out := make([]corev1.LoadBalancerIngress, len(addrs))
	for i, a := range addrs {
		out[i] = corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode, Ports: ports}
	}
	return out
}

// sameIngress compares two statuses; addresses may be written differently.
func sameIngress(a, b []corev1.LoadBalancerIngress) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.LoadBalancerIngress) bool {
		return x.Hostname == y.Hostname && sameAddress(x.IP, y.IP) && modeOf(&x) == modeOf(&y) && slices.EqualFunc(x.Ports, y.Ports, func(p, q corev1.PortStatus) bool {
			return p.Port == q.Port && p.Protocol == q.Protocol && errorOf(&p) == errorOf(&q)
		})
	})
}

func sameAddress(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err1 == nil && err2 == nil && x.Unmap() == y.Unmap()
}

func modeOf(i *corev1.LoadBalancerIngress) corev1.LoadBalancerIPMode {
	if i.IPMode == nil {
		return corev1.LoadBalancerIPModeVIP
	}
	return *i.IPMode
}

func errorOf(p *corev1.PortStatus) string {
	if p.Error == nil {
		return ""
	}
	return *p.Error
}
