package api

import "context"

func (f *fixed) KubernetesStatus(context.Context) (KubernetesStatus, error) {
	lag := 0.004
	return KubernetesStatus{
		State: KubernetesAway, Since: &fixedTime, Error: "dial tcp 192.0.2.1:6443: connection refused", Server: "https://192.0.2.1:6443", Version: "v1.36.3",
		Synced: &fixedTime, Writer: "lb2", Groups: 3, Pending: 1, Lag: &lag,
		Watched: []KubernetesResource{{Name: "services", Objects: 3, Synced: true}, {Name: "nodes", Error: "403: the ClusterRole lacks watch of nodes"}},
		Refused: []KubernetesRefusal{{Kind: "service", Namespace: "default", Name: "web", Since: fixedTime, Error: "there is no SNAT address", Earlier: true}},
		Nodes:   []KubernetesNode{{Name: "lb1", State: KubernetesAway, Groups: 3, Refused: 1}, {Name: "lb2", State: KubernetesConnected, Groups: 3, Writer: true}, {Name: "lb3", State: KubernetesOff, Error: "no answer"}},
	}, nil
}

func (f *fixed) KubernetesObjects(_ context.Context, q KubernetesQuery) (KubernetesPage, error) {
	return KubernetesPage{Next: q.After, Objects: []KubernetesObject{{
		Kind: "service", Namespace: "default", Name: "web", Addresses: []string{"198.18.0.10"}, Ports: []string{"tcp/80"}, Method: "pods", Ready: 2, Draining: 1,
		Programmed: []string{"lb1"}, Nodes: 2, Problems: []KubernetesProblem{{Severity: "Warning", Reason: "UnknownAnnotation", Message: "fairlead.io/metod is no annotation"}},
	}}}, nil
}
