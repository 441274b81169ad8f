package k8ssync

import (
	corev1 "k8s.io/api/core/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/options"
	"fairlead/k8ssync/translate"
	"fairlead/k8ssync/watch"
)

// wants are the groups that an object is to have in force at present.
func (s *Sync) wants(key kube.Key) []model.Group {
	if key.Kind == kube.Gateway {
		return s.gatewayWants(key)
	}
	svc, there := s.objects.Services.Get(key.Namespace, key.Name)
	if !there {
		return nil
	}
	out := s.Translate(svc)
	return groupsOf(&out)
}

func groupsOf(out *translate.Output) []model.Group {
	if !out.Programmable {
		return nil
	}
	return out.Groups
}

// Translate works out what a Service wants, by the copies that the node has. It may
// be called from any goroutine.
func (s *Sync) Translate(svc *corev1.Service) translate.Output {
	in, problems := s.Input(svc)
	out := translate.Service(in)
	out.Problems = append(problems, out.Problems...)
	return out
}

// Input is what a translation of a Service goes by, and what is wrong with the
// Service's options.
func (s *Sync) Input(svc *corev1.Service) (translate.Input, []kube.Problem) {
	o, problems := options.Parse(svc, s.cfg.Settings.Flavors)
	return s.input(svc, o), problems
}

func (s *Sync) input(svc *corev1.Service, o kube.Options) translate.Input {
	in := translate.Input{Service: svc, Slices: s.objects.SlicesOf(svc.Namespace, svc.Name), Options: o, Settings: s.cfg.Settings}
	if translate.NeedsNodes(svc, o, s.cfg.Settings) {
		in.Nodes = s.nodes.Load()
	}
	if s.objects.Pods != nil {
		in.PodWeight = s.podWeight
	}
	return in
}

func (s *Sync) podWeight(namespace, name string) (string, bool) {
	pod, there := s.objects.Pods.Get(namespace, name)
	if !there {
		return "", false
	}
	return pod.Annotations[watch.PodWeight], true
}

// lookAtNodes takes the nodes over if they have changed in a way that matters.
func (s *Sync) lookAtNodes() (changed bool) {
	if !s.nodesChanged.Swap(false) {
		return false
	}
	nodes := translate.NodesOf(s.objects.Nodes.List())
	if before := s.nodes.Load(); before != nil && before.Equal(nodes) {
		return false
	}
	s.nodes.Store(nodes)
	return true
}
