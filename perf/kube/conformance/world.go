package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"

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

// The pool's IPv4 addresses, and the address that the client asks them from.
var (
	vips     = netip.MustParsePrefix("198.18.0.128/26")
	outsider = netip.MustParseAddr("192.0.2.2")
)

// settings are the node's. Services without a class are served, and those with the
// traffic policy Local by nodes on the same segment, which see the VIP.
const settings = `[kubernetes]
kubeconfig = %q
default_class = true
local_method = "nodes"
nodes_via = "l2"

[[kubernetes.pool]]
name = "rack"
addresses = [%q, "2001:db8::80-2001:db8::bf"]
`

// newWorld starts one. It is to be closed also when it fails.
func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{}
	var err error
	if w.dir, err = os.MkdirTemp("", "fairlead-conformance-"); err != nil {
		return w, err
	}
	if err := w.tools(); err != nil {
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
	if err := w.outside(); err != nil {
		return w, err
	}
	if err := w.install(ctx); err != nil {
		return w, err
	}
	return w, w.start(ctx, o)
}

// tools has pods find a wget that tries once, as that of the suite's image does.
func (w *world) tools() error {
	wget, err := exec.LookPath("wget")
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "wget"), []byte("#!/bin/sh\nexec "+wget+" --tries=1 \"$@\"\n"), 0o755); err != nil {
		return err
	}
	return os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// outside has the client ask VIPs from an address that is in no network of the nodes,
// as clients do: the suite takes others for nodes.
func (w *world) outside() error {
	rack := w.cluster.Rack
	client := rack.Client.Interface
	if err := client.AddAddress(netip.PrefixFrom(outsider, outsider.BitLen())); err != nil {
		return err
	}
	err := client.Host.Netlink().RouteAdd(&netlink.Route{
		LinkIndex: client.Index, Scope: netlink.SCOPE_LINK, Src: outsider.AsSlice(),
		Dst: &net.IPNet{IP: vips.Addr().AsSlice(), Mask: net.CIDRMask(vips.Bits(), vips.Addr().BitLen())},
	})
	for _, n := range slices.Concat(rack.Balancers, rack.Backends) {
		err = errors.Join(err, n.Netlink().RouteAdd(&netlink.Route{
			LinkIndex: n.Interface.Index, Scope: netlink.SCOPE_LINK, Dst: netlink.NewIPNet(outsider.AsSlice()),
		}))
	}
	return err
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
		Options: fmt.Sprintf(settings, kubeconfig, vips),
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
