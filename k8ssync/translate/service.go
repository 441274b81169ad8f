package translate

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// service is one port of one VIP.
func (t *translation) service(name string, vip netip.Addr, port servedPort, pool string) model.Service {
	s := model.Service{
		Name: name, VIP: vip, Protocol: port.protocol, Ports: model.PortRange{First: uint16(port.Port), Last: uint16(port.Port)}, Pool: pool,
		Method: model.NAT, Gone: t.Options.Gone, Affinity: t.affinity(), SourceRanges: t.sourceRanges(vip.Is4()), DrainTimeout: DrainTimeout(t.Options, t.method, port.protocol),
	}
	if t.method == kube.Nodes {
		s.Method = t.via()
	}
	if s.Gone == "" {
		s.Gone = model.GoneReset
	}
	SetIdleTimeout(&s, t.Options.IdleTimeout)
	return s
}

// SetIdleTimeout has a service's flows end after so long without a packet. 0 leaves
// the node's defaults.
func SetIdleTimeout(s *model.Service, d time.Duration) {
	switch s.Protocol {
	case model.TCP:
		s.Timeouts.TCPEstablished = d
	case model.UDP:
		s.Timeouts.UDP, s.Timeouts.UDPStream = d, d
	case model.SCTP:
		s.Timeouts.SCTP = d
	}
}

// DrainTimeout is how long flows outlive that their backend is removed. A pod that is
// in no slice any more is gone, and who still talks to it is told so at once; before
// that it had its own grace period to end them. A node that is no backend any more
// may well be there, with its connections. UDP leaves at once.
func DrainTimeout(o kube.Options, m kube.Method, p model.Protocol) time.Duration {
	switch {
	case p == model.UDP:
		return model.NoDrain
	case o.DrainTimeout > 0:
		return o.DrainTimeout
	case m == kube.Pods:
		return model.NoDrain
	}
	return model.DefaultDrainTimeout
}

// affinity is sessionAffinity with its timeout.
func (t *translation) affinity() model.Affinity {
	spec := &t.Service.Spec
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return model.Affinity{}
	}
	a := model.Affinity{Enabled: true, Timeout: model.DefaultAffinityTimeout}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil && *c.ClientIP.TimeoutSeconds > 0 {
		a.Timeout = min(time.Duration(*c.ClientIP.TimeoutSeconds)*time.Second, model.MaxTimeout)
	}
	return a
}

// pool is what a port's packets of one family are spread over.
func (t *translation) pool(name string, port *corev1.ServicePort, four bool) model.Pool {
	p := model.Pool{Name: name, Backends: t.backends(port, four)}
	p.Check, p.PanicThreshold = t.check(port)
	if p.Check != nil {
		p.SlowStart = t.Options.SlowStart
	}
	return p
}

// check is how the backends of a port are checked, and under how many per cent of
// them alive the checks are not believed.
//
// Pods are not checked unless somebody asks for it: Kubernetes probes them. Nodes
// are. With externalTrafficPolicy Local they say themselves, at healthCheckNodePort,
// whether they want new connections (KEP-1669): one that does not is not dead, and
// keeps those it has, but for UDP flows, which have no end. Otherwise they are sent
// echo requests. When not one node answers, it is more likely that something keeps
// the checks from them.
func (t *translation) check(port *corev1.ServicePort) (*model.Check, int) {
	hc := t.Service.Spec.HealthCheckNodePort
	switch {
	case t.Options.DisableCheck:
		return nil, 0
	case t.Options.Check != nil:
		return t.asked(port), 0
	case t.method == kube.Pods:
		return nil, 0
	case Local(t.Service) && hc > 0 && hc <= 65535:
		return &model.Check{
			Type: model.CheckHTTP, Path: model.PathDirect, Port: uint16(hc), KeepFlows: protocolOf(port) != corev1.ProtocolUDP,
			HTTP: model.HTTPCheck{Path: "/healthz", Status: []model.StatusRange{{First: 200, Last: 200}}},
		}, anyAlive
	}
	return &model.Check{Type: model.CheckICMP, Path: model.PathDirect}, anyAlive
}

// anyAlive has all nodes used when not one is found alive.
const anyAlive = 1

// asked is the check that an annotation asks for, where the port can answer it:
// a check by TCP says nothing of a UDP port, and the other way round.
func (t *translation) asked(port *corev1.ServicePort) *model.Check {
	c := *t.Options.Check
	var fits bool
	switch c.Type {
	case model.CheckICMP:
		fits = true
	case model.CheckUDP, model.CheckDNS:
		fits = protocolOf(port) == corev1.ProtocolUDP
	default:
		fits = protocolOf(port) == corev1.ProtocolTCP
	}
	if !fits && c.Port == 0 {
		t.warn(CheckNotApplied, "port %d: a check of type %s cannot ask a port of protocol %s; annotation %s/health-check-port can name another one", port.Port, c.Type, protocolOf(port), kube.Domain)
		return nil
	}
	return &c
}
