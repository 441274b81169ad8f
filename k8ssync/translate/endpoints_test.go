package translate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"fairlead/k8ssync/kube"
)

type sliceList = []*discoveryv1.EndpointSlice

// TestEndpoints: which endpoints get what. Each case is named after what it promises.
func TestEndpoints(t *testing.T) {
	pods := []discoveryv1.Endpoint{endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2")}
	otherPort := func(s *discoveryv1.EndpointSlice, port int32) *discoveryv1.EndpointSlice {
		s.Ports[0].Port = &port
		return s
	}
	for _, c := range []struct {
		name   string
		change func(*corev1.Service)
		slices sliceList
		zone   string
		want   string
	}{
		{name: "no slices, no backends", want: ""},
		{name: "ready pods take flows", slices: sliceList{slice(pods...)}, want: "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1"},
		{name: "nil conditions mean ready", slices: sliceList{slice(endpointOf("a", "10.0.0.1", nilConditions))}, want: "a 10.0.0.1:8080*1"},
		{
			name:   "nil serving and terminating mean serving and not terminating",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", conditions(ptr(false), nil, nil)), endpointOf("b", "10.0.0.2", conditions(ptr(false), nil, ptr(true))))},
			want:   "a 10.0.0.1:8080*0, b 10.0.0.2:8080*1",
		},
		{
			name:   "who is not ready or terminates keeps its connections only",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2", unready), endpointOf("c", "10.0.0.3", terminating), endpointOf("d", "10.0.0.4", failing))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*0, c 10.0.0.3:8080*0, d 10.0.0.4:8080*0",
		},
		{
			name:   "when none is ready, those that terminate and serve take flows",
			slices: sliceList{slice(endpointOf("b", "10.0.0.2", unready), endpointOf("c", "10.0.0.3", terminating), endpointOf("d", "10.0.0.4", failing))},
			want:   "b 10.0.0.2:8080*0, c 10.0.0.3:8080*1, d 10.0.0.4:8080*0",
		},
		{
			name:   "one that terminates and fails its probe takes no flows ever",
			slices: sliceList{slice(endpointOf("d", "10.0.0.4", failing))},
			want:   "d 10.0.0.4:8080*0",
		},
		{
			name: "UDP leaves at once", change: udp,
			slices: sliceList{udpSlice(endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2", unready), endpointOf("c", "10.0.0.3", terminating))},
			want:   "a 10.0.0.1:8080*1",
		},
		{
			name: "UDP stays with who terminates and serves when there is nobody else", change: udp,
			slices: sliceList{udpSlice(endpointOf("c", "10.0.0.3", terminating), endpointOf("d", "10.0.0.4", failing))},
			want:   "c 10.0.0.3:8080*1",
		},
		{
			name: "publishNotReadyAddresses takes who is said to be ready", change: func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true },
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", conditions(ptr(true), ptr(false), ptr(false))), endpointOf("b", "10.0.0.2", conditions(ptr(true), ptr(true), ptr(true))))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name:   "slices are merged and duplicates are one",
			slices: sliceList{slice(pods...), slice(endpointOf("b", "10.0.0.2"), endpointOf("c", "10.0.0.3"))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1, c 10.0.0.3:8080*1",
		},
		{
			name:   "of a duplicate, the one that does not terminate holds",
			slices: sliceList{slice(endpointOf("old", "10.0.0.2", terminating)), slice(endpointOf("new", "10.0.0.2", unready)), slice(endpointOf("a", "10.0.0.1"))},
			want:   "a 10.0.0.1:8080*1, new 10.0.0.2:8080*0",
		},
		{
			name:   "of a duplicate, the one that is ready holds",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", unready)), slice(endpointOf("a", "10.0.0.1"))},
			want:   "a 10.0.0.1:8080*1",
		},
		{
			name:   "a backend is an address with the port of its own slice",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1")), otherPort(slice(endpointOf("b", "10.0.0.2")), 9090)},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:9090*1",
		},
		{
			name:   "a pod that is listed with two ports is two backends",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1")), otherPort(slice(endpointOf("a", "10.0.0.1")), 9090)},
			want:   "a (10.0.0.1:8080) 10.0.0.1:8080*1, a (10.0.0.1:9090) 10.0.0.1:9090*1",
		},
		{
			name: "slices of another port, protocol, family or kind are none of this port's",
			slices: sliceList{
				{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("metrics"), Port: ptr(int32(9100))}}, Endpoints: pods},
				udpSlice(pods...),
				slice(endpointOf("six", "2001:db8::1")),
				{AddressType: discoveryv1.AddressTypeFQDN, Ports: slice().Ports, Endpoints: pods},
				{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("http")}}, Endpoints: pods},
				{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(0))}}, Endpoints: pods},
			},
			want: "",
		},
		{
			name: "a port without a name is the one without a name", change: ports(corev1.ServicePort{Port: 80}),
			slices: sliceList{{AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr(int32(8080))}}, Endpoints: pods}, slice(endpointOf("c", "10.0.0.3"))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name: "pods in the host's network are at the node's address", slices: sliceList{slice(endpointOf("a", "192.0.2.11"), endpointOf("b", "192.0.2.12"))},
			want: "a 192.0.2.11:8080*1, b 192.0.2.12:8080*1",
		},
		{
			name:   "who is no pod is called by what it is, or by its address",
			slices: sliceList{slice(endpointOf("vm", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.TargetRef.Kind = "VirtualMachine" }), endpointOf("", "10.0.0.2", func(e *discoveryv1.Endpoint) { e.TargetRef = nil }))},
			want:   "vm 10.0.0.1:8080*1,  10.0.0.2:8080*1",
		},
		{
			name:   "only the first address of an endpoint counts",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", func(e *discoveryv1.Endpoint) { e.Addresses = append(e.Addresses, "10.0.0.9") }))},
			want:   "a 10.0.0.1:8080*1",
		},

		{
			name: "zone hints are followed", zone: "z1",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")), endpointOf("c", "10.0.0.3", hinted("z2", "z1")))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*0, c 10.0.0.3:8080*1",
		},
		{
			name: "zone hints are not followed when one ready endpoint has none", zone: "z1",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted()))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name: "an endpoint that is not ready needs no hint", zone: "z1",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")), endpointOf("c", "10.0.0.3", unready))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*0, c 10.0.0.3:8080*0",
		},
		{
			name: "zone hints are not followed when none is for our zone", zone: "z3",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name:   "a balancer without a zone follows no hints",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name: "hints for nodes mean nothing to a balancer", zone: "z1",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted()), endpointOf("b", "10.0.0.2", hinted()))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
		{
			name: "when none is ready, zones do not matter", zone: "z1",
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1"), failing), endpointOf("b", "10.0.0.2", hinted("z2"), terminating))},
			want:   "a 10.0.0.1:8080*0, b 10.0.0.2:8080*1",
		},
		{
			name: "UDP flows stay in another zone while their pod is ready", zone: "z1", change: udp,
			slices: sliceList{udpSlice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")), endpointOf("c", "10.0.0.3", hinted("z2"), terminating))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*0",
		},
		{
			name: "Local goes before zones", zone: "z1", change: local,
			slices: sliceList{slice(endpointOf("a", "10.0.0.1", hinted("z1")), endpointOf("b", "10.0.0.2", hinted("z2")))},
			want:   "a 10.0.0.1:8080*1, b 10.0.0.2:8080*1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := service()
			if c.change != nil {
				c.change(svc)
			}
			label := "tcp-80/ipv4"
			if protocolOf(&svc.Spec.Ports[0]) == corev1.ProtocolUDP {
				label = "udp-80/ipv4"
			}
			out := run(t, Input{Service: svc, Slices: c.slices, Settings: kube.Settings{Zone: c.zone}, Options: kube.Options{Method: kube.Pods}})
			expect(t, out, label, c.want)
		})
	}
}

// TestEndpointsThatCannotBeUsed are left out and told of.
func TestEndpointsThatCannotBeUsed(t *testing.T) {
	bad := slice(
		endpointOf("a", "10.0.0.1"), endpointOf("b", "127.0.0.1"), endpointOf("c", "203.0.113.7"), endpointOf("d", "2001:db8::1"),
		endpointOf("e", "web.example"), endpointOf("f", "x", func(e *discoveryv1.Endpoint) { e.Addresses = nil }),
	)
	out := run(t, Input{Service: service(), Slices: sliceList{bad, bad}})
	expect(t, out, "tcp-80/ipv4", "a 10.0.0.1:8080*1")
	told(t, out, `EndpointIgnored: endpoint ignored: "web.example" is not an IP address (and 4 more)`)
	one := slice(endpointOf("c", "203.0.113.7"))
	told(t, run(t, Input{Service: service(), Slices: sliceList{one}}), "EndpointIgnored: endpoint ignored: 203.0.113.7 is the Service's own VIP")
}

// TestNamesThatCannotBeUsed: slices may be written by anybody.
func TestNamesThatCannotBeUsed(t *testing.T) {
	out := run(t, Input{Service: service(), Slices: sliceList{slice(
		endpointOf("a\n", "10.0.0.1"), endpointOf("x", "10.0.0.2"), endpointOf("x", "10.0.0.3"), endpointOf("x (10.0.0.2:8080)", "10.0.0.4"),
	)}})
	expect(t, out, "tcp-80/ipv4", " 10.0.0.1:8080*1,  10.0.0.2:8080*1, x (10.0.0.3:8080) 10.0.0.3:8080*1,  10.0.0.4:8080*1")
}

func TestPodWeights(t *testing.T) {
	in := Input{Service: service(), Slices: sliceList{slice(
		endpointOf("heavy", "10.0.0.1"), endpointOf("drained", "10.0.0.2"), endpointOf("plain", "10.0.0.3"), endpointOf("wrong", "10.0.0.4"),
		endpointOf("heavy", "10.0.0.5", func(e *discoveryv1.Endpoint) { e.TargetRef.Namespace = "other" }),
		endpointOf("heavy", "10.0.0.6", func(e *discoveryv1.Endpoint) { e.TargetRef.Kind = "External" }),
		endpointOf("heavy-too", "10.0.0.7", terminating),
	)}}
	weights := map[string]string{"default/heavy": "9", "default/drained": "0", "default/wrong": "many", "default/heavy-too": "9"}
	in.PodWeight = func(namespace, name string) (string, bool) { v, ok := weights[namespace+"/"+name]; return v, ok }
	out := run(t, in)
	expect(t, out, "tcp-80/ipv4", "heavy (10.0.0.1:8080) 10.0.0.1:8080*9, drained 10.0.0.2:8080*0, plain 10.0.0.3:8080*1, wrong 10.0.0.4:8080*1, "+
		"heavy (10.0.0.5:8080) 10.0.0.5:8080*1, heavy (10.0.0.6:8080) 10.0.0.6:8080*1, heavy-too 10.0.0.7:8080*0")
	told(t, out, `InvalidWeight: pod wrong: annotation fairlead.io/weight: "many" is not a whole number; the weight is 1`)
}
