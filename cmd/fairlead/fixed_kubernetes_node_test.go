package main_test

import (
	"context"

	"fairlead/controlplane/api"
)

func (f *fixedNode) KubernetesStatus(context.Context) (api.KubernetesStatus, error) {
	lag := 0.0042
	s := api.KubernetesStatus{
		State: api.KubernetesConnected, Since: &fixedTime, Server: "https://192.0.2.1:6443", Version: "v1.36.3", Synced: &fixedTime,
		Writer: "lb1", Writing: true, Groups: 41, Pending: 2, Lag: &lag,
		Watched: []api.KubernetesResource{
			{Name: "addresspools.fairlead.io", Objects: 2, Synced: true}, {Name: "endpointslices.discovery.k8s.io", Objects: 1234, Synced: true},
			{Name: "gateways.gateway.networking.k8s.io", Error: "its kind is not there"}, {Name: "services", Objects: 321, Synced: true},
		},
		Refused: []api.KubernetesRefusal{
			{Kind: "service", Namespace: "default", Name: "web", Since: fixedTime, Error: "method nat needs an IPv6 SNAT address and there is none", Earlier: true},
			{Kind: "gateway", Namespace: "games", Name: "edge", Since: fixedTime, Error: "198.18.0.10 port 80/tcp belongs to service \"web\""},
		},
		Nodes: []api.KubernetesNode{
			{Name: "lb1", State: api.KubernetesConnected, Groups: 41, Refused: 2, Writer: true},
			{Name: "lb2", State: api.KubernetesAway, Groups: 40, Error: "dial tcp 192.0.2.1:6443: connect: no route to host"},
		},
	}
	if f.health == api.HealthFailing {
		s.State, s.Error, s.Synced, s.Writer, s.Writing, s.Lag = api.KubernetesConnecting, "403: services cannot be listed", nil, "", false, nil
		s.Refused, s.Nodes = nil, nil
	}
	return s, nil
}

func (f *fixedNode) KubernetesObjects(_ context.Context, q api.KubernetesQuery) (api.KubernetesPage, error) {
	all := []api.KubernetesObject{
		{Kind: "gateway", Namespace: "games", Name: "edge", Addresses: []string{"198.18.0.12"}, Ports: []string{"udp/27015"}, Method: "pods", Ready: 4, Programmed: []string{"lb1", "lb2"}, Nodes: 2},
		{Kind: "service", Namespace: "default", Name: "pending", Ports: []string{"tcp/443"}, Method: "nodes", Nodes: 2,
			Problems: []api.KubernetesProblem{{Severity: "Warning", Reason: "PoolExhausted", Message: "pool public has no free IPv4 address"}}},
		{Kind: "service", Namespace: "default", Name: "web", Addresses: []string{"198.18.0.10", "2001:db8::10"}, Ports: []string{"tcp/80", "tcp/443"}, Method: "pods", Ready: 3, Draining: 1, Programmed: []string{"lb1"}, Nodes: 2},
	}
	var p api.KubernetesPage
	for _, o := range all {
		if (q.Problems && len(o.Problems) == 0) || (q.Name != "" && q.Name != o.Name) || (q.Namespace != "" && q.Namespace != o.Namespace) || (q.Kind != "" && q.Kind != o.Kind) {
			continue
		}
		if (q.After == "") != (o.Kind == "gateway") && q.Name == "" && !q.Problems && q.Kind == "" { // the list has two pages
			continue
		}
		p.Objects = append(p.Objects, o)
	}
	if q.After == "" && q.Name == "" && !q.Problems && q.Kind == "" {
		p.Next = "edge"
	}
	return p, nil
}
