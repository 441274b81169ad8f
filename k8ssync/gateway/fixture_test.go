package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

// world is an input that tests fill with objects from YAML.
type world struct {
	in         Input
	namespaces map[string]map[string]string
	services   map[types.NamespacedName]*corev1.Service
	endpoints  map[string][]model.Backend // by "namespace/service:port/family"
	age        int                        // of the next object, in seconds since the first
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, objects ...string) *world {
	t.Helper()
	w := &world{
		namespaces: map[string]map[string]string{"default": {}, "apps": {"team": "web"}, "other": {}},
		services:   make(map[types.NamespacedName]*corev1.Service),
		endpoints:  make(map[string][]model.Backend),
	}
	w.in = Input{
		Bundle: "v1.6.3",
		Served: map[gatewayv1.Kind]bool{KindGateway: true, KindTCPRoute: true, KindUDPRoute: true, "ReferenceGrant": true},
		Namespace: func(name string) (map[string]string, bool) {
			l, ok := w.namespaces[name]
			return l, ok
		},
		Service: func(n types.NamespacedName) *corev1.Service { return w.services[n] },
		Endpoints: func(svc *corev1.Service, port corev1.ServicePort, family corev1.IPFamily, _ kube.Options) ([]model.Backend, []kube.Problem) {
			return append([]model.Backend(nil), w.endpoints[fmt.Sprintf("%s/%s:%d/%s", svc.Namespace, svc.Name, port.Port, family)]...), nil
		},
		Options: func(a map[string]string) (kube.Options, []kube.Problem) {
			o := kube.Options{Pool: a["fairlead.io/pool"], Method: kube.Method(a["fairlead.io/method"])}
			if v := a["fairlead.io/fail-action"]; v != "" {
				o.FailAction = model.FailAction(v)
			}
			return o, nil
		},
	}
	w.add(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: fairlead, generation: 1}, spec: {controllerName: fairlead.io/gateway}}`)
	w.add(t, objects...)
	return w
}

// add adds objects, each younger than those before it.
func (w *world) add(t *testing.T, objects ...string) {
	t.Helper()
	for _, text := range objects {
		for doc := range strings.SplitSeq(text, "\n---\n") {
			w.addOne(t, doc)
		}
	}
}

func (w *world) addOne(t *testing.T, doc string) {
	t.Helper()
	var head struct {
		Kind string `json:"kind"`
	}
	decode(t, doc, &head)
	meta := func(m *metav1.ObjectMeta) {
		if m.CreationTimestamp.IsZero() {
			m.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(w.age) * time.Second))
		}
		w.age++
	}
	switch head.Kind {
	case "GatewayClass":
		o := new(gatewayv1.GatewayClass)
		decode(t, doc, o)
		meta(&o.ObjectMeta)
		w.in.Classes = append(w.in.Classes, o)
	case "Gateway":
		o := new(gatewayv1.Gateway)
		decode(t, doc, o)
		meta(&o.ObjectMeta)
		if o.Annotations["test"] != "bare" && len(o.Finalizers) == 0 {
			o.Finalizers = []string{Finalizer}
		}
		w.in.Gateways = append(w.in.Gateways, o)
	case "TCPRoute":
		o := new(gatewayv1.TCPRoute)
		decode(t, doc, o)
		meta(&o.ObjectMeta)
		w.in.TCPRoutes = append(w.in.TCPRoutes, o)
	case "UDPRoute":
		o := new(gatewayv1.UDPRoute)
		decode(t, doc, o)
		meta(&o.ObjectMeta)
		w.in.UDPRoutes = append(w.in.UDPRoutes, o)
	case "ReferenceGrant":
		o := new(gatewayv1.ReferenceGrant)
		decode(t, doc, o)
		w.in.Grants = append(w.in.Grants, o)
	case "Service":
		o := new(corev1.Service)
		decode(t, doc, o)
		w.services[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = o
	default:
		t.Fatalf("kind %q in %s", head.Kind, doc)
	}
}

func decode(t *testing.T, doc string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
		if _, head := into.(interface{ GetName() string }); head {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if err := yaml.Unmarshal([]byte(doc), into); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
	}
}

// serve gives a port of a Service ready endpoints.
func (w *world) serve(service string, port int, addresses ...string) {
	for i, a := range addresses {
		end := netip.MustParseAddrPort(a)
		family := corev1.IPv4Protocol
		if end.Addr().Is6() {
			family = corev1.IPv6Protocol
		}
		key := fmt.Sprintf("%s:%d/%s", service, port, family)
		w.endpoints[key] = append(w.endpoints[key], model.Backend{
			Name: fmt.Sprintf("%s-%d", service[strings.IndexByte(service, '/')+1:], i), Address: end.Addr(), Port: end.Port(), Weight: 1,
		})
	}
}

var moment = Moment{Now: metav1.NewTime(start.Add(time.Hour))}

func gwKey(name string) kube.Key {
	ns, n, _ := strings.Cut(name, "/")
	return kube.Key{Kind: kube.Gateway, Namespace: ns, Name: n}
}

func routeKey(kind gatewayv1.Kind, name string) RouteKey {
	ns, n, _ := strings.Cut(name, "/")
	return RouteKey{kind, types.NamespacedName{Namespace: ns, Name: n}}
}

// conditions are told one a line: "Accepted=True Accepted: message".
func told(conditions []metav1.Condition) map[string]string {
	out := make(map[string]string)
	for _, c := range conditions {
		out[c.Type] = fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
	}
	return out
}

// checkConditions compares what conditions say, and that they are of a generation.
func checkConditions(t *testing.T, what string, got []metav1.Condition, generation int64, want map[string]string) {
	t.Helper()
	have := told(got)
	for kind, text := range want {
		if have[kind] != text {
			t.Errorf("%s: %s\n got %s\nwant %s", what, kind, have[kind], text)
		}
	}
	for _, c := range got {
		if c.ObservedGeneration != generation {
			t.Errorf("%s: condition %s is of generation %d, the object of %d", what, c.Type, c.ObservedGeneration, generation)
		}
	}
}

// valid fails the test unless a group alone is a valid state.
func valid(t *testing.T, g model.Group) {
	t.Helper()
	s := model.State{VIPs: g.VIPs, Services: g.Services, Pools: g.Pools,
		SNATs: []model.SNAT{{Address: netip.MustParseAddr("198.18.0.1")}, {Address: netip.MustParseAddr("2001:db8::1")}}}
	for _, err := range model.Validate(s.WithDefaults()) {
		t.Errorf("group %s: %v", g.Name, err)
	}
}

type kubeKey = kube.Key

func equalStrings(a, b []string) bool { return strings.Join(a, ",") == strings.Join(b, ",") }
