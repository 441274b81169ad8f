package property

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
	"fairlead/k8ssync/translate"
)

// Of each kind there are so many names, so that steps meet.
const (
	serviceNames = 10
	sliceNames   = 3 // of each Service
	poolNames    = 3
	nodeNames    = 4
)

// steps changes a cluster at random.
type steps struct {
	*history
	rand *rand.Rand
}

func newSteps(seed uint64) *steps {
	return &steps{history: newHistory(), rand: rand.New(rand.NewPCG(seed, 6))}
}

func (q *steps) oneOf(n int) bool { return q.rand.IntN(n) == 0 }

// step changes one object, and has the writer and the node follow.
func (q *steps) step() error {
	q.clock = q.clock.Add(time.Second)
	dirty := q.keys()
	switch n := q.rand.IntN(20); {
	case n < 8:
		key := q.service()
		if err := q.settle(key); err != nil {
			return err
		}
		// What others wait for may have been given back.
		dirty = append(q.keys(), key)
	case n < 14:
		dirty = []kube.Key{q.slice()}
	case n < 17:
		q.pool()
		q.ledger.SetPools(slices.Collect(maps.Values(q.pools)))
		if err := q.settle(q.keys()...); err != nil {
			return err
		}
	default:
		q.node()
		dirty = slices.DeleteFunc(dirty, func(key kube.Key) bool {
			o, _ := options.Parse(q.services[key], nil)
			return !translate.NeedsNodes(q.services[key], o, q.settings)
		})
	}
	for _, key := range dirty {
		q.program(key)
	}
	return nil
}

// known reports whether statuses and pools say of every address whose it is. What is
// kept for an object that does not have it is in its reservation alone, and so is that
// an address which no pool has any more was given out by us.
func (q *steps) known() bool {
	for _, r := range q.ledger.Reservations() {
		if r.For != nil || q.ledger.PoolOf(r.Address) == "" {
			return false
		}
	}
	return true
}

func (q *steps) vip4(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}) }

func (q *steps) vip6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n))
}

// service makes, changes or deletes one, and returns which.
func (q *steps) service() kube.Key {
	n := q.rand.IntN(serviceNames)
	key := kube.Key{Kind: kube.Service, Namespace: []string{"one", "two"}[n%2], Name: fmt.Sprintf("s%d", n)}
	if q.oneOf(5) {
		delete(q.services, key)
		return key
	}
	s := q.services[key]
	if s == nil {
		s = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, CreationTimestamp: metav1.NewTime(q.clock)}}
		q.services[key] = s
	}
	ports := []corev1.ServicePort{
		{Name: "web", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080), NodePort: 30080},
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(8053)},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(8053)},
		{Name: "alt", Protocol: corev1.ProtocolTCP, Port: 8000, TargetPort: intstr.FromString("alt")},
	}
	q.rand.Shuffle(len(ports), func(i, j int) { ports[i], ports[j] = ports[j], ports[i] })
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, Ports: ports[:1+q.rand.IntN(3)],
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster, SessionAffinity: corev1.ServiceAffinityNone,
	}
	s.Annotations = map[string]string{}
	switch q.rand.IntN(5) {
	case 0:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	case 1:
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	}
	switch q.rand.IntN(8) {
	case 0:
		s.Spec.Type = corev1.ServiceTypeClusterIP
	case 1:
		s.Spec.LoadBalancerClass = ptr.To("example.com/other")
	case 2:
		s.Spec.LoadBalancerClass = ptr.To(kube.Class)
	}
	if q.oneOf(4) {
		s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 31000
	}
	if q.oneOf(4) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](60)}}
	}
	if q.oneOf(4) {
		s.Spec.LoadBalancerSourceRanges = []string{"198.18.0.0/24"}
	}
	if q.oneOf(2) {
		s.Annotations[options.SharingKey] = fmt.Sprint(q.rand.IntN(2))
	}
	if q.oneOf(2) {
		s.Annotations[options.SharingNamespaces] = "*"
	}
	if q.oneOf(5) {
		s.Annotations[options.Pool] = fmt.Sprintf("p%d", q.rand.IntN(poolNames+1))
	}
	switch q.rand.IntN(8) {
	case 0:
		s.Annotations[options.Addresses] = q.vip4(q.rand.IntN(16)).String()
	case 1:
		s.Annotations[options.Addresses] = q.vip4(q.rand.IntN(16)).String() + "," + q.vip6(q.rand.IntN(16)).String()
	case 2:
		s.Annotations[options.Addresses] = "nonsense"
	}
	if q.oneOf(10) {
		s.Annotations[options.RetainAddress] = "true"
	}
	if q.oneOf(4) {
		s.Annotations[options.Method] = []string{"pods", "nodeports", "nodes"}[q.rand.IntN(3)]
	}
	return key
}

func (q *steps) slice() kube.Key {
	n, part := q.rand.IntN(serviceNames), q.rand.IntN(sliceNames)
	key := kube.Key{Kind: kube.Service, Namespace: []string{"one", "two"}[n%2], Name: fmt.Sprintf("s%d", n)}
	name := fmt.Sprintf("%s/%s-%d", key.Namespace, key.Name, part)
	if q.oneOf(5) {
		delete(q.slices, name)
		return key
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", key.Name, part), Labels: map[string]string{discoveryv1.LabelServiceName: key.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if part == 2 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, p := range []string{"web", "dns", "dns-tcp", "alt"} {
		if q.oneOf(6) {
			continue
		}
		protocol := corev1.ProtocolTCP
		if p == "dns" {
			protocol = corev1.ProtocolUDP
		}
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr.To(p), Protocol: ptr.To(protocol), Port: ptr.To(int32(8000 + q.rand.IntN(3)))})
	}
	state := func() *bool { return []*bool{nil, ptr.To(true), ptr.To(false)}[q.rand.IntN(3)] }
	for range q.rand.IntN(5) {
		a := netip.AddrFrom4([4]byte{198, 18, 128, byte(1 + q.rand.IntN(8))})
		if part == 2 {
			a = netip.MustParseAddr(fmt.Sprintf("2001:db8:b0::%x", 1+q.rand.IntN(8)))
		}
		e := discoveryv1.Endpoint{
			Addresses: []string{a.String()}, NodeName: ptr.To(fmt.Sprintf("n%d", q.rand.IntN(nodeNames))),
			Conditions: discoveryv1.EndpointConditions{Ready: state(), Serving: state(), Terminating: state()},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: key.Namespace, Name: "pod-" + a.String()},
		}
		if q.oneOf(2) {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: []string{"a", "b"}[q.rand.IntN(2)]}}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	q.slices[name] = s
	return key
}

func (q *steps) pool() {
	n := q.rand.IntN(poolNames)
	name := fmt.Sprintf("p%d", n)
	if q.oneOf(4) {
		delete(q.pools, name)
		return
	}
	first := 1 + 3*n + q.rand.IntN(4) // they overlap, and change
	q.pools[name] = kube.AddressPool{
		Name: name, AutoAssign: !q.oneOf(4), AvoidBuggy: q.oneOf(4), Priority: q.rand.IntN(2),
		Ranges:     []kube.Range{{First: q.vip4(first), Last: q.vip4(first + 3)}, {First: q.vip6(first), Last: q.vip6(first + 2)}},
		Namespaces: [][]string{nil, nil, {"one"}, {"two"}}[q.rand.IntN(4)],
	}
}

func (q *steps) node() {
	n := q.rand.IntN(nodeNames)
	name := fmt.Sprintf("n%d", n)
	if q.oneOf(4) {
		delete(q.nodes, name)
		return
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	node.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("198.18.0.%d", 210+n)}, {Type: corev1.NodeInternalIP, Address: fmt.Sprintf("2001:db8::f%d", n)},
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}[q.rand.IntN(2)]}}
	if q.oneOf(3) {
		node.Labels[corev1.LabelNodeExcludeBalancers] = ""
	}
	if q.oneOf(4) {
		node.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
	}
	q.nodes[name] = node
}
