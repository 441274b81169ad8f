package gateway

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// only is the group of a Gateway of one family.
func only(t *testing.T, p *Plan, name string) model.Group {
	t.Helper()
	groups, _ := p.Groups(gwKey(name))
	if len(groups) != 1 {
		t.Fatalf("%d groups, want one: %v", len(groups), groups)
	}
	return groups[0]
}

// TestGroup: what a Gateway with two addresses, three listeners and two routes puts
// in force.
func TestGroup(t *testing.T) {
	w := newWorld(t, webService,
		`{apiVersion: v1, kind: Service, metadata: {namespace: default, name: canary}, spec: {ports: [{port: 80}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw, annotations: {fairlead.io/fail-action: pass}}, spec: {gatewayClassName: fairlead, listeners: [
		  {name: http, protocol: TCP, port: 80}, {name: alt, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}, {name: idle, protocol: TCP, port: 99}]},
		  status: {addresses: [{type: IPAddress, value: 192.0.2.1}, {type: IPAddress, value: "2001:db8::80"}, {type: Hostname, value: lb.example.com}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: web}, spec: {parentRefs: [{name: gw, sectionName: http}, {name: gw, sectionName: alt}], rules: [{backendRefs: [{name: web, port: 80, weight: 9}, {name: canary, port: 80, weight: 1}]}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {namespace: default, name: dns}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 53}]}]}}`)
	w.serve("default/web", 80, "198.18.1.1:8080", "198.18.1.2:8080", "[2001:db8:1::1]:8080")
	w.serve("default/canary", 80, "198.18.2.1:8080")
	w.serve("default/web", 53, "198.18.1.1:53")
	p := Resolve(w.in)
	groups, problems := p.Groups(gwKey("default/gw"))
	if len(problems) != 0 {
		t.Fatalf("problems %v", problems)
	}
	var got []string
	for _, g := range groups {
		valid(t, g)
		got = append(got, "group "+g.Name)
		for _, v := range g.VIPs {
			got = append(got, fmt.Sprintf("vip %s %s", v.Address, v.FailAction))
		}
		for _, s := range g.Services {
			got = append(got, fmt.Sprintf("service %s %s %s %d -> %s", s.Name, s.VIP, s.Protocol, s.Ports.First, s.Pool))
		}
		for _, pool := range g.Pools {
			for _, b := range pool.Backends {
				got = append(got, fmt.Sprintf("pool %s: %s %s weight %d", pool.Name, b.Name, b.Endpoint(), b.Weight))
			}
		}
	}
	const four, six = "k8s/gateway/default/gw/ipv4", "k8s/gateway/default/gw/ipv6"
	want := []string{
		"group " + four,
		"vip 192.0.2.1 pass",
		"service " + four + "/http/192.0.2.1 192.0.2.1 tcp 80 -> " + four + "/tcproute/default/web",
		"service " + four + "/alt/192.0.2.1 192.0.2.1 tcp 8080 -> " + four + "/tcproute/default/web",
		"service " + four + "/dns/192.0.2.1 192.0.2.1 udp 53 -> " + four + "/udproute/default/dns",
		"pool " + four + "/tcproute/default/web: web-0 198.18.1.1:8080 weight 9",
		"pool " + four + "/tcproute/default/web: web-1 198.18.1.2:8080 weight 9",
		"pool " + four + "/tcproute/default/web: canary-0 198.18.2.1:8080 weight 2",
		"pool " + four + "/udproute/default/dns: web-0 198.18.1.1:53 weight 1",
		"group " + six,
		"vip 2001:db8::80 pass",
		"service " + six + "/http/2001:db8::80 2001:db8::80 tcp 80 -> " + six + "/tcproute/default/web",
		"service " + six + "/alt/2001:db8::80 2001:db8::80 tcp 8080 -> " + six + "/tcproute/default/web",
		"service " + six + "/dns/2001:db8::80 2001:db8::80 udp 53 -> " + six + "/udproute/default/dns",
		"pool " + six + "/tcproute/default/web: web-2 [2001:db8:1::1]:8080 weight 9",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestGroupRefuses: what is due to references that cannot be followed, and to
// Services without endpoints, is refused.
func TestGroupRefuses(t *testing.T) {
	w := newWorld(t, webService,
		`{apiVersion: v1, kind: Service, metadata: {namespace: default, name: empty}, spec: {ports: [{port: 80}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}, {name: udp, protocol: UDP, port: 53}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80, weight: 2}, {name: missing, port: 80, weight: 6}, {name: empty, port: 80, weight: 2}, {name: web, port: 99, weight: 0}]}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: missing, port: 53}]}]}}`)
	w.serve("default/web", 80, "198.18.1.1:8080", "198.18.1.2:8080")
	g := only(t, Resolve(w.in), "default/gw")
	valid(t, g)
	if len(g.Pools) != 2 || len(g.Services) != 2 {
		t.Fatalf("group %+v", g)
	}
	if p := g.Pools[0]; p.Refused != 8 || len(p.Backends) != 2 || p.Backends[0].Weight != 1 || p.Backends[1].Weight != 1 {
		t.Errorf("pool %+v, want two backends of weight 1 and 8 refused", p)
	}
	if p := g.Pools[1]; p.Refused != 1 || len(p.Backends) != 0 {
		t.Errorf("pool %+v, want nothing but what is refused", p)
	}
}

// TestGroupOptions: what annotations say of flows and checks.
func TestGroupOptions(t *testing.T) {
	w := newWorld(t, webService,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}, {name: udp, protocol: UDP, port: 53}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: UDPRoute, metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 53}]}]}}`)
	w.in.Options = func(map[string]string) (kube.Options, []kube.Problem) {
		return kube.Options{Check: &model.Check{Type: model.CheckTCP}, SlowStart: time.Minute, IdleTimeout: time.Hour, DrainTimeout: 3 * time.Minute, Gone: model.GoneRehash}, nil
	}
	p := Resolve(w.in)
	g := only(t, p, "default/gw")
	valid(t, g)
	if s := g.Services[0]; s.DrainTimeout != 3*time.Minute || s.Timeouts.TCPEstablished != time.Hour || s.Gone != model.GoneRehash {
		t.Errorf("service %+v", s)
	}
	if s := g.Services[1]; s.DrainTimeout != model.NoDrain || s.Timeouts.UDP != time.Hour || s.Timeouts.UDPStream != time.Hour {
		t.Errorf("service %+v", s)
	}
	if tcp, udp := g.Pools[0], g.Pools[1]; tcp.Check == nil || tcp.SlowStart != time.Minute || udp.Check != nil || udp.SlowStart != 0 {
		t.Errorf("pools %+v and %+v", tcp, udp)
	}
	_, problems := p.Groups(gwKey("default/gw"))
	const want = "UDPRoute default/r: a check of type tcp cannot ask a port of protocol UDP; annotation fairlead.io/health-check-port can name another one"
	if len(problems) != 1 || problems[0].Message != want {
		t.Errorf("problems %v, want %q", problems, want)
	}
}

// TestGroupOfNothing: Gateways that put nothing in force.
func TestGroupOfNothing(t *testing.T) {
	for name, gw := range map[string]string{
		"without our finalizer": `{metadata: {namespace: default, name: gw, annotations: {test: bare}}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		"without an address":    `{metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}]}}`,
		"not accepted":          `{metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, addresses: [{type: Hostname, value: a.example}], listeners: [{name: tcp, protocol: TCP, port: 80}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		"being deleted":         `{metadata: {namespace: default, name: gw, deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: [fairlead.io/gateway-address-cleanup]}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
	} {
		w := newWorld(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, "+gw[1:])
		if g, _ := Resolve(w.in).Groups(gwKey("default/gw")); g != nil {
			t.Errorf("a Gateway %s puts %v in force", name, g)
		}
	}
}

// TestLongNames: names that are too long for the data path are shortened, and stay
// distinct; a Gateway whose own name leaves no room is refused.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("a", 240)
	w := newWorld(t, webService,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, listeners: [{name: `+long+`x, protocol: TCP, port: 80}, {name: `+long+`y, protocol: TCP, port: 81}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: `+long+`}, spec: {gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: `+long+`}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`)
	p := Resolve(w.in)
	g := only(t, p, "default/gw")
	if len(g.Services) != 2 {
		t.Fatalf("group %v", g)
	}
	valid(t, g)
	status, _ := p.GatewayStatus(gwKey("default/"+long), moment)
	checkConditions(t, "gateway", status.Conditions, 0, map[string]string{"Accepted": "False Invalid: namespace and name are 60 bytes too long together"})
}

// TestUnsupportedMethod: the packet cannot be handed to a node as it is.
func TestUnsupportedMethod(t *testing.T) {
	w := newWorld(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw}, spec: {infrastructure: {annotations: {fairlead.io/method: nodes}}, gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80}]}}`)
	problems := Resolve(w.in).Problems(gwKey("default/gw"))
	if len(problems) != 1 || problems[0].Reason != "UnsupportedMethod" ||
		problems[0].Message != "method nodes is not possible for a Gateway, because kube-proxy does not know its address; nodeports is used" {
		t.Errorf("problems %v", problems)
	}
}

func backend(end string, weight int) model.Backend {
	a := netip.MustParseAddrPort(end)
	return model.Backend{Name: end, Address: a.Addr(), Port: a.Port(), Weight: weight}
}

// TestShare: how the weights of Services become those of backends.
func TestShare(t *testing.T) {
	const a, b, c = "198.18.0.1:80", "198.18.0.2:80", "198.18.0.3:80"
	tests := []struct {
		name     string
		portions []portion
		lost     int64
		want     map[string]int
		refused  int
	}{
		{"one Service", []portion{{1, []model.Backend{backend(a, 1), backend(b, 1)}}}, 0, map[string]int{a: 1, b: 1}, 0},
		{"Services of different size", []portion{{70, []model.Backend{backend(a, 1), backend(b, 1)}}, {30, []model.Backend{backend(c, 1)}}}, 0, map[string]int{a: 7, b: 7, c: 6}, 0},
		{"weights of pods", []portion{{1, []model.Backend{backend(a, 3), backend(b, 1)}}, {1, []model.Backend{backend(c, 1)}}}, 0, map[string]int{a: 3, b: 1, c: 4}, 0},
		{"weight 0 drains", []portion{{1, []model.Backend{backend(a, 1)}}, {0, []model.Backend{backend(b, 1)}}}, 0, map[string]int{a: 1, b: 0}, 0},
		{"all weights 0", []portion{{0, []model.Backend{backend(a, 1)}}}, 0, map[string]int{a: 0}, 0},
		{"a pod that drains", []portion{{5, []model.Backend{backend(a, 1), backend(b, 0)}}}, 0, map[string]int{a: 1, b: 0}, 0},
		{"a Service without endpoints refuses its share", []portion{{2, []model.Backend{backend(a, 1)}}, {8, nil}}, 0, map[string]int{a: 1}, 4},
		{"a Service whose endpoints all drain refuses its share", []portion{{2, []model.Backend{backend(a, 1)}}, {2, []model.Backend{backend(b, 0)}}}, 0, map[string]int{a: 1, b: 0}, 1},
		{"a reference that is not followed refuses its share", []portion{{1, []model.Backend{backend(a, 1)}}}, 3, map[string]int{a: 1}, 3},
		{"nothing but what is refused", nil, 7, map[string]int{}, 1},
		{"nothing", nil, 0, map[string]int{}, 0},
		{"a pod of two Services", []portion{{1, []model.Backend{backend(a, 1)}}, {1, []model.Backend{backend(a, 1), backend(b, 1)}}}, 0, map[string]int{a: 3, b: 1}, 0},
		{"great weights", []portion{{1000000, []model.Backend{backend(a, 1)}}, {1, []model.Backend{backend(b, 1)}}}, 0, map[string]int{a: 65535, b: 1}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, refused := share(test.portions, test.lost)
			have := make(map[string]int)
			for _, b := range got {
				have[b.Endpoint().String()] = b.Weight
			}
			if !reflect.DeepEqual(have, test.want) || refused != test.refused {
				t.Errorf("weights %v, refused %d; want %v, %d", have, refused, test.want, test.refused)
			}
		})
	}
}

// TestShareIsExactEnough: whatever the weights, each Service has its share, to a
// thousandth of the greatest.
func TestShareIsExactEnough(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var portions []portion
		var sum int64
		at := make(map[netip.AddrPort]int)
		for i := range 1 + random.IntN(16) {
			p := portion{weight: int64(random.IntN(1000))}
			for range random.IntN(40) {
				b := backend(fmt.Sprintf("198.18.%d.%d:80", i, len(p.backends)), 1+random.IntN(3))
				at[b.Endpoint()] = i
				p.backends = append(p.backends, b)
			}
			sum += p.weight
			portions = append(portions, p)
		}
		lost := int64(random.IntN(3) * random.IntN(500))
		sum += lost
		backends, refused := share(portions, lost)
		got, total := make([]float64, len(portions)), float64(refused)
		for _, b := range backends {
			if b.Weight < 0 || b.Weight > model.MaxWeight {
				t.Fatalf("weight %d", b.Weight)
			}
			got[at[b.Endpoint()]] += float64(b.Weight)
			total += float64(b.Weight)
		}
		if sum == 0 {
			if total != 0 {
				t.Fatalf("nothing is asked for, and %v is given", total)
			}
			continue
		}
		dead := float64(lost)
		for i, p := range portions {
			if len(p.backends) == 0 {
				dead += float64(p.weight)
			} else if diff := math.Abs(got[i]/total - float64(p.weight)/float64(sum)); diff > 0.001 {
				t.Fatalf("portion %d of %v has %f of %f", i, portions, got[i], total)
			}
		}
		if diff := math.Abs(float64(refused)/total - dead/float64(sum)); diff > 0.001 {
			t.Fatalf("%f is refused, want %f", float64(refused)/total, dead/float64(sum))
		}
	}
}
