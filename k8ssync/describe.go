package k8ssync

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/translate"
)

// Object is one Service or Gateway that is served, as an operator sees it.
type Object struct {
	Key        kube.Key
	Addresses  []string // of its status
	Ports      []string // such as "tcp/80"
	Method     kube.Method
	Ready      int      // backends that get new flows
	Draining   int      // backends that keep the flows they have
	Programmed []string // nodes on which it is in force
	Nodes      int      // of how many
	Problems   []kube.Problem
}

// Keys are those of all objects that are served, in their order.
func (s *Sync) Keys() []kube.Key {
	keys := map[kube.Key]bool{}
	for _, svc := range s.objects.Services.List() {
		if translate.Serves(svc, s.cfg.Settings) {
			keys[translate.KeyOf(svc)] = true
		}
	}
	if s.routes != nil {
		for _, key := range s.routes.Keys() {
			keys[key] = true
		}
	}
	s.mu.Lock()
	for key := range s.entries {
		keys[key] = true
	}
	s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(keys), kube.Key.Compare)
}

// Reports are what the nodes tell of themselves.
func (s *Sync) Reports() report.Sum { return report.Of(s.cfg.Fellows) }

// Describe tells of an object; not ok: there is none any more. The sum is that of
// Reports.
func (s *Sync) Describe(key kube.Key, sum *report.Sum) (o Object, ok bool) {
	o = Object{Key: key, Nodes: len(sum.Nodes)}
	version := ""
	var groups []model.Group
	if key.Kind == kube.Gateway {
		if s.routes == nil {
			return o, false
		}
		groups, o.Problems = s.routes.Groups(key)
		o.ofGroups(groups)
		version = s.routes.Version()
	} else {
		svc, there := s.objects.Services.Get(key.Namespace, key.Name)
		if !there {
			return o, false
		}
		out := s.Translate(svc)
		o.Method, o.Problems, version = out.Method, out.Problems, svc.ResourceVersion
		for _, a := range translate.VIPs(svc) {
			o.Addresses = append(o.Addresses, a.String())
		}
		for i := range svc.Spec.Ports {
			o.Ports = append(o.Ports, portName(&svc.Spec.Ports[i]))
		}
		groups = groupsOf(&out)
	}
	o.count(groups)
	if len(groups) > 0 {
		o.programmed(sum, version)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, why := range s.refused {
		if refusedKey, of := KeyOfGroup(name); of && refusedKey == key {
			o.Problems = append(o.Problems, kube.Problem{Severity: kube.Warning, Reason: "Refused", Message: why.Why.Error()})
		}
	}
	if s.held != nil && s.held.keys[key] {
		o.Problems = append(o.Problems, kube.Problem{Severity: kube.Warning, Reason: "Forgotten", Message: "Kubernetes has forgotten it, though nobody has deleted it; it stays in force for a while"})
	}
	return o, true
}

func portName(p *corev1.ServicePort) string {
	protocol := p.Protocol
	if protocol == "" {
		protocol = corev1.ProtocolTCP
	}
	return fmt.Sprintf("%s/%d", strings.ToLower(string(protocol)), p.Port)
}

// count counts the backends of groups: a pod once, however many ports it has.
func (o *Object) count(groups []model.Group) {
	ready, all := map[string]bool{}, map[string]bool{}
	for i := range groups {
		for j := range groups[i].Pools {
			for _, b := range groups[i].Pools[j].Backends {
				all[b.Name] = true
				if b.Weight > 0 {
					ready[b.Name] = true
				}
			}
		}
	}
	o.Ready, o.Draining = len(ready), len(all)-len(ready)
}

func (o *Object) programmed(sum *report.Sum, version string) {
	p := sum.Programmed(o.Key, version)
	missing := map[string]bool{}
	for _, m := range p.Missing {
		missing[m.Node] = true
	}
	for i := range sum.Nodes {
		if name := sum.Nodes[i].Name; !missing[name] {
			o.Programmed = append(o.Programmed, name)
		}
	}
}
