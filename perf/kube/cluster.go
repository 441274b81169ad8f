package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"fairlead/perf/lab"
)

// controlHostNumber is the control plane's, on the rack's segment.
const controlHostNumber = 5

// ClusterConfig says what a cluster is made of.
type ClusterConfig struct {
	// Balancers is how many hosts for load balancers there are: lb1 and so on.
	Balancers int
	// Nodes is how many nodes Kubernetes has: b1 and so on. 0 means 2.
	Nodes int
	// BalancerNodes has the hosts of the load balancers be nodes of Kubernetes, too.
	BalancerNodes bool
	// Zones are the nodes' zones, in turn; empty: they are in none.
	Zones []string
	// IPv4Nodes has nodes tell Kubernetes of no address but their IPv4 one. Programs
	// that ask every address of a node for a Service of one family need that.
	IPv4Nodes bool
	// Queues is how many queues every interface has; 0 means 1.
	Queues int
	// KubeProxy runs kube-proxy on the nodes (mode nftables).
	KubeProxy bool
	// Images are those that pods may have besides ServerImage and PauseImage, by
	// name without tag.
	Images map[string]Image
	// Control is what else is to be said of the control plane. Host and Address
	// are the cluster's to set; there are always controllers.
	Control Config
}

// Cluster is a Kubernetes cluster beside load balancers and a client, all on one
// segment:
//
//	client .2  control .5   lb1 .61  lb2 .62 ...   b1 .11     b2 .12 ...
//	   |          |            |        |            |  pods    |  pods
//	   +----------+------------+--------+--switch----+----------+
//	                 198.18.0.0/24, 2001:db8::/64
//
// Each pod is a network namespace behind its node, which forwards; everybody on
// the segment has routes to the pods of each node. What runs in pods are real
// processes, and what decides about them are the real scheduler and controllers.
type Cluster struct {
	*ControlPlane
	Rack *lab.Rack
	// Nodes are those of Kubernetes, on the rack's backends and, if they are to be
	// nodes as well, after those on its balancers.
	Nodes []*Node

	client *kubernetes.Clientset
	images images
	podBin string

	life    context.Context // ends when the cluster is closed
	end     context.CancelFunc
	running sync.WaitGroup // what runs for the cluster in this process
	names   *nameServer    // nil: not yet
}

// NewCluster starts a cluster and returns when its nodes are ready for pods. The
// caller closes it.
func NewCluster(ctx context.Context, cfg ClusterConfig) (*Cluster, error) {
	c := &Cluster{}
	c.life, c.end = context.WithCancel(context.Background())
	if err := c.start(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("cluster: %w", err), c.Close())
	}
	return c, nil
}

// ClusterForTest starts a cluster that is closed at the end of a test. The logs
// of its servers are in the output of a test that has failed.
func ClusterForTest(t testing.TB, cfg ClusterConfig) *Cluster {
	t.Helper()
	c, err := NewCluster(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *Cluster) start(ctx context.Context, cfg ClusterConfig) (err error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 2
	}
	if c.Rack, err = lab.NewRack(max(cfg.Balancers, 1), lab.Config{Backends: cfg.Nodes, Queues: cfg.Queues}); err != nil {
		return err
	}
	if cfg.Control.Host, cfg.Control.Address, err = c.controlHost(); err != nil {
		return err
	}
	cfg.Control.Controllers, cfg.Control.Scheduler = true, true
	if c.ControlPlane, err = Start(ctx, cfg.Control); err != nil {
		return err
	}
	if c.client, err = kubernetes.NewForConfig(c.admin); err != nil {
		return err
	}
	if c.podBin, err = buildPod(c.dir); err != nil {
		return err
	}
	c.images = images{
		ServerImage: {Path: c.podBin, Entrypoint: []string{"serve"}},
		PauseImage:  {Path: c.podBin, Entrypoint: []string{"pause"}},
	}
	for name, image := range cfg.Images {
		if image.Path == "" {
			image.Path = c.podBin
		}
		c.images[name] = image
	}
	hosts := c.Rack.Backends
	if cfg.BalancerNodes {
		hosts = slices.Concat(hosts, c.Rack.Balancers)
	}
	for i, host := range hosts {
		n := newNode(c, host, i)
		n.ipv4Only = cfg.IPv4Nodes
		if len(cfg.Zones) > 0 {
			n.Zone = cfg.Zones[i%len(cfg.Zones)]
		}
		c.Nodes = append(c.Nodes, n)
	}
	if err := c.route(cfg.Control.Host, cfg.KubeProxy); err != nil {
		return err
	}
	if err := c.serveNames(); err != nil {
		return err
	}
	c.running.Go(func() { c.watchPods(c.life) })
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	nodes, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		nodes.Go(func() error {
			if err := n.start(ctx, cfg.KubeProxy); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
			return nil
		})
	}
	return nodes.Wait()
}

// controlHost makes the host of the control plane on the rack's segment.
func (c *Cluster) controlHost() (*lab.Host, netip.Addr, error) {
	h, err := c.Rack.AddHost("control")
	if err != nil {
		return nil, netip.Addr{}, err
	}
	ifc, err := c.Rack.Switch.Plug(h, "eth0", lab.LinkConfig{})
	if err != nil {
		return nil, netip.Addr{}, err
	}
	segment := c.Rack.Segment()
	address := segment.Addr4(controlHostNumber)
	err = errors.Join(
		ifc.AddAddress(netip.PrefixFrom(address, segment.IPv4.Bits())),
		ifc.AddAddress(netip.PrefixFrom(segment.Addr6(controlHostNumber), segment.IPv6.Bits())))
	return h, address, err
}

// route lets everybody on the segment reach the pods by way of their nodes, and nodes
// with kube-proxy send to ClusterIPs: for its sake alone there has to be a route.
func (c *Cluster) route(control *lab.Host, proxied bool) error {
	hosts := []*lab.Host{control, c.Rack.Client.Host}
	for _, n := range slices.Concat(c.Rack.Balancers, c.Rack.Backends) {
		hosts = append(hosts, n.Host)
	}
	for _, n := range c.Nodes {
		if err := n.Host.EnableForwarding(); err != nil {
			return err
		}
		for _, h := range hosts {
			if h == n.Host.Host {
				continue
			}
			if err := errors.Join(h.AddRoute(n.Pods4, n.Host.IPv4), h.AddRoute(n.Pods6, n.Host.IPv6)); err != nil {
				return err
			}
		}
		if !proxied {
			continue
		}
		segment := c.Rack.Segment()
		if err := errors.Join(n.Host.AddRoute(Services4, segment.Addr4(controlHostNumber)), n.Host.AddRoute(Services6, segment.Addr6(controlHostNumber))); err != nil {
			return err
		}
	}
	return nil
}

// Client is the API, as an administrator.
func (c *Cluster) Client() *kubernetes.Clientset { return c.client }

// Node is the node of a name, or nil.
func (c *Cluster) Node(name string) *Node {
	if i := slices.IndexFunc(c.Nodes, func(n *Node) bool { return n.Name == name }); i >= 0 {
		return c.Nodes[i]
	}
	return nil
}

// PodHost is the network namespace of a running pod.
func (c *Cluster) PodHost(namespace, name string) (*lab.Host, error) {
	w := c.worker(namespace, name)
	if w == nil {
		return nil, fmt.Errorf("no pod %s/%s runs", namespace, name)
	}
	return w.host()
}

// PodProcess is the number of the first process of a pod's first container.
func (c *Cluster) PodProcess(namespace, name string) (int, error) {
	w := c.worker(namespace, name)
	if w == nil {
		return 0, fmt.Errorf("no pod %s/%s runs", namespace, name)
	}
	w.mu.Lock()
	one := w.containers[0]
	w.mu.Unlock()
	p := one.running()
	if p == nil {
		return 0, fmt.Errorf("pod %s/%s has no process", namespace, name)
	}
	if p.first != nil {
		return p.first.Pid, nil
	}
	return p.Pid(), nil
}

// Crash kills the processes of a pod at once, as a failure does: its node starts
// them again, as the pod's restart policy says.
func (c *Cluster) Crash(namespace, name string) error {
	w := c.worker(namespace, name)
	if w == nil {
		return fmt.Errorf("no pod %s/%s runs", namespace, name)
	}
	return w.crash()
}

func (c *Cluster) worker(namespace, name string) *worker {
	for _, n := range c.Nodes {
		if w := n.kubelet.worker(namespace, name); w != nil {
			return w
		}
	}
	return nil
}

// Close stops everything and removes what it has left. Calling it again does
// nothing.
func (c *Cluster) Close() error {
	c.end()
	c.running.Wait()
	var errs []error
	if c.names != nil {
		errs = append(errs, c.names.close())
	}
	for _, n := range c.Nodes {
		errs = append(errs, n.unmountBPF())
	}
	if c.ControlPlane != nil {
		errs = append(errs, c.ControlPlane.Close())
	}
	if c.Rack != nil {
		errs = append(errs, c.Rack.Close())
	}
	return errors.Join(errs...)
}
