package options

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

// said is a problem as a test writes it down.
func said(problems []kube.Problem) (all []string) {
	for _, p := range problems {
		all = append(all, string(p.Severity)+" "+p.Reason+": "+p.Message)
	}
	return all
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name        string
		annotations map[string]string
		ip          string // spec.loadBalancerIP
		flavors     []kube.Flavor
		want        kube.Options
		problems    []string
	}{
		{name: "nothing is the settings' choice", annotations: map[string]string{"example.com/x": "y", "metallb.io/address-pool": "p"}},
		{
			name: "everything",
			annotations: map[string]string{
				Addresses: " 203.0.113.7 , 2001:DB8::7", Pool: "prod", SharingKey: "web", SharingNamespaces: "b, a,b", RetainAddress: "true",
				Method: "nodes", NodesVia: "gue", IPMode: "VIP", IdleTimeout: "30m", DrainTimeout: "10s", OnBackendGone: "rehash",
				SlowStart: "1m", FailAction: "pass", HealthCheck: "http", HealthCheckPort: "8080", HealthCheckInterval: "5s",
				HealthCheckTimeout: "2s", HealthCheckRise: "1", HealthCheckFall: "5", HealthCheckPath: "/live", HealthCheckHost: "web.example",
				HealthCheckStatus: "200, 300-399",
			},
			want: kube.Options{
				Addresses: addrs("203.0.113.7", "2001:db8::7"), Pool: "prod", SharingKey: "web", SharingNamespace: []string{"a", "b"}, Retain: true,
				Method: kube.Nodes, NodesVia: model.GUE, IPMode: kube.ModeVIP, IdleTimeout: 30 * time.Minute, DrainTimeout: 10 * time.Second,
				Gone: model.GoneRehash, SlowStart: time.Minute, FailAction: model.FailPass,
				Check: &model.Check{
					Type: model.CheckHTTP, Port: 8080, Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 1, Fall: 5,
					HTTP: model.HTTPCheck{Path: "/live", Host: "web.example", Status: []model.StatusRange{{First: 200, Last: 200}, {First: 300, Last: 399}}},
				},
			},
		},
		{
			name:        "other checks",
			annotations: map[string]string{HealthCheck: "udp", HealthCheckSend: "ping", HealthCheckExpect: "pong"},
			want:        kube.Options{Check: &model.Check{Type: model.CheckUDP, UDP: model.UDPCheck{Send: "ping", Expect: "pong"}}},
		},
		{
			name:        "a dns check",
			annotations: map[string]string{HealthCheck: "dns", HealthCheckDNSName: "example.com"},
			want:        kube.Options{Check: &model.Check{Type: model.CheckDNS, DNS: model.DNSCheck{Name: "example.com"}}},
		},
		{
			name:        "a grpc check",
			annotations: map[string]string{HealthCheck: "grpc", HealthCheckGRPCService: "shop.Cart"},
			want:        kube.Options{Check: &model.Check{Type: model.CheckGRPC, GRPC: model.GRPCCheck{Service: "shop.Cart"}}},
		},
		{name: "no check", annotations: map[string]string{HealthCheck: "none"}, want: kube.Options{DisableCheck: true}},
		{name: "no draining", annotations: map[string]string{DrainTimeout: "0s"}, want: kube.Options{DrainTimeout: model.NoDrain}},
		{name: "all namespaces", annotations: map[string]string{SharingKey: "k", SharingNamespaces: "a,*"}, want: kube.Options{SharingKey: "k", SharingNamespace: []string{"*"}}},
		{
			name: "near misses",
			annotations: map[string]string{
				"fairlead.io/adresses": "203.0.113.7", "fairlead.io/something-else-entirely": "", Weight: "5", Method: "podz", HealthCheck: "htp",
			},
			problems: []string{
				`Warning InvalidAnnotation: annotation fairlead.io/method: "podz" is none of pods, nodeports, nodes (did you mean "pods"?); the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check: "htp" is none of none, tcp, http, https, tls, grpc, udp, icmp, dns (did you mean "http"?); the default is used`,
				`Warning UnknownAnnotation: annotation fairlead.io/adresses: is not known (did you mean "fairlead.io/addresses"?)`,
				`Warning UnknownAnnotation: annotation fairlead.io/something-else-entirely: is not known`,
				`Warning UnknownAnnotation: annotation fairlead.io/weight: is for pods, in the template of what makes them`,
			},
		},
		{
			name: "wrong values are defaults",
			annotations: map[string]string{
				Pool: "", SharingKey: "", SharingNamespaces: ",", RetainAddress: "yes", NodesVia: "nat", IPMode: "vip", IdleTimeout: "30",
				DrainTimeout: "-1s", OnBackendGone: "rst", SlowStart: "25h", FailAction: "open",
			},
			problems: []string{
				`Warning InvalidAnnotation: annotation fairlead.io/pool: is empty; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/sharing-key: is empty; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/sharing-namespaces: is empty; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/retain-address: "yes" is none of true, false; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/nodes-via: "nat" is none of l2, ipip, gue; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/ip-mode: "vip" is none of VIP, Proxy (did you mean "VIP"?); the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/idle-timeout: "30" is not a duration with a unit, such as "30s" or "5m"; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/drain-timeout: -1s is out of range; it must be 0s to 576h0m0s; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/on-backend-gone: "rst" is none of reset, rehash, drop; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/slow-start: 25h is out of range; it must be 0s to 24h0m0s; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/fail-action: "open" is none of drop, pass; the default is used`,
			},
		},
		{
			name:        "a wrong address gets none",
			annotations: map[string]string{Addresses: "203.0.113.777"},
			want:        kube.Options{Hold: true},
			problems:    []string{`Warning InvalidAnnotation: annotation fairlead.io/addresses: "203.0.113.777" is not an IP address; no address is assigned until it is corrected`},
		},
		{
			name:        "two addresses of one family",
			annotations: map[string]string{Addresses: "203.0.113.7,203.0.113.8"},
			want:        kube.Options{Hold: true},
			problems:    []string{`Warning InvalidAnnotation: annotation fairlead.io/addresses: 203.0.113.7 and 203.0.113.8 are of one family; a Service has one VIP of each; no address is assigned until it is corrected`},
		},
		{
			name:        "addresses that nobody can have",
			annotations: map[string]string{Addresses: "127.0.0.1"},
			want:        kube.Options{Hold: true},
			problems:    []string{`Warning InvalidAnnotation: annotation fairlead.io/addresses: 127.0.0.1 is a loopback address; no address is assigned until it is corrected`},
		},
		{name: "sloppy addresses are canonical", annotations: map[string]string{Addresses: "203.0.113.007,::ffff:203.0.113.7"}, want: kube.Options{Addresses: addrs("203.0.113.7")}},
		{
			name: "wrong values of checks are defaults",
			annotations: map[string]string{
				HealthCheck: "http", HealthCheckPort: "70000", HealthCheckInterval: "1s", HealthCheckTimeout: "3s", HealthCheckRise: "0", HealthCheckFall: "x",
				HealthCheckPath: "live", HealthCheckHost: "a b", HealthCheckStatus: "99", HealthCheckDNSName: "x",
			},
			want: kube.Options{Check: &model.Check{Type: model.CheckHTTP, Interval: time.Second}},
			problems: []string{
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-port: 70000 is out of range; it must be 1 to 65535; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-rise: 0 is out of range; it must be 1 to 100; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-fall: "x" is not a whole number; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-timeout: 3s is longer than the interval of 1s; a check must end before the next begins; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-dns-name: is for checks of type dns, and this one's type is http; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-path: "live" does not begin with a slash; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-host: "a b" is not a host name or address, with or without a port; the default is used`,
				`Warning InvalidAnnotation: annotation fairlead.io/health-check-status: 99 is out of range; status codes are 100 to 599; the default is used`,
			},
		},
		{
			name:        "programs are not run for Services",
			annotations: map[string]string{HealthCheck: "exec"},
			problems:    []string{`Warning InvalidAnnotation: annotation fairlead.io/health-check: exec is not for Services: it would have them run programs on the balancer; the default is used`},
		},
		{
			name:        "values that nothing uses",
			annotations: map[string]string{HealthCheckPath: "/", SharingNamespaces: "a"},
			problems: []string{
				`Warning AnnotationWithoutEffect: annotation fairlead.io/health-check-path: has no effect without fairlead.io/health-check`,
				`Warning AnnotationWithoutEffect: annotation fairlead.io/sharing-namespaces: has no effect without fairlead.io/sharing-key`,
			},
		},

		{name: "spec.loadBalancerIP", ip: "203.0.113.07", want: kube.Options{Addresses: addrs("203.0.113.7")}},
		{
			name: "a wrong spec.loadBalancerIP", ip: "lb.example", want: kube.Options{Hold: true},
			problems: []string{`Warning InvalidLoadBalancerIP: spec.loadBalancerIP: "lb.example" is not an IP address; no address is assigned until it is corrected`},
		},
		{
			name: "an annotation before spec.loadBalancerIP", ip: "203.0.113.8", annotations: map[string]string{Addresses: "203.0.113.7"},
			want:     kube.Options{Addresses: addrs("203.0.113.7")},
			problems: []string{`Warning ConflictingAnnotations: spec.loadBalancerIP is 203.0.113.8, and an annotation asks for 203.0.113.7: the annotation holds`},
		},
		{name: "an annotation that agrees with spec.loadBalancerIP", ip: "203.0.113.7", annotations: map[string]string{Addresses: "2001:db8::1,203.0.113.7"}, want: kube.Options{Addresses: addrs("2001:db8::1", "203.0.113.7")}},
		{
			name: "a wrong annotation is not made good by spec.loadBalancerIP", ip: "203.0.113.8", annotations: map[string]string{Addresses: "x"},
			want:     kube.Options{Hold: true},
			problems: []string{`Warning InvalidAnnotation: annotation fairlead.io/addresses: "x" is not an IP address; no address is assigned until it is corrected`},
		},

		{
			name:        "MetalLB",
			annotations: map[string]string{"metallb.io/loadBalancerIPs": "203.0.113.7,2001:db8::7", "metallb.io/address-pool": "p", "metallb.io/allow-shared-ip": "k"},
			flavors:     []kube.Flavor{kube.MetalLB},
			want:        kube.Options{Addresses: addrs("203.0.113.7", "2001:db8::7"), Pool: "p", SharingKey: "k", SharingNamespace: []string{"*"}},
		},
		{
			name:        "MetalLB by its older names",
			annotations: map[string]string{"metallb.universe.tf/loadBalancerIPs": "203.0.113.7", "metallb.universe.tf/address-pool": "p", "metallb.universe.tf/allow-shared-ip": "k"},
			flavors:     []kube.Flavor{kube.MetalLB},
			want:        kube.Options{Addresses: addrs("203.0.113.7"), Pool: "p", SharingKey: "k", SharingNamespace: []string{"*"}},
		},
		{
			name:        "Cilium",
			annotations: map[string]string{"lbipam.cilium.io/ips": "203.0.113.7,203.0.113.8", "lbipam.cilium.io/sharing-key": "k", "lbipam.cilium.io/sharing-cross-namespace": "a,b"},
			flavors:     []kube.Flavor{kube.Cilium},
			want:        kube.Options{Addresses: addrs("203.0.113.7"), SharingKey: "k", SharingNamespace: []string{"a", "b"}},
		},
		{
			name:        "Cilium by its older names",
			annotations: map[string]string{"io.cilium/lb-ipam-ips": "203.0.113.7", "io.cilium/lb-ipam-sharing-key": "k", "io.cilium/lb-ipam-sharing-cross-namespace": "*"},
			flavors:     []kube.Flavor{kube.Cilium},
			want:        kube.Options{Addresses: addrs("203.0.113.7"), SharingKey: "k", SharingNamespace: []string{"*"}},
		},
		{name: "kube-vip", annotations: map[string]string{"kube-vip.io/loadbalancerIPs": "203.0.113.7,2001:db8::7"}, flavors: []kube.Flavor{kube.KubeVIP}, want: kube.Options{Addresses: addrs("203.0.113.7", "2001:db8::7")}},
		{
			name: "kube-vip with DHCP", annotations: map[string]string{"kube-vip.io/loadbalancerIPs": "0.0.0.0"}, flavors: []kube.Flavor{kube.KubeVIP},
			problems: []string{`Warning InvalidAnnotation: annotation kube-vip.io/loadbalancerIPs: addresses by DHCP are not supported; one of a pool is assigned`},
		},
		{
			name:        "PureLB",
			annotations: map[string]string{"purelb.io/addresses": "203.0.113.7", "purelb.io/service-group": "g", "purelb.io/allow-shared-ip": "k"},
			flavors:     []kube.Flavor{kube.PureLB},
			want:        kube.Options{Addresses: addrs("203.0.113.7"), Pool: "g", SharingKey: "k", SharingNamespace: []string{"*"}},
		},
		{
			name:        "LoxiLB",
			annotations: map[string]string{"loxilb.io/staticIP": "203.0.113.7", "loxilb.io/poolSelect": "p", "loxilb.io/timeout": "240", "loxilb.io/probetype": "ping", "loxilb.io/liveness": "yes"},
			flavors:     []kube.Flavor{kube.LoxiLB},
			want:        kube.Options{Addresses: addrs("203.0.113.7"), Pool: "p", IdleTimeout: 4 * time.Minute, Check: &model.Check{Type: model.CheckICMP}},
		},
		{
			name:        "LoxiLB without a kind of probe",
			annotations: map[string]string{"loxilb.io/liveness": "yes", "loxilb.io/probeport": "8080"},
			flavors:     []kube.Flavor{kube.LoxiLB},
			want:        kube.Options{Check: &model.Check{Type: model.CheckTCP, Port: 8080}},
		},
		{name: "LoxiLB without probes", annotations: map[string]string{"loxilb.io/liveness": "no"}, flavors: []kube.Flavor{kube.LoxiLB}, want: kube.Options{DisableCheck: true}},
		{
			name:        "a wrong address of a flavor gets none",
			annotations: map[string]string{"metallb.io/loadBalancerIPs": "x", "metallb.io/address-pool": ""},
			flavors:     []kube.Flavor{kube.MetalLB},
			want:        kube.Options{Hold: true},
			problems: []string{
				`Warning InvalidAnnotation: annotation metallb.io/loadBalancerIPs: "x" is not an IP address; no address is assigned until it is corrected`,
				`Warning InvalidAnnotation: annotation metallb.io/address-pool: is empty; the default is used`,
			},
		},
		{
			name: "ours come first",
			annotations: map[string]string{
				Addresses: "203.0.113.1", Pool: "ours", SharingKey: "ours", HealthCheck: "none", IdleTimeout: "1m",
				"metallb.io/loadBalancerIPs": "203.0.113.2", "metallb.io/address-pool": "theirs", "metallb.io/allow-shared-ip": "theirs",
				"loxilb.io/liveness": "yes", "loxilb.io/timeout": "9", "kube-vip.io/loadbalancerIPs": "x",
			},
			flavors: Flavors(),
			want:    kube.Options{Addresses: addrs("203.0.113.1"), Pool: "ours", SharingKey: "ours", IdleTimeout: time.Minute, DisableCheck: true},
			problems: []string{
				`Warning ConflictingAnnotations: annotation metallb.io/loadBalancerIPs: 203.0.113.2 is asked for, and 203.0.113.1 by another annotation, which holds`,
				`Warning InvalidAnnotation: annotation kube-vip.io/loadbalancerIPs: "x" is not an IP address; another annotation holds`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}, Spec: corev1.ServiceSpec{LoadBalancerIP: c.ip}}
			got, problems := Parse(svc, c.flavors)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("options are %+v, want %+v", got, c.want)
			}
			if texts := said(problems); !reflect.DeepEqual(texts, c.problems) {
				t.Errorf("problems are\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(c.problems, "\n"))
			}
		})
	}
}

// TestGatewaysAreRead: what is not a Service is read in the same way.
func TestGatewaysAreRead(t *testing.T) {
	o, problems := ParseAnnotations(map[string]string{Pool: "p", Method: "nodeports"}, nil)
	if !reflect.DeepEqual(o, kube.Options{Pool: "p", Method: kube.NodePorts}) || problems != nil {
		t.Errorf("%+v, %v", o, problems)
	}
}

func TestParseWeight(t *testing.T) {
	for text, want := range map[string]string{
		"0": "", "65535": "", "65536": "65536 is out of range; it must be 0 to 65535", "-1": "-1 is out of range; it must be 0 to 65535",
		"1.5": `"1.5" is not a whole number`, "": `"" is not a whole number`, "99999999999999999999": "99999999999999999999 is out of range; it must be 0 to 65535",
	} {
		if _, err := ParseWeight(text); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestDocumented finds every annotation in the documentation, with its values and
// its default.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes-services.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range All() {
		row := "| `" + a.Name + "` | " + a.Values + " | " + a.Default + " | " + a.Meaning + " |"
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/kubernetes-services.md lacks the row\n%s", row)
		}
	}
	for _, f := range Flavors() {
		for _, n := range Foreign(f) {
			if !strings.Contains(string(text), "`"+n+"`") {
				t.Errorf("docs/kubernetes-services.md lacks %s", n)
			}
		}
	}
}

// FuzzParse: whatever annotations say, the check that comes out is valid, and
// every value that is not taken is a problem.
func FuzzParse(f *testing.F) {
	for i, a := range All() {
		f.Add(uint8(i), "x", uint8(i+1), "1")
		f.Add(uint8(i), "5s", uint8(13), "http")
		f.Add(uint8(i), strings.Split(strings.Trim(a.Default, "`"), "`")[0], uint8(13), "udp")
	}
	f.Fuzz(func(t *testing.T, a uint8, av string, b uint8, bv string) {
		all := All()
		values := map[string]string{all[int(a)%len(all)].Name: av, all[int(b)%len(all)].Name: bv}
		for i, n := range append(Foreign(kube.MetalLB), Foreign(kube.LoxiLB)...) {
			values[n] = []string{av, bv}[i%2]
		}
		o, problems := ParseAnnotations(values, Flavors())
		if o.Check != nil {
			if errs := model.Validate(&model.State{Pools: []model.Pool{{Name: "p", Check: o.Check, SlowStart: o.SlowStart}}}); len(errs) > 0 {
				t.Errorf("%v: the check %+v is not valid: %v", values, o.Check, errs)
			}
		}
		if len(o.Addresses) > 2 || o.Hold && len(problems) == 0 {
			t.Errorf("%v: %+v, %v", values, o, problems)
		}
	})
}
