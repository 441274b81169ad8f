package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead/controlplane/api"
	"fairlead/dataplane/reason"
	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/kube"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// Ports of the servers on every backend of a world, which stand for pods.
const (
	httpPort   = 8080
	udpPort    = 8053
	streamPort = 8007
)

// class is the spec.loadBalancerClass that the nodes of a world serve.
const class = "fairlead.io/lb"

// worldConfig says what to build.
type worldConfig struct {
	balancers, backends int                   // 0: one, and three
	clustered           bool                  // the nodes are one cluster of Fairlead
	controllers         bool                  // kube-controller-manager runs, too
	nodes               int                   // of Kubernetes, with real pods, in place of backends; 0: none
	zones               []string              // that these nodes are in, in turn; empty: none
	kubeProxy           bool                  // on these nodes
	pinned              bool                  // XDP programs outlive the control process
	options             string                // lines of [kubernetes]
	each                func(node int) string // more of them, for each node
	pools               string                // [[kubernetes.pool]] tables; "": one named "rack" with addresses of the clients' segment
	limit               time.Duration
}

// world is a control plane of Kubernetes, and a rack with nodes of Fairlead that
// reach it, each by a proxy of its own. What it starts ends with its test.
type world struct {
	t    *testing.T
	ctx  context.Context
	cfg  worldConfig
	api  *kube.ControlPlane
	kube kubernetes.Interface
	rack *lab.Rack

	dir     string
	ours    *v1alpha1.Client
	pods    *kube.Cluster // nil: backends stand for pods
	ways    []*kube.Proxy // of each balancer to the API server
	pins    string        // a BPF file system; "": none
	nodes   []*rig.Node
	cluster *rig.Cluster // nil: every node is alone
}

// rackPool is the pool of a world that says nothing else.
const rackPool = "[[kubernetes.pool]]\nname = \"rack\"\naddresses = [\"198.18.0.101-198.18.0.180\", \"2001:db8::65-2001:db8::b4\"]\n"

// newWorld builds everything but the nodes of Fairlead.
func newWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	cfg.balancers = max(cfg.balancers, 1)
	if cfg.limit == 0 {
		cfg.limit = 10 * time.Minute
	}
	if cfg.pools == "" {
		cfg.pools = rackPool
	}
	ctx, cancel := context.WithTimeout(t.Context(), cfg.limit)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, cfg: cfg, dir: t.TempDir()}
	if cfg.nodes > 0 {
		w.pods = kube.ClusterForTest(t, kube.ClusterConfig{Balancers: cfg.balancers, Nodes: cfg.nodes, Zones: cfg.zones, KubeProxy: cfg.kubeProxy})
		w.api, w.rack = w.pods.ControlPlane, w.pods.Rack
	} else {
		w.api = kube.ForTest(t, kube.Config{Controllers: cfg.controllers})
		w.buildRack()
	}
	var err error
	w.kube, err = kubernetes.NewForConfig(w.api.REST())
	w.must(err)
	w.ours, err = v1alpha1.NewClient(w.api.REST())
	w.must(err)
	w.namespace("fairlead-system")
	w.must(w.api.InstallCRDs(w.ctx))
	if cfg.pinned {
		w.mountPins()
	}
	for _, lb := range w.rack.Balancers {
		way, err := w.api.NewProxy(lb.Host, "127.0.0.1:0")
		w.must(err)
		w.ways = append(w.ways, way)
	}
	t.Cleanup(func() {
		for i, n := range w.nodes {
			if t.Failed() && n != nil && n.Process() != nil {
				t.Logf("the last words of %s:\n%s", w.rack.Balancers[i].Name, last(n.Log(), 60))
			}
		}
	})
	return w
}

// buildRack makes a rack whose backends are servers that stand for pods.
func (w *world) buildRack() {
	w.t.Helper()
	var err error
	w.rack, err = lab.NewRack(w.cfg.balancers, lab.Config{Backends: w.cfg.backends})
	w.must(err)
	w.t.Cleanup(func() {
		if err := w.rack.Close(); err != nil {
			w.t.Error(err)
		}
	})
	for _, b := range w.rack.Backends {
		w.serve(b)
	}
}

// startWorld is newWorld with all of its nodes running.
func startWorld(t *testing.T, cfg worldConfig) *world {
	t.Helper()
	w := newWorld(t, cfg)
	w.start()
	return w
}

// mountPins makes a place where XDP programs outlive control processes.
func (w *world) mountPins() {
	w.t.Helper()
	w.pins = filepath.Join(w.t.TempDir(), "bpf")
	w.must(os.Mkdir(w.pins, 0o700))
	w.must(unix.Mount("bpf", w.pins, "bpf", 0, ""))
	w.t.Cleanup(func() {
		if err := unix.Unmount(w.pins, unix.MNT_DETACH); err != nil {
			w.t.Errorf("unmount %s: %v", w.pins, err)
		}
	})
}

// serve starts the servers on a backend.
func (w *world) serve(b *lab.Node) {
	w.t.Helper()
	_, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", httpPort))
	w.must(err)
	_, err = traffic.ServeUDP(b.Host, fmt.Sprintf(":%d", udpPort))
	w.must(err)
	_, err = traffic.ServeStream(b.Host, fmt.Sprintf(":%d", streamPort))
	w.must(err)
}

// start runs the nodes.
func (w *world) start() {
	w.t.Helper()
	if w.cfg.clustered {
		var err error
		w.cluster, err = rig.StartCluster(w.ctx, binary, w.dir, w.rack, w.text)
		w.nodes = w.cluster.Nodes
		w.must(err)
		return
	}
	for i := range w.rack.Balancers {
		w.startNode(i)
	}
}

// startNode runs a node that is alone, for the first time. They are started in their
// order.
func (w *world) startNode(i int) {
	w.t.Helper()
	lb := w.rack.Balancers[i]
	dir := filepath.Join(w.dir, lb.Name)
	w.must(os.MkdirAll(dir, 0o755))
	node, err := rig.Start(w.ctx, binary, dir, lb.Host, fmt.Sprintf("[node]\nname = %q\n", lb.Name)+w.text(i))
	w.nodes = append(w.nodes, node)
	w.must(err)
}

// text is the configuration of a node, without its name.
func (w *world) text(i int) string {
	lb := w.rack.Balancers[i]
	file := filepath.Join(w.dir, lb.Name+".kubeconfig")
	w.must(w.api.Kubeconfig(file, w.ways[i].REST(w.api.REST())))
	options := w.cfg.options
	if w.cfg.each != nil {
		options += w.cfg.each(i)
	}
	c := rig.Config{
		Interfaces: []rig.Interface{{Name: lb.Interface.Name}},
		SNAT:       []netip.Addr{w.rack.SNAT4(i + 1), w.rack.SNAT6(i + 1)},
		Tunnel4:    lb.IPv4, Tunnel6: lb.IPv6,
		Options: fmt.Sprintf("[kubernetes]\nkubeconfig = %q\n%s\n%s", file, options, w.cfg.pools),
	}
	if w.pins != "" {
		c.PinPath = filepath.Join(w.pins, lb.Name)
	}
	prefix := ""
	if w.cfg.clustered {
		prefix = "hold_down = \"1s\"\n" // of [cluster]
	}
	return prefix + c.Text()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// until polls until nothing is missing, or ends the test with its context and with
// what is.
func (w *world) until(what string, missing func() string) {
	w.t.Helper()
	for {
		last := missing()
		if last == "" {
			return
		}
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("waited in vain: %s: %s", what, last)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// namespace makes a namespace.
func (w *world) namespace(name string) {
	w.t.Helper()
	_, err := w.kube.CoreV1().Namespaces().Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	w.must(err)
}

// kubectl runs kubectl and returns what it prints.
func (w *world) kubectl(args ...string) string {
	w.t.Helper()
	out, err := w.api.Kubectl(w.ctx, args...)
	if err != nil {
		w.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// served are the services that a node has in force for a VIP, by "protocol port",
// each with its backends as "address:port weight", sorted.
func (w *world) served(node int, vip netip.Addr) (map[string][]string, error) {
	all := map[string][]string{}
	err := w.nodes[node].Client().Services(w.ctx, url.Values{"backends": {"true"}}, func(s *api.Service) error {
		if s.VIP != vip.String() {
			return nil
		}
		backends := []string{}
		for _, b := range s.Backends {
			backends = append(backends, fmt.Sprintf("%s %d", net.JoinHostPort(b.Address, strconv.Itoa(int(b.Port))), b.Weight))
		}
		slices.Sort(backends)
		all[s.Protocol+" "+s.Ports] = backends
		return nil
	})
	return all, err
}

// untilServed waits until every node has so many backends with a weight for a port
// of a VIP. With a negative number there is to be no such service.
func (w *world) untilServed(vip netip.Addr, port string, backends int) {
	w.t.Helper()
	for i := range w.nodes {
		w.untilServedBy(i, vip, port, backends)
	}
}

func (w *world) untilServedBy(node int, vip netip.Addr, port string, backends int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s serves %s %s with %d backends", w.rack.Balancers[node].Name, vip, port, backends), func() string {
		all, err := w.served(node, vip)
		if err != nil {
			return err.Error()
		}
		list, has := all[port]
		weighted := 0
		for _, b := range list {
			if !strings.HasSuffix(b, " 0") {
				weighted++
			}
		}
		if has && weighted == backends || !has && backends < 0 {
			return ""
		}
		return fmt.Sprint(all)
	})
}

// balance waits until the ledgers of all nodes balance, and demands that no frame
// was dropped for a reason other than those given.
func (w *world) balance(drops ...string) {
	w.t.Helper()
	for i, n := range w.nodes {
		s, err := n.Balance(w.ctx)
		w.must(err)
		for _, name := range slices.Sorted(maps.Keys(s.Ledger.Reasons)) {
			if why, ok := reason.Parse(name); (!ok || why.Action() == reason.Drop) && !slices.Contains(drops, name) {
				w.t.Errorf("%s dropped %d frames: %s", w.rack.Balancers[i].Name, s.Ledger.Reasons[name], name)
			}
		}
	}
}

// last is the last n lines of a text.
func last(text []byte, n int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n-1):], nil)
}
