package translate

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
)

// TestWhatIsLeftAlone: which Services are ours, and of these, which are in force.
func TestWhatIsLeftAlone(t *testing.T) {
	noClass := func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil }
	for _, c := range []struct {
		name     string
		change   func(*corev1.Service)
		settings kube.Settings
		serves   bool
		why      string
	}{
		{name: "our class", change: func(*corev1.Service) {}, serves: true},
		{name: "another class", change: func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("metallb.io/lb") }, why: "it is not ours"},
		{name: "another class of the settings", change: func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("example.com/edge") }, settings: kube.Settings{Class: "example.com/edge"}, serves: true},
		{name: "our own name when the settings say another class", change: func(*corev1.Service) {}, settings: kube.Settings{Class: "example.com/edge"}, why: "it is not ours"},
		{name: "no class", change: noClass, why: "it is not ours"},
		{name: "no class, and we are the default", change: noClass, settings: kube.Settings{DefaultClass: true}, serves: true},
		{name: "another class, and we are the default", change: func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("x/y") }, settings: kube.Settings{DefaultClass: true}, why: "it is not ours"},
		{name: "ClusterIP", change: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, why: "it is not ours"},
		{name: "NodePort", change: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, why: "it is not ours"},
		{name: "ExternalName", change: func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "x.example"
		}, why: "it is not ours"},
		{name: "headless", change: func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeClusterIP, "None" }, why: "it is not ours"},
		{name: "a status without our finalizer is somebody else's", change: func(s *corev1.Service) { s.Finalizers = []string{"example.com/x"} }, serves: true, why: "no address has been assigned by us"},
		{name: "no address yet", change: vips(), serves: true, why: "no address has been assigned"},
		{name: "a host name is no address", change: func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "x.example"}}
		}, serves: true, why: "no address has been assigned"},
		{name: "one that is being deleted goes on while it has addresses", change: func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }, serves: true},
		{name: "a name that no object has", change: func(s *corev1.Service) { s.Namespace = "default\n" }, serves: true, why: "its name cannot be used"},
		{name: "no port that can be served", change: ports(corev1.ServicePort{Port: 80, Protocol: "DCCP"}), serves: true, why: "no port can be served"},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := service(c.change)
			out := run(t, Input{Service: svc, Settings: c.settings})
			if Serves(svc, c.settings) != c.serves || out.Why != c.why || out.Key != KeyOf(svc) {
				t.Errorf("serves %v, key %s, why %q, want %v, %q", Serves(svc, c.settings), out.Key, out.Why, c.serves, c.why)
			}
		})
	}
}

// TestByPods: the whole group of a Service with two ports and two families.
func TestByPods(t *testing.T) {
	svc := service(vips("2001:DB8::7", "203.0.113.007", "203.0.113.7"), ports(
		corev1.ServicePort{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, AppProtocol: ptr("kubernetes.io/h2c")},
		corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80},
	))
	both := slice(endpointOf("a", "10.0.0.1"))
	both.Ports = append(both.Ports, both.Ports[0])
	both.Ports[1].Name, both.Ports[1].Port = ptr("https"), ptr(int32(8443))
	out := run(t, Input{Service: svc, Slices: sliceList{both, slice(endpointOf("a", "2001:db8:1::1"))}})
	told(t, out)
	if out.Method != kube.Pods || out.IPMode != kube.ModeProxy {
		t.Errorf("%s, %s", out.Method, out.IPMode)
	}
	const name = "k8s/service/default/web"
	s := func(port uint16, vip, family string) model.Service {
		label := fmt.Sprintf("%s/tcp-%d/", name, port)
		return model.Service{
			Name: label + vip, VIP: netip.MustParseAddr(vip), Protocol: model.TCP, Ports: model.PortRange{First: port, Last: port},
			Pool: label + family, Method: model.NAT, Gone: model.GoneReset, DrainTimeout: model.NoDrain,
		}
	}
	p := func(port uint16, family string, all ...model.Backend) model.Pool {
		return model.Pool{Name: fmt.Sprintf("%s/tcp-%d/%s", name, port, family), Backends: all}
	}
	b := func(address string, port uint16) model.Backend {
		return model.Backend{Name: "a", Address: netip.MustParseAddr(address), Port: port, Weight: 1}
	}
	want := model.Group{
		Name:     name,
		Services: []model.Service{s(443, "2001:db8::7", "ipv6"), s(443, "203.0.113.7", "ipv4"), s(80, "2001:db8::7", "ipv6"), s(80, "203.0.113.7", "ipv4")},
		Pools:    []model.Pool{p(443, "ipv4", b("10.0.0.1", 8443)), p(443, "ipv6"), p(80, "ipv4", b("10.0.0.1", 8080)), p(80, "ipv6", b("2001:db8:1::1", 8080))},
	}
	want.Pools[1].Backends = []model.Backend{}
	if !reflect.DeepEqual(whole(out), want) {
		t.Errorf("the group is\n%+v\nwant\n%+v", whole(out), want)
	}
	if g := out.Groups; len(g) != 2 || g[0].Name != name+"/ipv4" || g[1].Name != name+"/ipv6" || len(g[0].Services) != 2 || len(g[0].Pools) != 2 || len(g[1].Services) != 2 {
		t.Errorf("groups by family are %+v", g)
	}
	slices.Reverse(svc.Spec.Ports)
	svc.Spec.Ports[0].Name = "renamed"
	renamed := slice(endpointOf("a", "10.0.0.1"))
	renamed.Ports[0].Name = ptr("renamed")
	again := run(t, Input{Service: svc, Slices: sliceList{both, renamed, slice(endpointOf("a", "2001:db8:1::1"))}})
	if got := whole(again).Services; !reflect.DeepEqual(got, want.Services) {
		t.Errorf("a port that is renamed makes other services: %+v", got)
	}
}

// TestMixedProtocols: ports of one number and several protocols are several services.
func TestMixedProtocols(t *testing.T) {
	svc := service(ports(
		corev1.ServicePort{Name: "http", Port: 53}, // TCP is the default
		corev1.ServicePort{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 53},
		corev1.ServicePort{Name: "sctp", Protocol: corev1.ProtocolSCTP, Port: 53},
		corev1.ServicePort{Name: "dccp", Protocol: "DCCP", Port: 53},
		corev1.ServicePort{Name: "zero", Port: 0},
		corev1.ServicePort{Name: "again", Port: 53},
	))
	out := run(t, Input{Service: svc, Slices: sliceList{slice(endpointOf("a", "10.0.0.1"))}, Options: kube.Options{IdleTimeout: time.Minute, DrainTimeout: time.Hour}})
	var got []string
	for _, s := range whole(out).Services {
		got = append(got, fmt.Sprintf("%s %d %s %s %s/%s/%s/%s", s.Protocol, s.Ports.First, s.Name, s.DrainTimeout, s.Timeouts.TCPEstablished, s.Timeouts.UDP, s.Timeouts.UDPStream, s.Timeouts.SCTP))
	}
	want := []string{
		"sctp 53 k8s/service/default/web/sctp-53/203.0.113.7 1h0m0s 0s/0s/0s/1m0s",
		"tcp 53 k8s/service/default/web/tcp-53/203.0.113.7 1h0m0s 1m0s/0s/0s/0s",
		"udp 53 k8s/service/default/web/udp-53/203.0.113.7 1ns 0s/1m0s/1m0s/0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("services are\n%q\nwant\n%q", got, want)
	}
	told(t, out, "ProtocolNotSupported: port 53: protocol DCCP is none of TCP, UDP and SCTP", "InvalidPort: port 0: is not 1 to 65535")
	if e := out.PortErrors; len(e) != 2 || e[0] != (PortError{53, "DCCP", "fairlead.io/ProtocolNotSupported", "port 53: protocol DCCP is none of TCP, UDP and SCTP"}) ||
		e[1].Reason != "fairlead.io/InvalidPort" {
		t.Errorf("port errors are %+v", e)
	}
}

// TestPortErrorsBeforeAnAddress: what cannot be served is known before there is a VIP.
func TestPortErrorsBeforeAnAddress(t *testing.T) {
	out := run(t, Input{Service: service(vips(), func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }), Options: kube.Options{Method: kube.NodePorts}})
	const message = "port 80: has no node port, which method nodeports needs: allocateLoadBalancerNodePorts must not be false"
	told(t, out, "NodePortMissing: "+message)
	if want := []PortError{{80, corev1.ProtocolTCP, "fairlead.io/NodePortMissing", message}}; !slices.Equal(out.PortErrors, want) {
		t.Errorf("port errors are %+v", out.PortErrors)
	}
}

func TestSessionAffinity(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   corev1.ServiceAffinity
		config *corev1.SessionAffinityConfig
		want   model.Affinity
	}{
		{"None", corev1.ServiceAffinityNone, nil, model.Affinity{}},
		{"None with a timeout", corev1.ServiceAffinityNone, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(5))}}, model.Affinity{}},
		{"ClientIP", corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(5))}}, model.Affinity{Enabled: true, Timeout: 5 * time.Second}},
		{"ClientIP by default for three hours", corev1.ServiceAffinityClientIP, nil, model.Affinity{Enabled: true, Timeout: 3 * time.Hour}},
		{"ClientIP without a time", corev1.ServiceAffinityClientIP, &corev1.SessionAffinityConfig{}, model.Affinity{Enabled: true, Timeout: 3 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := run(t, Input{Service: service(func(s *corev1.Service) { s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig = c.kind, c.config })})
			if got := whole(out).Services[0].Affinity; got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSourceRanges(t *testing.T) {
	const annotation = corev1.AnnotationLoadBalancerSourceRangesKey
	for _, c := range []struct {
		name       string
		ranges     []string
		annotation string
		four, six  string // of the two VIPs
		problems   []string
	}{
		{name: "none is anybody", four: "[]", six: "[]"},
		{name: "each family has its own, in order, each once", ranges: []string{"198.51.100.0/24", " 192.0.2.0/24", "2001:db8:2::/48", "192.0.2.0/24"}, four: "[192.0.2.0/24 198.51.100.0/24]", six: "[2001:db8:2::/48]"},
		{name: "all is anybody", ranges: []string{"0.0.0.0/0", "10.0.0.0/8", "::/0"}, four: "[]", six: "[]"},
		{
			name: "one family only closes the other", ranges: []string{"192.0.2.0/24"}, four: "[192.0.2.0/24]", six: "[::/128]",
			problems: []string{"SourceRangesOfOneFamily: spec.loadBalancerSourceRanges: has ranges of IPv4 only, so that the IPv6 address lets nobody in"},
		},
		{
			name: "the other family only closes this one", ranges: []string{"2001:db8:2::/48"}, four: "[0.0.0.0/32]", six: "[2001:db8:2::/48]",
			problems: []string{"SourceRangesOfOneFamily: spec.loadBalancerSourceRanges: has ranges of IPv6 only, so that the IPv4 address lets nobody in"},
		},
		{
			name: "what cannot be read opens nothing", ranges: []string{"192.0.2.1", "x"}, four: "[0.0.0.0/32]", six: "[::/128]",
			problems: []string{
				`InvalidSourceRange: spec.loadBalancerSourceRanges: "192.0.2.1" is not a range such as 203.0.113.0/24; it lets nobody in`,
				`InvalidSourceRange: spec.loadBalancerSourceRanges: "x" is not a range such as 203.0.113.0/24; it lets nobody in`,
			},
		},
		{name: "host bits and leading zeros of old objects", ranges: []string{"192.0.02.77/24", "2001:db8:2::9/48", "::ffff:198.51.100.0/120"}, four: "[192.0.2.0/24 198.51.100.0/24]", six: "[2001:db8:2::/48]"},
		{name: "the annotation of old", annotation: " 192.0.2.0/24, ::/0 ", four: "[192.0.2.0/24]", six: "[]"},
		{name: "the field before the annotation", annotation: "192.0.2.0/24", ranges: []string{"198.51.100.0/24", "::/0"}, four: "[198.51.100.0/24]", six: "[]"},
		{
			name: "the annotation is named", annotation: "x,::/0", four: "[0.0.0.0/32]", six: "[]",
			problems: []string{
				`InvalidSourceRange: annotation service.beta.kubernetes.io/load-balancer-source-ranges: "x" is not a range such as 203.0.113.0/24; it lets nobody in`,
				`SourceRangesOfOneFamily: annotation service.beta.kubernetes.io/load-balancer-source-ranges: has ranges of IPv6 only, so that the IPv4 address lets nobody in`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := service(vips("203.0.113.7", "2001:db8::7"), func(s *corev1.Service) {
				s.Spec.LoadBalancerSourceRanges = c.ranges
				if c.annotation != "" {
					s.Annotations[annotation] = c.annotation
				}
			})
			out := run(t, Input{Service: svc})
			for _, s := range whole(out).Services {
				want := c.four
				if s.VIP.Is6() {
					want = c.six
				}
				if got := fmt.Sprint(s.SourceRanges); got != want {
					t.Errorf("%s: ranges %s, want %s", s.VIP, got, want)
				}
			}
			told(t, out, c.problems...)
		})
	}
}

// TestOptions: what annotations ask for.
func TestOptions(t *testing.T) {
	check := &model.Check{Type: model.CheckHTTP, Port: 9000}
	out := run(t, Input{Service: service(), Options: kube.Options{Gone: model.GoneRehash, Check: check, SlowStart: time.Minute, FailAction: model.FailPass, IPMode: kube.ModeVIP, DrainTimeout: time.Second}})
	s, p := whole(out).Services[0], whole(out).Pools[0]
	if s.Gone != model.GoneRehash || s.DrainTimeout != time.Second || !p.Check.Equal(check) || p.SlowStart != time.Minute || p.PanicThreshold != 0 || out.IPMode != kube.ModeVIP {
		t.Errorf("%+v, %+v, %s", s, p, out.IPMode)
	}
	if v := whole(out).VIPs; len(v) != 1 || v[0].FailAction != model.FailPass || !v[0].AnswerARP || !v[0].AnswerPing || !v[0].Announce.BGP {
		t.Errorf("the VIP is %+v", v)
	}
	told(t, out)
	if plain := run(t, Input{Service: service(), Options: kube.Options{FailAction: model.FailDrop}}); len(whole(plain).VIPs) != 0 {
		t.Errorf("what is as always is said of VIPs that others may share: %+v", whole(plain).VIPs)
	}
	told(t, run(t, Input{Service: service(), Options: kube.Options{NodesVia: model.GUE, SlowStart: time.Minute}}),
		"AnnotationWithoutEffect: annotation fairlead.io/nodes-via: has no effect with method pods",
		"AnnotationWithoutEffect: annotation fairlead.io/slow-start: has no effect without fairlead.io/health-check")
	out = run(t, Input{Service: service(), Options: kube.Options{Method: kube.Nodes, IPMode: kube.ModeProxy}})
	told(t, out, "AnnotationWithoutEffect: annotation fairlead.io/ip-mode: Proxy has no effect with method nodes, for nodes take the VIP for their own only with VIP")
	if out.IPMode != kube.ModeVIP {
		t.Error("method nodes needs VIP")
	}
}

// TestChecksThatAPortCannotAnswer are not made.
func TestChecksThatAPortCannotAnswer(t *testing.T) {
	for _, c := range []struct {
		protocol corev1.Protocol
		check    model.Check
		made     bool
	}{
		{corev1.ProtocolTCP, model.Check{Type: model.CheckTCP}, true}, {corev1.ProtocolTCP, model.Check{Type: model.CheckGRPC}, true},
		{corev1.ProtocolTCP, model.Check{Type: model.CheckUDP}, false}, {corev1.ProtocolTCP, model.Check{Type: model.CheckDNS, Port: 53}, true},
		{corev1.ProtocolUDP, model.Check{Type: model.CheckDNS}, true}, {corev1.ProtocolUDP, model.Check{Type: model.CheckHTTP}, false},
		{corev1.ProtocolUDP, model.Check{Type: model.CheckHTTP, Port: 8080}, true}, {corev1.ProtocolUDP, model.Check{Type: model.CheckICMP}, true},
		{corev1.ProtocolSCTP, model.Check{Type: model.CheckTCP}, false}, {corev1.ProtocolSCTP, model.Check{Type: model.CheckICMP}, true},
	} {
		out := run(t, Input{Service: service(func(s *corev1.Service) { s.Spec.Ports[0].Protocol = c.protocol }), Options: kube.Options{Check: &c.check}})
		if made := whole(out).Pools[0].Check != nil; made != c.made {
			t.Errorf("%s with a check of type %s: made %v", c.protocol, c.check.Type, made)
		}
		if c.made {
			told(t, out)
		} else {
			told(t, out, fmt.Sprintf("CheckNotApplied: port 80: a check of type %s cannot ask a port of protocol %s; annotation fairlead.io/health-check-port can name another one", c.check.Type, c.protocol))
		}
	}
}

// TestStatusAddresses are read sloppily, and nothing is made of what is none.
func TestStatusAddresses(t *testing.T) {
	svc := service(vips("203.0.113.07", "::ffff:203.0.113.8", "nonsense", "127.0.0.1", "fe80::1", "224.0.0.1"))
	out := run(t, Input{Service: svc})
	if got := fmt.Sprint(VIPs(svc)); got != "[203.0.113.7 203.0.113.8]" {
		t.Errorf("VIPs are %s", got)
	}
	if n := len(whole(out).Services); n != 2 || len(whole(out).Pools) != 1 {
		t.Errorf("%d services", n)
	}
	told(t, out,
		`InvalidStatusAddress: status.loadBalancer.ingress: "nonsense" is not an IP address`,
		`InvalidStatusAddress: status.loadBalancer.ingress: 127.0.0.1 is a loopback address`,
		`InvalidStatusAddress: status.loadBalancer.ingress: fe80::1 is an IPv6 link-local address`,
		`InvalidStatusAddress: status.loadBalancer.ingress: 224.0.0.1 is a multicast address`)
}

// TestBackends: what routes of the Gateway API need of a Service of any type.
func TestBackends(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass, s.Finalizers = corev1.ServiceTypeClusterIP, nil, nil
	}, vips())
	in := Input{Service: svc, Slices: sliceList{slice(endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2", terminating)), slice(endpointOf("a", "2001:db8::1"))}}
	four, problems := Backends(in, svc.Spec.Ports[0], corev1.IPv4Protocol)
	if got := text(&model.Pool{Backends: four}); got != "a 10.0.0.1:8080*1, b 10.0.0.2:8080*0" || problems != nil {
		t.Errorf("%s, %v", got, problems)
	}
	six, _ := Backends(in, svc.Spec.Ports[0], corev1.IPv6Protocol)
	if got := text(&model.Pool{Backends: six}); got != "a [2001:db8::1]:8080*1" {
		t.Error(got)
	}
	in.Options.Method = kube.NodePorts
	if none, problems := Backends(in, corev1.ServicePort{Port: 80}, corev1.IPv4Protocol); none != nil || len(problems) != 1 || problems[0].Reason != NodePortMissing {
		t.Errorf("%v, %v", none, problems)
	}
}

// TestTooManyEndpoints: those that take flows go first.
func TestTooManyEndpoints(t *testing.T) {
	s := slice()
	for i := range model.MaxPoolBackends + 1000 {
		change := terminating
		if i >= 500 {
			change = nilConditions
		}
		s.Endpoints = append(s.Endpoints, endpointOf(fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), change))
	}
	out := run(t, Input{Service: service(), Slices: sliceList{s}})
	p := pool(t, out, "tcp-80/ipv4")
	if len(p.Backends) != model.MaxPoolBackends || slices.ContainsFunc(p.Backends, func(b model.Backend) bool { return b.Weight == 0 }) {
		t.Errorf("%d backends, or some that drain", len(p.Backends))
	}
	told(t, out, "TooManyEndpoints: port 80: has 66535 backends, and a pool may have 65535: the others are left out")
}

// TestReasonsAreDocumented: alerts are made of them.
func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/kubernetes-services.md")
	if err != nil {
		t.Fatal(err)
	}
	_, events, _ := strings.Cut(string(doc), "## Events")
	for _, reason := range []string{
		options.UnknownAnnotation, options.InvalidAnnotation, options.ConflictingAnnotations, options.AnnotationWithoutEffect, options.InvalidLoadBalancerIP,
		InvalidStatusAddress, InvalidPort, ProtocolNotSupported, NodePortMissing, NodeAddressMissing, EndpointIgnored, EndpointWithoutNode, BackendOnBalancer, TooManyEndpoints,
		InvalidWeight, ClientAddressNotPreserved, InvalidSourceRange, SourceRangesOfOneFamily, CheckNotApplied, AnnotationWithoutEffect,
	} {
		if !strings.Contains(events, "`"+reason+"`") {
			t.Errorf("docs/kubernetes-services.md does not have %s among its events", reason)
		}
	}
}

// BenchmarkService is what a change of one endpoint costs, by how many the Service
// has.
func BenchmarkService(b *testing.B) {
	for _, n := range []int{4, 100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := Input{Service: service()}
			for i := range n {
				if i%100 == 0 {
					in.Slices = append(in.Slices, slice())
				}
				s := in.Slices[len(in.Slices)-1]
				s.Endpoints = append(s.Endpoints, endpointOf(fmt.Sprintf("web-6d4b75cb6d-%05d", i), fmt.Sprintf("10.1.%d.%d", i>>8, i&255)))
			}
			b.ReportAllocs()
			for b.Loop() {
				Service(in)
			}
		})
	}
}
