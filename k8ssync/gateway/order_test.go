package gateway

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/allocate"
)

// outcome is all that a plan says.
type outcome struct {
	Keys     []string
	Groups   map[string]model.Group
	Statuses map[string]gatewayv1.GatewayStatus
	Routes   map[string]gatewayv1.RouteStatus
	Classes  map[string]gatewayv1.GatewayClassStatus
	Requests []allocate.Request
}

func outcomeOf(in Input) outcome {
	p := Resolve(in)
	out := outcome{Groups: map[string]model.Group{}, Statuses: map[string]gatewayv1.GatewayStatus{}, Routes: map[string]gatewayv1.RouteStatus{},
		Classes: map[string]gatewayv1.GatewayClassStatus{}, Requests: p.Requests()}
	for _, k := range p.Keys() {
		out.Keys = append(out.Keys, k.String())
		out.Statuses[k.String()], _ = p.GatewayStatus(k, moment)
		groups, _ := p.Groups(k)
		for _, g := range groups {
			out.Groups[g.Name] = g
		}
	}
	for _, k := range p.Routes() {
		out.Routes[k.String()], _ = p.RouteStatus(k, moment)
	}
	for _, name := range p.Classes() {
		out.Classes[name], _ = p.ClassStatus(name, moment)
	}
	return out
}

// TestAnyObjectsInAnyOrder: whatever the objects, what comes of them is valid, and
// does not depend on the order in which they are listed.
func TestAnyObjectsInAnyOrder(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 5))
		w := randomWorld(t, random)
		want := outcomeOf(w.in)
		for _, g := range want.Groups {
			valid(t, g)
		}
		for range 3 {
			shuffle(random, w.in.Classes)
			shuffle(random, w.in.Gateways)
			shuffle(random, w.in.TCPRoutes)
			shuffle(random, w.in.UDPRoutes)
			shuffle(random, w.in.Grants)
			if got := outcomeOf(w.in); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: in another order\n%+v\nand before\n%+v", seed, got, want)
			}
		}
		settled(t, seed, w, want)
	}
}

// settled fails the test when statuses that have been written are written anew.
func settled(t *testing.T, seed uint64, w *world, first outcome) {
	t.Helper()
	for _, g := range w.in.Gateways {
		if s, ok := first.Statuses[KeyOf(g).String()]; ok {
			g.Status = s
		}
	}
	for _, r := range w.in.TCPRoutes {
		r.Status.RouteStatus = first.Routes[RouteKey{KindTCPRoute, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}}.String()]
	}
	for _, r := range w.in.UDPRoutes {
		r.Status.RouteStatus = first.Routes[RouteKey{KindUDPRoute, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}}.String()]
	}
	before := moment
	moment.Now = metav1.NewTime(start.Add(1000))
	defer func() { moment = before }()
	if got := outcomeOf(w.in); !reflect.DeepEqual(got.Statuses, first.Statuses) || !reflect.DeepEqual(got.Routes, first.Routes) {
		t.Fatalf("seed %d: statuses are not what they were after they have been written", seed)
	}
}

func shuffle[T any](random *rand.Rand, s []T) {
	random.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func pick[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }

// maybe is nil or one of the values.
func maybe[T any](random *rand.Rand, of ...T) *T {
	if random.IntN(2) == 0 {
		return nil
	}
	v := pick(random, of...)
	return &v
}

func randomWorld(t *testing.T, random *rand.Rand) *world {
	w := newWorld(t)
	namespaces := []string{"default", "apps", "other"}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: pick(random, namespaces...), Name: name, Generation: int64(random.IntN(5)),
			CreationTimestamp: metav1.NewTime(start.Add(time.Duration(random.IntN(3)) * time.Second))}
	}
	for i := range 4 {
		svc := &corev1.Service{ObjectMeta: meta(fmt.Sprintf("svc%d", random.IntN(3)))}
		svc.Spec.Type = pick(random, corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
		svc.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, Protocol: pick(random, corev1.ProtocolTCP, "")}, {Name: "b", Port: 53, Protocol: corev1.ProtocolUDP}}
		w.services[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = svc
		for j := range random.IntN(4) {
			port := pick(random, 80, 53)
			w.serve(svc.Namespace+"/"+svc.Name, port, pick(random, fmt.Sprintf("198.18.%d.%d:80", i, j), fmt.Sprintf("198.18.9.%d:80", j*4+i), fmt.Sprintf("[2001:db8:9::%d:%d]:80", i+1, j)))
		}
	}
	for i := range random.IntN(4) {
		gw := &gatewayv1.Gateway{ObjectMeta: meta(fmt.Sprintf("gw%d", i))}
		gw.Spec.GatewayClassName = pick(random, gatewayv1.ObjectName("fairlead"), "fairlead", "fairlead", "theirs")
		for j := range 1 + random.IntN(4) {
			gw.Spec.Listeners = append(gw.Spec.Listeners, gatewayv1.Listener{
				Name: gatewayv1.SectionName(fmt.Sprintf("l%d", j)), Port: pick[int32](random, 80, 53, 81),
				Protocol: pick(random, gatewayv1.TCPProtocolType, gatewayv1.TCPProtocolType, gatewayv1.UDPProtocolType, gatewayv1.TLSProtocolType),
				AllowedRoutes: &gatewayv1.AllowedRoutes{
					Kinds: pick(random, nil, nil, []gatewayv1.RouteGroupKind{{Kind: KindTCPRoute}}, []gatewayv1.RouteGroupKind{{Kind: KindUDPRoute}, {Kind: "Nix"}}),
					Namespaces: &gatewayv1.RouteNamespaces{From: maybe(random, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromSelector),
						Selector: maybe(random, metav1.LabelSelector{MatchLabels: map[string]string{"team": "web"}})},
				},
			})
		}
		for range random.IntN(3) {
			gw.Status.Addresses = append(gw.Status.Addresses, gatewayv1.GatewayStatusAddress{Value: pick(random, "192.0.2.1", "192.0.2.2", "2001:db8::80")})
		}
		gw.Finalizers = pick(random, nil, []string{Finalizer}, []string{Finalizer})
		w.in.Gateways = append(w.in.Gateways, gw)
	}
	for i := range random.IntN(5) {
		var parents []gatewayv1.ParentReference
		for range 1 + random.IntN(3) {
			parents = append(parents, gatewayv1.ParentReference{
				Namespace: maybe(random, gatewayv1.Namespace("default"), "apps"), Name: gatewayv1.ObjectName(fmt.Sprintf("gw%d", random.IntN(4))),
				SectionName: maybe(random, gatewayv1.SectionName("l0"), "l1", "nix"), Port: maybe[int32](random, 80, 53),
			})
		}
		var refs []gatewayv1.BackendRef
		for range random.IntN(4) {
			refs = append(refs, gatewayv1.BackendRef{Weight: maybe[int32](random, 0, 1, 7, 1000000), BackendObjectReference: gatewayv1.BackendObjectReference{
				Kind: maybe(random, gatewayv1.Kind("Service"), "Service", "Pod"), Namespace: maybe(random, gatewayv1.Namespace("other")),
				Name: gatewayv1.ObjectName(fmt.Sprintf("svc%d", random.IntN(4))), Port: maybe[int32](random, 80, 53),
			}})
		}
		if random.IntN(2) == 0 {
			r := &gatewayv1.TCPRoute{ObjectMeta: meta(fmt.Sprintf("r%d", i))}
			r.Spec.ParentRefs, r.Spec.Rules = parents, []gatewayv1.TCPRouteRule{{BackendRefs: refs}}
			w.in.TCPRoutes = append(w.in.TCPRoutes, r)
		} else {
			r := &gatewayv1.UDPRoute{ObjectMeta: meta(fmt.Sprintf("r%d", i))}
			r.Spec.ParentRefs, r.Spec.Rules = parents, []gatewayv1.UDPRouteRule{{BackendRefs: refs}}
			w.in.UDPRoutes = append(w.in.UDPRoutes, r)
		}
	}
	if random.IntN(2) == 0 {
		g := &gatewayv1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "g"}}
		g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: pick(random, KindTCPRoute, KindUDPRoute), Namespace: "default"}}
		g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service", Name: maybe(random, gatewayv1.ObjectName("svc1"))}}
		w.in.Grants = append(w.in.Grants, g)
	}
	return w
}
