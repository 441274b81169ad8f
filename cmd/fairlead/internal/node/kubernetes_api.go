package node

import (
	"context"

	"fairlead/controlplane/api"
)

// KubernetesStatus implements api.KubernetesProvider.
func (n *Node) KubernetesStatus(context.Context) (api.KubernetesStatus, error) {
	if !n.cfg.Kubernetes.Enabled {
		return api.KubernetesStatus{State: api.KubernetesOff}, nil
	}
	return api.KubernetesStatus{State: api.KubernetesConnecting}, nil
}

// KubernetesObjects implements api.KubernetesProvider.
func (n *Node) KubernetesObjects(context.Context, api.KubernetesQuery) (api.KubernetesPage, error) {
	return api.KubernetesPage{}, nil
}
