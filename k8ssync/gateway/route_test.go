package gateway

import (
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const twoListeners = `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw, generation: 2}, spec: {gatewayClassName: fairlead, listeners: [
  {name: tcp, protocol: TCP, port: 80, allowedRoutes: {namespaces: {from: All}}},
  {name: alt, protocol: TCP, port: 81},
  {name: team, protocol: TCP, port: 82, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: web}}}}},
  {name: udp, protocol: UDP, port: 53, allowedRoutes: {namespaces: {from: All}}},
  {name: none, protocol: TCP, port: 83, allowedRoutes: {namespaces: {from: None}}},
  {name: web, protocol: HTTP, port: 8080}]}, status: {addresses: [{type: IPAddress, value: 192.0.2.1}]}}`

const webService = `{apiVersion: v1, kind: Service, metadata: {namespace: default, name: web}, spec: {ports: [{port: 80}, {name: dns, port: 53, protocol: UDP}]}}`

// TestRouteParents: what a route is told of each parent, by every reason.
func TestRouteParents(t *testing.T) {
	tests := []struct {
		name, kind, namespace string
		parents               string
		want                  []string // Accepted of each parent status
		attached              map[string]int32
	}{
		{"the whole Gateway", "TCPRoute", "default", "[{name: gw}]",
			[]string{"True Accepted: attached to listener tcp, alt"}, map[string]int32{"tcp": 1, "alt": 1, "team": 0, "udp": 0, "web": 0, "none": 0}},
		{"a listener by name", "TCPRoute", "default", "[{name: gw, sectionName: alt}]",
			[]string{"True Accepted: attached to listener alt"}, map[string]int32{"tcp": 0, "alt": 1}},
		{"a listener by port", "TCPRoute", "default", "[{name: gw, port: 80}]",
			[]string{"True Accepted: attached to listener tcp"}, map[string]int32{"tcp": 1, "alt": 0}},
		{"a listener by both", "TCPRoute", "default", "[{name: gw, port: 81, sectionName: alt}]",
			[]string{"True Accepted: attached to listener alt"}, map[string]int32{"alt": 1}},
		{"a name and another port", "TCPRoute", "default", "[{name: gw, port: 80, sectionName: alt}]",
			[]string{"False NoMatchingParent: Gateway default/gw has no listener alt at port 80"}, map[string]int32{"alt": 0}},
		{"a name that is none", "TCPRoute", "default", "[{name: gw, sectionName: nix}]",
			[]string{"False NoMatchingParent: Gateway default/gw has no listener nix"}, nil},
		{"a port that is none", "TCPRoute", "default", "[{name: gw, port: 99}]",
			[]string{"False NoMatchingParent: Gateway default/gw has no listener at port 99"}, nil},
		{"several parents", "TCPRoute", "default", "[{name: gw, sectionName: tcp}, {name: gw, sectionName: web}, {name: gw2}]",
			[]string{"True Accepted: attached to listener tcp", "False NotAllowedByListeners: no TCPRoute in namespace default is allowed by listener web", "True Accepted: attached to listener only"},
			map[string]int32{"tcp": 1, "web": 0}},
		{"another namespace, to all", "TCPRoute", "other", "[{name: gw, namespace: default}]",
			[]string{"True Accepted: attached to listener tcp"}, map[string]int32{"tcp": 1, "alt": 0}},
		{"another namespace, to one that takes its own", "TCPRoute", "other", "[{name: gw, namespace: default, sectionName: alt}]",
			[]string{"False NotAllowedByListeners: no TCPRoute in namespace other is allowed by listener alt"}, map[string]int32{"alt": 0}},
		{"a namespace that is selected", "TCPRoute", "apps", "[{name: gw, namespace: default, sectionName: team}]",
			[]string{"True Accepted: attached to listener team"}, map[string]int32{"team": 1}},
		{"a namespace that is not selected", "TCPRoute", "other", "[{name: gw, namespace: default, sectionName: team}]",
			[]string{"False NotAllowedByListeners: no TCPRoute in namespace other is allowed by listener team"}, map[string]int32{"team": 0}},
		{"no namespace", "TCPRoute", "default", "[{name: gw, sectionName: none}]",
			[]string{"False NotAllowedByListeners: no TCPRoute in namespace default is allowed by listener none"}, nil},
		{"UDP to a listener of TCP", "UDPRoute", "default", "[{name: gw, sectionName: tcp}]",
			[]string{"False NotAllowedByListeners: no UDPRoute in namespace default is allowed by listener tcp"}, map[string]int32{"tcp": 0}},
		{"UDP", "UDPRoute", "default", "[{name: gw}]",
			[]string{"True Accepted: attached to listener udp"}, map[string]int32{"udp": 1, "tcp": 0}},
		{"a Gateway that does not exist", "TCPRoute", "default", "[{name: nowhere}]", nil, nil},
		{"a Gateway of another", "TCPRoute", "default", "[{name: theirs}]", nil, nil},
		{"no Gateway", "TCPRoute", "default", "[{group: '', kind: Service, name: gw}, {kind: ListenerSet, name: gw}]", nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, twoListeners, webService,
				`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw2}, spec: {gatewayClassName: fairlead, listeners: [{name: only, protocol: TCP, port: 80}]}}`,
				`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: theirs}, spec: {gatewayClassName: theirs, listeners: [{name: only, protocol: TCP, port: 80}]}}`,
				"{apiVersion: gateway.networking.k8s.io/v1, kind: "+test.kind+", metadata: {namespace: "+test.namespace+", name: r, generation: 5}, spec: {parentRefs: "+test.parents+", rules: [{backendRefs: []}]}}")
			p := Resolve(w.in)
			status, ok := p.RouteStatus(routeKey(gatewayv1.Kind(test.kind), test.namespace+"/r"), moment)
			if !ok || len(status.Parents) != len(test.want) {
				t.Fatalf("%d parents are told of, want %d: %v", len(status.Parents), len(test.want), status.Parents)
			}
			for i, want := range test.want {
				if status.Parents[i].ControllerName != ControllerName {
					t.Errorf("parent %d is told of by %s", i, status.Parents[i].ControllerName)
				}
				checkConditions(t, string(status.Parents[i].ParentRef.Name), status.Parents[i].Conditions, 5, map[string]string{
					"Accepted": want, "ResolvedRefs": "True ResolvedRefs: all backendRefs are resolved",
				})
			}
			gw, _ := p.GatewayStatus(gwKey("default/gw"), moment)
			for _, l := range gw.Listeners {
				if want, told := test.attached[string(l.Name)]; told && l.AttachedRoutes != want {
					t.Errorf("listener %s has %d routes, want %d", l.Name, l.AttachedRoutes, want)
				}
			}
		})
	}
}

// TestOldestRouteWins: of several routes of a listener the oldest has the traffic;
// all are accepted and counted, and the others are told.
func TestOldestRouteWins(t *testing.T) {
	const newer = `{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: newer}, spec: {parentRefs: [{name: gw, sectionName: tcp}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`
	const older = `{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: older}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`
	w := newWorld(t, twoListeners, webService, older, newer)
	w.in.TCPRoutes[0], w.in.TCPRoutes[1] = w.in.TCPRoutes[1], w.in.TCPRoutes[0]
	w.serve("default/web", 80, "198.18.1.1:8080")
	p := Resolve(w.in)
	first, _ := p.RouteStatus(routeKey(KindTCPRoute, "default/older"), moment)
	checkConditions(t, "older", first.Parents[0].Conditions, 0, map[string]string{"Accepted": "True Accepted: attached to listener tcp, alt"})
	second, _ := p.RouteStatus(routeKey(KindTCPRoute, "default/newer"), moment)
	checkConditions(t, "newer", second.Parents[0].Conditions, 0, map[string]string{
		"Accepted": "True Accepted: attached to listener tcp; an older route has the traffic of listener tcp (TCPRoute default/older)"})
	gw, _ := p.GatewayStatus(gwKey("default/gw"), moment)
	if n := gw.Listeners[0].AttachedRoutes; n != 2 {
		t.Errorf("listener tcp has %d routes, want 2", n)
	}
	group := only(t, p, "default/gw")
	if len(group.Pools) != 1 || group.Pools[0].Name != "k8s/gateway/default/gw/ipv4/tcproute/default/older" {
		t.Errorf("pools %v", group.Pools)
	}
	valid(t, group)

	// Routes of the same second are told apart by name.
	w.in.TCPRoutes[0].CreationTimestamp = w.in.TCPRoutes[1].CreationTimestamp
	group = only(t, Resolve(w.in), "default/gw")
	if group.Pools[0].Name != "k8s/gateway/default/gw/ipv4/tcproute/default/newer" {
		t.Errorf("pool %s, want that of the route whose name comes first", group.Pools[0].Name)
	}
}

// TestBackendRefs: every reason for which a reference is not followed.
func TestBackendRefs(t *testing.T) {
	grant := func(kind, from, service string) string {
		to := "{group: '', kind: Service" + service + "}"
		return "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {namespace: other, name: g}, spec: {from: [{group: gateway.networking.k8s.io, kind: " + kind + ", namespace: " + from + "}], to: [" + to + "]}}"
	}
	denied := "False RefNotPermitted: backendRefs[0]: no ReferenceGrant in namespace other lets a TCPRoute of namespace default refer to Service api"
	tests := []struct{ name, kind, refs, grant, want string }{
		{"found", "TCPRoute", "[{name: web, port: 80}]", "", "True ResolvedRefs: all backendRefs are resolved"},
		{"missing", "TCPRoute", "[{name: nix, port: 80}]", "", "False BackendNotFound: backendRefs[0]: there is no Service default/nix"},
		{"no such port", "TCPRoute", "[{name: web, port: 81}]", "", "False BackendNotFound: backendRefs[0]: Service default/web has no port 81"},
		{"no port", "TCPRoute", "[{name: web}]", "", "False BackendNotFound: backendRefs[0]: the port of Service default/web is missing"},
		{"a port of another protocol", "TCPRoute", "[{name: web, port: 53}]", "", "False UnsupportedProtocol: backendRefs[0]: port 53 of Service default/web is of protocol UDP, the route is of TCP"},
		{"UDP", "UDPRoute", "[{name: web, port: 53}]", "", "True ResolvedRefs: all backendRefs are resolved"},
		{"a kind that is not known", "TCPRoute", "[{group: example.com, kind: Bucket, name: web, port: 80}]", "", "False InvalidKind: backendRefs[0]: kind example.com/Bucket is not supported; Service is"},
		{"a kind of the core group", "TCPRoute", "[{kind: Pod, name: web, port: 80}]", "", "False InvalidKind: backendRefs[0]: kind Pod is not supported; Service is"},
		{"a name elsewhere", "TCPRoute", "[{name: external, port: 80}]", "", "False InvalidKind: backendRefs[0]: Service default/external is of type ExternalName, which is not supported"},
		{"another namespace", "TCPRoute", "[{name: api, namespace: other, port: 80}]", "", denied},
		{"another namespace, granted", "TCPRoute", "[{name: api, namespace: other, port: 80}]", grant("TCPRoute", "default", ""), "True ResolvedRefs: all backendRefs are resolved"},
		{"another namespace, granted by name", "TCPRoute", "[{name: api, namespace: other, port: 80}]", grant("TCPRoute", "default", ", name: api"), "True ResolvedRefs: all backendRefs are resolved"},
		{"another Service granted", "TCPRoute", "[{name: api, namespace: other, port: 80}]", grant("TCPRoute", "default", ", name: web"), denied},
		{"another kind granted", "TCPRoute", "[{name: api, namespace: other, port: 80}]", grant("UDPRoute", "default", ""), denied},
		{"another namespace granted", "TCPRoute", "[{name: api, namespace: other, port: 80}]", grant("TCPRoute", "apps", ""), denied},
		{"missing and not granted is not told apart", "TCPRoute", "[{name: nix, namespace: other, port: 80}]", "", "False RefNotPermitted: backendRefs[0]: no ReferenceGrant in namespace other lets a TCPRoute of namespace default refer to Service nix"},
		{"several", "TCPRoute", "[{name: nix, port: 80}, {name: web, port: 80}, {kind: Pod, name: p, port: 80}]", "", "False BackendNotFound: backendRefs[0]: there is no Service default/nix; backendRefs[2]: kind Pod is not supported; Service is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, twoListeners, webService,
				`{apiVersion: v1, kind: Service, metadata: {namespace: other, name: api}, spec: {ports: [{port: 80, protocol: TCP}]}}`,
				`{apiVersion: v1, kind: Service, metadata: {namespace: default, name: external}, spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}}`,
				"{apiVersion: gateway.networking.k8s.io/v1, kind: "+test.kind+", metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: "+test.refs+"}]}}")
			if test.grant != "" {
				w.add(t, test.grant)
			}
			status, _ := Resolve(w.in).RouteStatus(routeKey(gatewayv1.Kind(test.kind), "default/r"), moment)
			got := told(status.Parents[0].Conditions)
			if got["ResolvedRefs"] != test.want {
				t.Errorf("ResolvedRefs\n got %s\nwant %s", got["ResolvedRefs"], test.want)
			}
			if got["Accepted"][:4] != "True" {
				t.Errorf("Accepted %s: a route is accepted whatever it refers to", got["Accepted"])
			}
		})
	}
}

// TestGrantToAnotherGroup: a grant to what is no Service of the core group grants nothing.
func TestGrantToAnotherGroup(t *testing.T) {
	for _, to := range []string{"{group: '', kind: Secret}", "{group: example.com, kind: Service}"} {
		w := newWorld(t, twoListeners,
			`{apiVersion: v1, kind: Service, metadata: {namespace: other, name: api}, spec: {ports: [{port: 80, protocol: TCP}]}}`,
			"{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {namespace: other, name: g}, spec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}], to: ["+to+"]}}",
			`{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: r}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: api, namespace: other, port: 80}]}]}}`)
		status, _ := Resolve(w.in).RouteStatus(routeKey(KindTCPRoute, "default/r"), moment)
		if got := told(status.Parents[0].Conditions)["ResolvedRefs"]; got[:21] != "False RefNotPermitted" {
			t.Errorf("granted to %s: %s", to, got)
		}
	}
}

// TestStatusOfOthersStays: statuses of parents by other controllers are left alone,
// and so are conditions that are not ours; what we have said of former parents goes.
func TestStatusOfOthersStays(t *testing.T) {
	w := newWorld(t, twoListeners, webService, `{apiVersion: gateway.networking.k8s.io/v1, kind: TCPRoute, metadata: {namespace: default, name: r, generation: 4}, spec: {parentRefs: [{name: theirs}, {name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]},
	  status: {parents: [
	    {controllerName: fairlead.io/gateway, parentRef: {name: former}, conditions: [{type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2025-01-01T00:00:00Z", observedGeneration: 1}]},
	    {controllerName: example.com/gateway, parentRef: {name: theirs}, conditions: [{type: Accepted, status: "False", reason: Theirs, message: "theirs", lastTransitionTime: "2025-01-01T00:00:00Z", observedGeneration: 1}]},
	    {controllerName: fairlead.io/gateway, parentRef: {name: gw}, conditions: [
	      {type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2025-01-01T00:00:00Z", observedGeneration: 3},
	      {type: example.com/Watched, status: "True", reason: Watched, message: "", lastTransitionTime: "2025-01-01T00:00:00Z", observedGeneration: 1}]}]}}`)
	status, _ := Resolve(w.in).RouteStatus(routeKey(KindTCPRoute, "default/r"), moment)
	if len(status.Parents) != 2 || status.Parents[0].ParentRef.Name != "theirs" || status.Parents[1].ParentRef.Name != "gw" {
		t.Fatalf("parents %+v", status.Parents)
	}
	if got := told(status.Parents[0].Conditions); got["Accepted"] != "False Theirs: theirs" || len(got) != 1 {
		t.Errorf("another controller's conditions are %v", got)
	}
	ours := status.Parents[1].Conditions
	if got := told(ours)["example.com/Watched"]; got != "True Watched: " {
		t.Errorf("a condition that is not ours is %q", got)
	}
	for _, c := range ours {
		switch {
		case c.Type == "Accepted" && (c.ObservedGeneration != 4 || c.LastTransitionTime.Year() != 2025):
			t.Errorf("Accepted has generation %d and time %s: the status has not changed", c.ObservedGeneration, c.LastTransitionTime)
		case c.Type == "ResolvedRefs" && !c.LastTransitionTime.Equal(&moment.Now):
			t.Errorf("ResolvedRefs is new and has time %s", c.LastTransitionTime)
		}
	}
}
