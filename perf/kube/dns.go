package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// clusterDomain is that of the names of Services.
	clusterDomain = "cluster.local"
	dnsPort       = 53
	// dnsTTL is how long an answer may be kept, in seconds.
	dnsTTL = 1
)

// nameServer is the cluster's DNS, on the host of the control plane: the names of
// Services, and of nothing else. It asks the API server anew each time.
type nameServer struct {
	cluster *Cluster
	server  *dns.Server
	ended   chan error
	close   func() error // again does nothing
}

// serveNames starts the cluster's DNS.
func (c *Cluster) serveNames() error {
	conn, err := c.ControlPlane.Host().ListenPacket("udp", fmt.Sprintf(":%d", dnsPort))
	if err != nil {
		return err
	}
	s := &nameServer{cluster: c, ended: make(chan error, 1)}
	s.server = &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(s.answer)}
	begun := make(chan struct{})
	s.server.NotifyStartedFunc = func() { close(begun) }
	go func() { s.ended <- s.server.ActivateAndServe() }()
	s.close = sync.OnceValue(func() error { return errors.Join(s.server.Shutdown(), <-s.ended) })
	select {
	case <-begun:
		c.names = s
		return nil
	case err := <-s.ended:
		return fmt.Errorf("DNS: %w", err)
	}
}

func (s *nameServer) answer(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	answer.Authoritative = true
	answer.Rcode = dns.RcodeNameError
	if len(question.Question) == 1 {
		q := question.Question[0]
		addresses, err := s.lookup(q.Name)
		switch {
		case err == nil:
			answer.Rcode = dns.RcodeSuccess
		case !apierrors.IsNotFound(err):
			answer.Rcode = dns.RcodeServerFailure
		}
		for _, a := range addresses {
			header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: dnsTTL}
			switch {
			case a.Is4() && q.Qtype == dns.TypeA:
				header.Rrtype = dns.TypeA
				answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
			case a.Is6() && q.Qtype == dns.TypeAAAA:
				header.Rrtype = dns.TypeAAAA
				answer.Answer = append(answer.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
			}
		}
	}
	_ = w.WriteMsg(answer) // an answer that is lost is asked for again
}

// lookup is the addresses of a name: the ClusterIPs of a Service, or those of the
// endpoints of a headless one.
func (s *nameServer) lookup(name string) ([]netip.Addr, error) {
	service, found := strings.CutSuffix(strings.ToLower(name), ".svc."+clusterDomain+".")
	name, namespace, two := strings.Cut(service, ".")
	if !found || !two || strings.Contains(namespace, ".") {
		return nil, apierrors.NewNotFound(core.Resource("services"), name)
	}
	ctx, cancel := context.WithTimeout(s.cluster.life, requestTimeout)
	defer cancel()
	object, err := s.cluster.client.CoreV1().Services(namespace).Get(ctx, name, meta.GetOptions{})
	if err != nil {
		return nil, err
	}
	texts := object.Spec.ClusterIPs
	if object.Spec.ClusterIP == core.ClusterIPNone {
		slices, err := s.cluster.client.DiscoveryV1().EndpointSlices(namespace).List(ctx, meta.ListOptions{LabelSelector: discovery.LabelServiceName + "=" + name})
		if err != nil {
			return nil, err
		}
		texts = nil
		for _, slice := range slices.Items {
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					texts = append(texts, e.Addresses...)
				}
			}
		}
	}
	var all []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			all = append(all, a)
		}
	}
	return all, nil
}

// resolver is the file /etc/resolv.conf of a pod.
func (w *worker) resolver(pod *core.Pod) string {
	if p := pod.Spec.DNSPolicy; p == core.DNSNone || p == core.DNSDefault || pod.Spec.HostNetwork && p != core.DNSClusterFirstWithHostNet {
		return "" // that of the machine is not for the lab
	}
	return fmt.Sprintf("search %s.svc.%s svc.%[2]s %[2]s\nnameserver %[3]s\noptions ndots:5\n", pod.Namespace, clusterDomain, w.kubelet.node.cluster.Address().Addr())
}

// resolverPath is where the file /etc/resolv.conf is of a pod's containers that see
// the machine's file system.
func (w *worker) resolverPath() string { return w.path("resolv.conf") }

// writeResolver makes that file; the machine's own is not for the lab.
func (w *worker) writeResolver(pod *core.Pod) error {
	if err := os.MkdirAll(w.path(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(w.resolverPath(), []byte(w.resolver(pod)), 0o644)
}
