package gateway

import (
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TestGatewayConditions: each condition and reason of a Gateway and its listeners.
func TestGatewayConditions(t *testing.T) {
	const tcp = "{name: tcp, protocol: TCP, port: 80}"
	tests := []struct {
		name       string
		class      string // spec of another class "other-class", when the Gateway names it
		spec       string // of the Gateway
		status     string
		metadata   string
		addressing Addressing
		progress   Progress
		want       map[string]string
		listeners  map[string]map[string]string
		kinds      map[string][]gatewayv1.Kind
	}{
		{
			name: "no address yet",
			spec: "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			want: map[string]string{
				"Accepted":     "True Accepted: all listeners are valid",
				"Programmed":   "False AddressNotAssigned: no address has been assigned yet",
				"ResolvedRefs": "True ResolvedRefs: all references are resolved",
			},
			listeners: map[string]map[string]string{"tcp": {
				"Accepted":     "True Accepted: the listener is valid",
				"Programmed":   "False Pending: no address has been assigned yet",
				"ResolvedRefs": "True ResolvedRefs: all kinds of routes that it allows are supported",
				"Conflicted":   "False NoConflicts: no other listener has its port",
			}},
			kinds: map[string][]gatewayv1.Kind{"tcp": {"TCPRoute"}},
		},
		{
			name:       "no address to be had",
			spec:       "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			addressing: Addressing{"AddressNotAssigned", "pool default has no free address"},
			want:       map[string]string{"Programmed": "False AddressNotAssigned: pool default has no free address"},
			listeners:  map[string]map[string]string{"tcp": {"Programmed": "False Pending: pool default has no free address"}},
		},
		{
			name:   "programmed",
			spec:   "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			status: "{addresses: [{type: IPAddress, value: 192.0.2.1}]}",
			want:   map[string]string{"Programmed": "True Programmed: addresses are assigned"},
			listeners: map[string]map[string]string{"tcp": {
				"Programmed": "True Programmed: no route is attached: packets to it are dropped",
			}},
		},
		{
			name:     "programmed on some nodes",
			spec:     "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			status:   "{addresses: [{type: IPAddress, value: 192.0.2.1}]}",
			progress: Progress{Nodes: 2, Of: 3, Why: []string{"lb3: VIP 192.0.2.1 is an address of its own"}, Settled: true},
			want:     map[string]string{"Programmed": "False Pending: in force on 2 of 3 nodes: lb3: VIP 192.0.2.1 is an address of its own"},
			listeners: map[string]map[string]string{"tcp": {
				"Programmed": "False Pending: in force on 2 of 3 nodes: lb3: VIP 192.0.2.1 is an address of its own",
			}},
		},
		{
			name:     "programmed, and nodes are about to follow another change",
			spec:     "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			status:   `{addresses: [{type: IPAddress, value: 192.0.2.1}], conditions: [{type: Programmed, status: "True", reason: Programmed, message: in force on 3 of 3 nodes, observedGeneration: 7, lastTransitionTime: "2025-01-01T00:00:00Z"}]}`,
			progress: Progress{Nodes: 2, Of: 3, Why: []string{"lb3 has not put it in force yet"}},
			want:     map[string]string{"Programmed": "True Programmed: in force on 3 of 3 nodes"},
		},
		{
			name:     "programmed before, and nodes are about to follow a change of it",
			spec:     "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			status:   `{addresses: [{type: IPAddress, value: 192.0.2.1}], conditions: [{type: Programmed, status: "True", reason: Programmed, message: in force on 3 of 3 nodes, observedGeneration: 6, lastTransitionTime: "2025-01-01T00:00:00Z"}]}`,
			progress: Progress{Nodes: 2, Of: 3, Why: []string{"lb3 has not put it in force yet"}},
			want:     map[string]string{"Programmed": "False Pending: in force on 2 of 3 nodes: lb3 has not put it in force yet"},
		},
		{
			name:     "programmed on all nodes",
			spec:     "{gatewayClassName: fairlead, listeners: [" + tcp + "]}",
			status:   "{addresses: [{type: IPAddress, value: 192.0.2.1}]}",
			progress: Progress{Nodes: 3, Of: 3},
			want:     map[string]string{"Programmed": "True Programmed: in force on 3 of 3 nodes"},
		},
		{
			name: "a protocol that is not supported, alone",
			spec: "{gatewayClassName: fairlead, listeners: [{name: web, protocol: HTTP, port: 80, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}]}",
			want: map[string]string{
				"Accepted":   "False ListenersNotValid: no listener is valid: web (protocol HTTP is not supported; TCP and UDP are)",
				"Programmed": "False Invalid: the Gateway is not accepted: no listener is valid: web (protocol HTTP is not supported; TCP and UDP are)",
			},
			listeners: map[string]map[string]string{"web": {
				"Accepted":     "False UnsupportedProtocol: protocol HTTP is not supported; TCP and UDP are",
				"Programmed":   "False Invalid: protocol HTTP is not supported; TCP and UDP are",
				"ResolvedRefs": "True ResolvedRefs: all kinds of routes that it allows are supported",
			}},
			kinds: map[string][]gatewayv1.Kind{"web": {}},
		},
		{
			name:   "a protocol that is not supported, beside one that is",
			spec:   "{gatewayClassName: fairlead, listeners: [" + tcp + ", {name: bad, protocol: INVALID, port: 1111}]}",
			status: "{addresses: [{type: IPAddress, value: 192.0.2.1}]}",
			want: map[string]string{
				"Accepted":   "True ListenersNotValid: served without listener bad (protocol INVALID is not supported; TCP and UDP are)",
				"Programmed": "True Programmed: addresses are assigned",
			},
			listeners: map[string]map[string]string{
				"tcp": {"Accepted": "True Accepted: the listener is valid"},
				"bad": {"Accepted": "False UnsupportedProtocol: protocol INVALID is not supported; TCP and UDP are"},
			},
		},
		{
			name: "one port for TCP and for HTTP",
			spec: "{gatewayClassName: fairlead, listeners: [" + tcp + ", {name: web, protocol: HTTP, port: 80}, {name: udp, protocol: UDP, port: 80}]}",
			want: map[string]string{
				"Accepted": "True ListenersNotValid: served without listener tcp (port 80 of TCP is also that of listener web (HTTP)); web (protocol HTTP is not supported; TCP and UDP are)",
			},
			listeners: map[string]map[string]string{
				"tcp": {
					"Accepted":   "False PortUnavailable: port 80 of TCP is also that of listener web (HTTP)",
					"Conflicted": "True ProtocolConflict: port 80 of TCP is also that of listener web (HTTP)",
					"Programmed": "False Invalid: port 80 of TCP is also that of listener web (HTTP)",
				},
				"web": {"Conflicted": "True ProtocolConflict: port 80 of TCP is also that of listener tcp (TCP)"},
				"udp": {"Conflicted": "False NoConflicts: no other listener has its port", "Accepted": "True Accepted: the listener is valid"},
			},
		},
		{
			name: "a kind of route that a TCP listener cannot take, and one that it can",
			spec: "{gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80, allowedRoutes: {kinds: [{kind: UDPRoute}, {kind: TCPRoute}, {group: example.com, kind: TCPRoute}]}}]}",
			want: map[string]string{
				"Accepted":     "True Accepted: all listeners are valid",
				"ResolvedRefs": "False ListenersNotResolved: listener tcp allows kinds of routes that it cannot take",
			},
			listeners: map[string]map[string]string{"tcp": {
				"ResolvedRefs": "False InvalidRouteKinds: allowedRoutes.kinds: a listener of protocol TCP takes no gateway.networking.k8s.io UDPRoute, no example.com TCPRoute",
			}},
			kinds: map[string][]gatewayv1.Kind{"tcp": {"TCPRoute"}},
		},
		{
			name:   "only a kind of route that does not exist",
			spec:   "{gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}]}",
			status: "{addresses: [{type: IPAddress, value: 192.0.2.1}]}",
			listeners: map[string]map[string]string{"tcp": {
				"ResolvedRefs": "False InvalidRouteKinds: allowedRoutes.kinds: a listener of protocol TCP takes no gateway.networking.k8s.io InvalidRoute",
				"Programmed":   "False Invalid: no kind of route can attach",
			}},
			kinds: map[string][]gatewayv1.Kind{"tcp": {}},
		},
		{
			name: "a selector that is missing",
			spec: "{gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80, allowedRoutes: {namespaces: {from: Selector}}}]}",
			listeners: map[string]map[string]string{"tcp": {
				"Accepted": "False UnsupportedValue: allowedRoutes.namespaces.from is Selector and there is no selector",
			}},
		},
		{
			name: "a selector that is wrong",
			spec: "{gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}}}}]}",
			listeners: map[string]map[string]string{"tcp": {
				"Accepted": "False UnsupportedValue: allowedRoutes.namespaces.selector: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty",
			}},
		},
		{
			name: "a port that is none",
			spec: "{gatewayClassName: fairlead, listeners: [{name: tcp, protocol: TCP, port: 0}]}",
			listeners: map[string]map[string]string{"tcp": {
				"Accepted": "False PortUnavailable: port 0 is none of 1 to 65535",
			}},
		},
		{
			name: "a host name for an address",
			spec: "{gatewayClassName: fairlead, addresses: [{type: Hostname, value: lb.example.com}], listeners: [" + tcp + "]}",
			want: map[string]string{
				"Accepted":   "False UnsupportedAddress: spec.addresses[0]: type Hostname is not supported; IPAddress is",
				"Programmed": "False Invalid: the Gateway is not accepted: spec.addresses[0]: type Hostname is not supported; IPAddress is",
			},
			listeners: map[string]map[string]string{"tcp": {
				"Accepted":   "True Accepted: the listener is valid",
				"Programmed": "False Invalid: the Gateway is not accepted: spec.addresses[0]: type Hostname is not supported; IPAddress is",
			}},
		},
		{
			name: "a named address",
			spec: "{gatewayClassName: fairlead, addresses: [{type: NamedAddress, value: front}], listeners: [" + tcp + "]}",
			want: map[string]string{"Accepted": "False UnsupportedAddress: spec.addresses[0]: type NamedAddress is not supported; IPAddress is"},
		},
		{
			name: "no address at all",
			spec: "{gatewayClassName: fairlead, addresses: [{value: 192.0.2.300}], listeners: [" + tcp + "]}",
			want: map[string]string{"Accepted": `False UnsupportedAddress: spec.addresses[0]: "192.0.2.300" is not an IP address`},
		},
		{
			name: "two addresses of a family",
			spec: "{gatewayClassName: fairlead, addresses: [{value: 192.0.2.1}, {value: 192.0.2.2}, {value: '2001:db8::1'}], listeners: [" + tcp + "]}",
			want: map[string]string{
				"Accepted":   "True Accepted: all listeners are valid",
				"Programmed": "False AddressNotUsable: more than one IPv4 address is asked for; a Gateway has at most one of each family",
			},
		},
		{
			name:       "an address that cannot be had",
			spec:       "{gatewayClassName: fairlead, addresses: [{value: 192.0.2.1}], listeners: [" + tcp + "]}",
			addressing: Addressing{"AddressNotUsable", "192.0.2.1 is in no pool"},
			want: map[string]string{
				"Accepted":   "True Accepted: all listeners are valid",
				"Programmed": "False AddressNotUsable: 192.0.2.1 is in no pool",
			},
		},
		{
			name: "parameters of the Gateway",
			spec: "{gatewayClassName: fairlead, infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: x}}, listeners: [" + tcp + "]}",
			want: map[string]string{"Accepted": "False InvalidParameters: spec.infrastructure.parametersRef: there are no parameters of kind ConfigMap; options are annotations"},
		},
		{
			name:  "parameters of the class",
			class: "{controllerName: fairlead.io/gateway, parametersRef: {group: example.com, kind: Config, name: x}}",
			spec:  "{gatewayClassName: other-class, listeners: [" + tcp + "]}",
			want: map[string]string{
				"Accepted": "False InvalidParameters: GatewayClass other-class is not accepted: spec.parametersRef: there are no parameters of kind example.com/Config; options are annotations of Gateways",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			if test.class != "" {
				w.add(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: other-class}, spec: "+test.class+"}")
			}
			status := test.status
			if status == "" {
				status = "{}"
			}
			w.add(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw, generation: 7}, spec: "+test.spec+", status: "+status+"}")
			m := moment
			m.Addressing = func(k kubeKey) Addressing { return test.addressing }
			m.Progress = func(k kubeKey) Progress { return test.progress }
			got, ok := Resolve(w.in).GatewayStatus(gwKey("default/gw"), m)
			if !ok {
				t.Fatal("the Gateway is not ours")
			}
			checkConditions(t, "gateway", got.Conditions, 7, test.want)
			byName := make(map[string]gatewayv1.ListenerStatus)
			for _, l := range got.Listeners {
				byName[string(l.Name)] = l
			}
			for name, want := range test.listeners {
				checkConditions(t, "listener "+name, byName[name].Conditions, 7, want)
			}
			for name, want := range test.kinds {
				l := byName[name]
				if l.SupportedKinds == nil || len(l.SupportedKinds) != len(want) {
					t.Fatalf("listener %s supports %v, want %v", name, l.SupportedKinds, want)
				}
				for i, k := range want {
					if l.SupportedKinds[i].Kind != k || *l.SupportedKinds[i].Group != gatewayv1.GroupName {
						t.Errorf("listener %s supports %v, want %v", name, l.SupportedKinds, want)
					}
				}
			}
		})
	}
}

// TestGatewayOfAnother: what belongs to another controller is not looked at.
func TestGatewayOfAnother(t *testing.T) {
	w := newWorld(t,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: theirs}, spec: {controllerName: example.com/gateway}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: a}, spec: {gatewayClassName: theirs, listeners: [{name: tcp, protocol: TCP, port: 80}]}, status: {addresses: [{value: 192.0.2.1}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: b}, spec: {gatewayClassName: missing, listeners: [{name: tcp, protocol: TCP, port: 80}]}}`)
	p := Resolve(w.in)
	for _, name := range []string{"default/a", "default/b"} {
		if _, ok := p.GatewayStatus(gwKey(name), moment); ok {
			t.Errorf("%s has a status of ours", name)
		}
		if g, _ := p.Groups(gwKey(name)); g != nil {
			t.Errorf("%s is put in force", name)
		}
		if _, ok := p.Request(gwKey(name)); ok {
			t.Errorf("%s asks for addresses", name)
		}
	}
	if _, ok := p.ClassStatus("theirs", moment); ok {
		t.Error("the class of another controller has a status of ours")
	}
}

// TestClassConditions: what GatewayClasses are told.
func TestClassConditions(t *testing.T) {
	tests := []struct {
		name, spec, bundle string
		want               map[string]string
	}{
		{"accepted", "{controllerName: fairlead.io/gateway}", "v1.6.3", map[string]string{
			"Accepted":         "True Accepted: Gateways of this class are served",
			"SupportedVersion": "True SupportedVersion: release v1.6.3 of the Gateway API is installed",
		}},
		{"parameters", "{controllerName: fairlead.io/gateway, parametersRef: {group: '', kind: ConfigMap, name: x, namespace: y}}", "v1.7.0-rc.1", map[string]string{
			"Accepted":         "False InvalidParameters: spec.parametersRef: there are no parameters of kind ConfigMap; options are annotations of Gateways",
			"SupportedVersion": "True SupportedVersion: release v1.7.0-rc.1 of the Gateway API is installed",
		}},
		{"an older release", "{controllerName: fairlead.io/gateway}", "v1.4.1", map[string]string{
			"Accepted":         "True Accepted: Gateways of this class are served",
			"SupportedVersion": "False UnsupportedVersion: release v1.4.1 of the Gateway API is installed; releases from v1.6 on are supported",
		}},
		{"a release that is not told", "{controllerName: fairlead.io/gateway}", "", map[string]string{
			"SupportedVersion": "False UnsupportedVersion: the definitions of the Gateway API do not tell their release; releases from v1.6 on are supported",
		}},
		{"a development build", "{controllerName: fairlead.io/gateway}", "main", map[string]string{
			"SupportedVersion": "False UnsupportedVersion: release main of the Gateway API is installed; releases from v1.6 on are supported",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c, generation: 3}, spec: "+test.spec+"}")
			w.in.Bundle = test.bundle
			got, ok := Resolve(w.in).ClassStatus("c", moment)
			if !ok {
				t.Fatal("the class is not ours")
			}
			checkConditions(t, "class", got.Conditions, 3, test.want)
			var names []string
			for _, f := range got.SupportedFeatures {
				names = append(names, string(f.Name))
			}
			if want := []string{"Gateway", "ReferenceGrant", "TCPRoute", "UDPRoute"}; !equalStrings(names, want) {
				t.Errorf("features %v, want %v", names, want)
			}
		})
	}
}

// TestKindNotServed: an API server of an older release has no UDPRoute in version v1.
func TestKindNotServed(t *testing.T) {
	w := newWorld(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw}, spec: {gatewayClassName: fairlead, listeners: [{name: udp, protocol: UDP, port: 53}]}}`)
	delete(w.in.Served, KindUDPRoute)
	p := Resolve(w.in)
	got, _ := p.GatewayStatus(gwKey("default/gw"), moment)
	checkConditions(t, "listener", got.Listeners[0].Conditions, 0, map[string]string{
		"Accepted": "False UnsupportedProtocol: the API server does not serve UDPRoute in version v1 of gateway.networking.k8s.io; install the Gateway API of release 1.6 or later",
	})
	class, _ := p.ClassStatus("fairlead", moment)
	for _, f := range class.SupportedFeatures {
		if f.Name == "UDPRoute" {
			t.Error("UDPRoute is told to be supported")
		}
	}
}
