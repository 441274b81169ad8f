package gateway

import (
	"fmt"
	"testing"
)

// TestRequests: what Gateways ask of the allocation of addresses.
func TestRequests(t *testing.T) {
	const listeners = "listeners: [{name: b, protocol: UDP, port: 53}, {name: a, protocol: TCP, port: 80}, {name: bad, protocol: HTTP, port: 81}]"
	const v6cluster = `{apiVersion: v1, kind: Service, metadata: {namespace: default, name: kubernetes}, spec: {ipFamilies: [IPv6, IPv4]}}`
	tests := []struct{ name, meta, spec, status, more, want string }{
		{"nothing in particular", "", "", "", "", "families [IPv4 IPv6] one true required false addresses [] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"nothing in particular, in a cluster of IPv6", "", "", "", v6cluster, "families [IPv6 IPv4] one true required false addresses [] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"an address", "", "addresses: [{value: 192.0.2.7}], ", "", "", "families [IPv4] one false required true addresses [192.0.2.7] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"an address of each family", "", "addresses: [{value: '2001:DB8::7'}, {type: IPAddress, value: 192.0.2.7}], ", "", "", "families [IPv6 IPv4] one false required true addresses [2001:db8::7 192.0.2.7] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"any address of each family", "", "addresses: [{type: IPAddress}, {type: IPAddress}], ", "", "", "families [IPv4 IPv6] one false required true addresses [] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"any address", "", "addresses: [{type: IPAddress}], ", "", "", "families [IPv4 IPv6] one true required false addresses [] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"one address, and any of the other family", "", "addresses: [{value: 192.0.2.7}, {type: IPAddress}], ", "", "", "families [IPv4 IPv6] one false required true addresses [192.0.2.7] pool  hold false labels map[] held [] ports TCP/80 UDP/53"},
		{"labels and annotations of the infrastructure win", "labels: {team: web, a: b}, annotations: {fairlead.io/pool: one}", "infrastructure: {labels: {team: dns}, annotations: {fairlead.io/pool: two}}, ", "", "",
			"families [IPv4 IPv6] one true required false addresses [] pool two hold false labels map[a:b team:dns] held [] ports TCP/80 UDP/53"},
		{"one that has an address", "", "", "addresses: [{value: 192.0.2.7}]", "", "families [IPv4 IPv6] one true required false addresses [] pool  hold false labels map[] held [192.0.2.7] ports TCP/80 UDP/53"},
		{"one that is not accepted any more keeps its address", "", "addresses: [{type: Hostname, value: a.example}], ", "addresses: [{value: 192.0.2.7}]", "", "families [IPv4] one false required false addresses [] pool  hold true labels map[] held [192.0.2.7] ports"},
		{"one that asks for too much keeps its address", "", "addresses: [{value: 192.0.2.8}, {value: 192.0.2.9}], ", "addresses: [{value: 192.0.2.7}]", "", "families [IPv4] one false required false addresses [] pool  hold true labels map[] held [192.0.2.7] ports"},
		{"one that is not accepted and has nothing", "", "addresses: [{type: Hostname, value: a.example}], ", "", "", "nothing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: default, name: gw, uid: u, "+test.meta+"}, spec: {gatewayClassName: fairlead, "+test.spec+listeners+"}, status: {"+test.status+"}}")
			if test.more != "" {
				w.add(t, test.more)
			}
			got := "nothing"
			for _, r := range Resolve(w.in).Requests() {
				got = fmt.Sprintf("families %v one %t required %t addresses %v pool %s hold %t labels %v held %v ports", r.Families, r.One, r.Required, r.Options.Addresses, r.Options.Pool, r.Options.Hold, r.Labels, r.Held)
				for _, p := range r.Ports {
					got += fmt.Sprintf(" %s/%d", p.Protocol, p.Port)
				}
				if r.UID != "u" {
					t.Errorf("UID %q", r.UID)
				}
			}
			if got != test.want {
				t.Errorf("asks for\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
