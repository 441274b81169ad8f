package node

import (
	"os"
	"strings"

	"fairlead/configs"
	"fairlead/k8ssync/kube"
)

const (
	// nodeNameVariable is where the DaemonSet says on which node of Kubernetes it is.
	nodeNameVariable = "NODE_NAME"
	// podNamespace is the file with the namespace of the pod that a process runs in.
	podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	// defaultNamespace is where the manifests put Fairlead.
	defaultNamespace = "fairlead-system"
)

// KubernetesSettings are what [kubernetes] says, as the rooms of Kubernetes have it.
func KubernetesSettings(c *configs.Kubernetes) kube.Settings {
	s := kube.Settings{
		Enabled: c.Enabled, Kubeconfig: c.Kubeconfig, Context: c.Context, Server: c.Server, TokenFile: c.TokenFile, CAFile: c.CAFile,
		Class: c.Class, DefaultClass: c.DefaultClass,
		Method: kube.Method(c.Method), LocalMethod: kube.Method(c.LocalMethod), NodesVia: c.NodesVia, Zone: c.Zone, NodeName: c.NodeName,
		PodWeights: c.PodWeights, Gateway: c.Gateway,
		LeaseNamespace: c.LeaseNamespace, LeaseName: c.LeaseName, Resync: c.Resync,
	}
	if s.LeaseNamespace == "" {
		s.LeaseNamespace = ownNamespace(podNamespace)
	}
	if s.NodeName == "" && c.Enabled {
		s.NodeName = os.Getenv(nodeNameVariable)
	}
	for _, name := range c.Annotations {
		s.Flavors = append(s.Flavors, kube.Flavor(name))
	}
	for _, p := range c.Pools {
		out := kube.AddressPool{
			Name: p.Name, AutoAssign: p.AutoAssign, AvoidBuggy: p.AvoidBuggy, Priority: p.Priority,
			NamespaceSelector: p.NamespaceSelector, ServiceSelector: p.ServiceSelector, Namespaces: p.Namespaces,
		}
		for _, r := range p.Ranges {
			out.Ranges = append(out.Ranges, kube.Range{First: r.First, Last: r.Last})
		}
		s.Pools = append(s.Pools, out)
	}
	return s
}

// ownNamespace is the namespace that a file names, or the one of the manifests.
func ownNamespace(file string) string {
	text, err := os.ReadFile(file)
	if name := strings.TrimSpace(string(text)); err == nil && name != "" {
		return name
	}
	return defaultNamespace
}
