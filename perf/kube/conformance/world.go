package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	manifests "fairlead/configs/kubernetes"
	"fairlead/perf/kube"
	"fairlead/perf/rig"
)

// agnhostImage is that of the suite's pods, without tag.
const agnhostImage = "registry.k8s.io/e2e-test-images/agnhost"

// world is a cluster of Kubernetes with a node of Fairlead before it.
type world struct {
	dir     string
	cluster *kube.Cluster
	node    *rig.Node
}

// settings are the node's. Services without a class are served, and those with the
// traffic policy Local by nodes on the same segment, which see the VIP.
const settings = `[kubernetes]
kubeconfig = %q
default_class = true
local_method = "nodes"
nodes_via = "l2"

[[kubernetes.pool]]
name = "rack"
addresses = ["198.18.0.101-198.18.0.180", "2001:db8::65-2001:db8::b4"]
`

// newWorld starts one. It is to be closed also when it fails.
func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{}
	var err error
	if w.dir, err = os.MkdirTemp("", "fairlead-conformance-"); err != nil {
		return w, err
	}
	w.cluster, err = kube.NewCluster(ctx, kube.ClusterConfig{
		Nodes: 2, KubeProxy: true, IPv4Nodes: true,
		Images: map[string]kube.Image{
			agnhostImage: {Path: filepath.Join(o.suites, "agnhost"), Arguments: []string{"pause"}},
		},
	})
	if err != nil {
		return w, err
	}
	if err := w.install(ctx); err != nil {
		return w, err
	}
	return w, w.start(ctx, o)
}

// install makes our kinds known.
func (w *world) install(ctx context.Context) error {
	names, err := fs.Glob(manifests.FS, "crds/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := fs.ReadFile(manifests.FS, name)
		if err != nil {
			return err
		}
		if err := w.cluster.Apply(ctx, string(data)); err != nil {
			return err
		}
	}
	if err := w.cluster.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: fairlead-system}\n"); err != nil {
		return err
	}
	_, err = w.cluster.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return err
}

// start runs Fairlead on the rack's balancer.
func (w *world) start(ctx context.Context, o options) error {
	lb := w.cluster.Rack.Balancers[0]
	kubeconfig := filepath.Join(w.dir, "kubeconfig")
	if err := w.cluster.Kubeconfig(kubeconfig, w.cluster.Inside(w.cluster.REST())); err != nil {
		return err
	}
	config := rig.Config{
		Interfaces: []rig.Interface{{Name: lb.Interface.Name}},
		SNAT:       []netip.Addr{w.cluster.Rack.SNAT4(1), w.cluster.Rack.SNAT6(1)},
		Tunnel4:    lb.IPv4, Tunnel6: lb.IPv6,
		Options: fmt.Sprintf(settings, kubeconfig),
	}
	var err error
	w.node, err = rig.Start(ctx, o.fairlead, w.dir, lb.Host, fmt.Sprintf("[node]\nname = %q\n", lb.Name)+config.Text())
	return err
}

// close stops everything.
func (w *world) close() error {
	var errs []error
	if w.node != nil {
		errs = append(errs, w.node.Stop())
	}
	if w.cluster != nil {
		errs = append(errs, w.cluster.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
