package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/perf/lab"
)

const (
	// leaseDuration is how long a node's lease says that the node lives; it is
	// renewed leaseRenewals times as often.
	leaseDuration = 40 * time.Second
	leaseRenewals = 8
	// nodeHealthPort is where kube-proxy says whether it works.
	nodeHealthPort = 10256
)

// Node is a node of Kubernetes: a host of the rack with a kubelet, which is part
// of this process, and the pods behind it.
type Node struct {
	Name string // in Kubernetes and in the lab
	Host *lab.Node
	Zone string // its label topology.kubernetes.io/zone
	// Pods4 and Pods6 are what its pods have their addresses of.
	Pods4, Pods6 netip.Prefix

	ipv4Only bool // it tells of no other address

	cluster *Cluster
	kubelet *kubelet
	proxy   *lab.Process

	disk sync.Mutex
	bpf  bool // its BPF file system is mounted
}

// newNode is the number-th node of a cluster.
func newNode(c *Cluster, host *lab.Node, number int) *Node {
	four, six := Pods4.Addr().As4(), Pods6.Addr().As16()
	four[2] += byte(number)
	six[7] = byte(number)
	n := &Node{
		Name: host.Name, Host: host, cluster: c,
		Pods4: netip.PrefixFrom(netip.AddrFrom4(four), 24), Pods6: netip.PrefixFrom(netip.AddrFrom16(six), 64),
	}
	n.kubelet = newKubelet(n)
	return n
}

// start makes the node known and returns when pods may be scheduled to it.
func (n *Node) start(ctx context.Context, proxy bool) error {
	if err := n.register(ctx); err != nil {
		return err
	}
	if err := n.serve(n.cluster.life); err != nil {
		return err
	}
	if proxy {
		if err := n.startProxy(ctx); err != nil {
			return err
		}
	}
	n.cluster.running.Go(func() { n.beat(n.cluster.life) })
	nodes := n.cluster.client.CoreV1().Nodes()
	return poll(ctx, func() error {
		node, err := nodes.Get(ctx, n.Name, meta.GetOptions{})
		if err != nil {
			return err
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("it has taints: %v", node.Spec.Taints)
		}
		return nil
	})
}

// register creates the Node and says that it is ready.
func (n *Node) register(ctx context.Context) error {
	labels := map[string]string{core.LabelHostname: n.Name, core.LabelOSStable: "linux", core.LabelArchStable: "amd64"}
	if n.Zone != "" {
		labels[core.LabelTopologyZone] = n.Zone
	}
	nodes := n.cluster.client.CoreV1().Nodes()
	_, err := nodes.Create(ctx, &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: n.Name, Labels: labels},
		Spec:       core.NodeSpec{PodCIDR: n.Pods4.String(), PodCIDRs: []string{n.Pods4.String(), n.Pods6.String()}},
	}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	room := core.ResourceList{
		core.ResourceCPU: resource.MustParse("64"), core.ResourceMemory: resource.MustParse("256Gi"), core.ResourcePods: resource.MustParse("200"),
	}
	now := meta.Now()
	patch, err := json.Marshal(map[string]any{"status": core.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses:       n.told(),
		Conditions:      []core.NodeCondition{{Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}},
		NodeInfo:        core.NodeSystemInfo{KubeletVersion: Version, OperatingSystem: "linux", Architecture: "amd64", ContainerRuntimeVersion: "lab://1"},
		DaemonEndpoints: core.NodeDaemonEndpoints{KubeletEndpoint: core.DaemonEndpoint{Port: kubeletPort}},
	}})
	if err != nil {
		return err
	}
	_, err = nodes.Patch(ctx, n.Name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
	return err
}

// told are the addresses that Kubernetes is told of.
func (n *Node) told() []core.NodeAddress {
	told := []core.NodeAddress{{Type: core.NodeInternalIP, Address: n.Host.IPv4.String()}}
	if !n.ipv4Only {
		told = append(told, core.NodeAddress{Type: core.NodeInternalIP, Address: n.Host.IPv6.String()})
	}
	return append(told, core.NodeAddress{Type: core.NodeHostName, Address: n.Name})
}

// beat renews the node's lease, by which it is known to live.
func (n *Node) beat(ctx context.Context) {
	tick := time.NewTicker(leaseDuration / leaseRenewals)
	defer tick.Stop()
	for {
		// While the API server is away, so is everybody who looks at leases.
		_ = n.renew(ctx)
		select {
		case <-ctx.Done():
			return
		case <-n.kubelet.dead:
			return
		case <-tick.C:
		}
	}
}

func (n *Node) renew(ctx context.Context) error {
	leases := n.cluster.client.CoordinationV1().Leases(core.NamespaceNodeLease)
	now, seconds := meta.NewMicroTime(time.Now()), int32(leaseDuration.Seconds())
	spec := coordination.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now}
	lease, err := leases.Get(ctx, n.Name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordination.Lease{ObjectMeta: meta.ObjectMeta{Name: n.Name}, Spec: spec}, meta.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec = spec
	_, err = leases.Update(ctx, lease, meta.UpdateOptions{})
	return err
}

// startProxy runs kube-proxy and returns when it has programmed the node.
func (n *Node) startProxy(ctx context.Context) error {
	path, err := binary(proxyBinary)
	if err != nil {
		return err
	}
	c := n.cluster
	kubeconfig := c.path("admin.kubeconfig")
	n.proxy, err = n.Host.Start(exec.Command(path,
		"--kubeconfig="+kubeconfig, "--hostname-override="+n.Name, "--proxy-mode=nftables",
		"--cluster-cidr="+Pods4.String()+","+Pods6.String(),
		// Limits of connection tracking belong to the machine, not to a namespace.
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
		"--healthz-bind-address=0.0.0.0:"+fmt.Sprint(nodeHealthPort), "--metrics-bind-address=127.0.0.1:10249"))
	if err != nil {
		return err
	}
	c.addLog(proxyBinary+" of "+n.Name, n.proxy)
	return healthy(ctx, n.Host.Host, n.proxy, loopbackURL("http", nodeHealthPort)+"/healthz")
}

// Fail is what a power failure does: everything on the node and in its pods is
// killed, its kubelet says nothing any more, and its cable is unplugged.
func (n *Node) Fail() error {
	n.kubelet.die()
	return errors.Join(n.Host.Interface.Peer.SetDown(), n.Host.KillAll())
}

// Pods are the names of the pods that run on the node, each with its namespace:
// "default/web-1".
func (n *Node) Pods() []string {
	var names []string
	for _, w := range n.kubelet.all() {
		names = append(names, w.key())
	}
	slices.Sort(names)
	return names
}

// poll tries until it succeeds or ctx ends.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
