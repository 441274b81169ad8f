package migrate

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// ReadCluster adds what a cluster has, which is reached by a kubeconfig and one of
// its contexts; empty: as kubectl finds them. Kinds that are not there are none.
func (in *Input) ReadCluster(ctx context.Context, kubeconfig, kubeContext string) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubeContext}).ClientConfig()
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	kinds := []schema.GroupVersionResource{{Version: "v1", Resource: "services"}}
	for _, name := range Resources {
		version := "v1beta1"
		if name == "bgppeers" {
			version = "v1beta2"
		}
		kinds = append(kinds, schema.GroupVersionResource{Group: Group, Version: version, Resource: name})
	}
	for _, kind := range kinds {
		list, err := client.Resource(kind).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", kind.GroupResource(), err)
		}
		for i := range list.Items {
			data, err := json.Marshal(&list.Items[i])
			if err == nil {
				err = in.add(data)
			}
			if err != nil {
				return fmt.Errorf("%s %s: %w", kind.GroupResource(), list.Items[i].GetName(), err)
			}
		}
	}
	return nil
}
