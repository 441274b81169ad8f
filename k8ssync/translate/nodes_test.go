package translate

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
)

func three() []*corev1.Node {
	return []*corev1.Node{nodeOf("n3", "192.0.2.13"), nodeOf("n1", "192.0.2.11", "192.0.2.99"), nodeOf("n2", "192.0.2.12")}
}

func labelled(value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels["node.kubernetes.io/exclude-from-external-load-balancers"] = value }
}

// TestNodes: which nodes get what of a Service that says nothing of where its
// traffic stays. Each case is named after what it promises.
func TestNodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Node) // of n2
		udp    bool
		want   string
	}{
		{name: "all nodes", change: func(*corev1.Node) {}, want: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1"},
		{name: "one that is not Ready stays", change: func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
			n.Spec.Unschedulable = true
		}, want: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1"},
		{name: "one that is excluded drains", change: labelled(""), want: "n1 192.0.2.11*1, n2 192.0.2.12*0, n3 192.0.2.13*1"},
		{name: "one that is excluded by true drains", change: labelled("true"), want: "n1 192.0.2.11*1, n2 192.0.2.12*0, n3 192.0.2.13*1"},
		{name: "one whose label says false stays", change: labelled("false"), want: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1"},
		{name: "one that the autoscaler is to remove drains", change: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "x"}, {Key: "ToBeDeletedByClusterAutoscaler"}}
		}, want: "n1 192.0.2.11*1, n2 192.0.2.12*0, n3 192.0.2.13*1"},
		{name: "one that is being deleted drains", change: func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: metav1.Now().Time} }, want: "n1 192.0.2.11*1, n2 192.0.2.12*0, n3 192.0.2.13*1"},
		{name: "UDP leaves at once", udp: true, change: labelled("true"), want: "n1 192.0.2.11*1, n3 192.0.2.13*1"},
		{name: "of two with one address, the one that takes flows", change: func(n *corev1.Node) {
			*n = *nodeOf("n0", "192.0.2.11")
			labelled("true")(n)
		}, want: "n1 192.0.2.11*1, n3 192.0.2.13*1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := three()
			c.change(all[2])
			svc, label := service(), "tcp-80/ipv4"
			if c.udp {
				udp(svc)
				label = "udp-80/ipv4"
			}
			out := run(t, Input{Service: svc, Nodes: NodesOf(all), Settings: kube.Settings{Method: kube.Nodes}})
			expect(t, out, label, c.want)
			told(t, out)
		})
	}
}

// TestMethods: what a Service is by each method.
func TestMethods(t *testing.T) {
	nodes := NodesOf(three())
	pods := sliceList{slice(endpointOf("a", "10.0.0.1"))}
	for _, c := range []struct {
		name     string
		change   func(*corev1.Service)
		options  kube.Options
		settings kube.Settings
		method   kube.Method
		forward  model.Method
		mode     kube.IPMode
		backends string
		check    string
		panics   int
		problems []string
	}{
		{name: "nothing is said", method: kube.Pods, forward: model.NAT, mode: kube.ModeProxy, backends: "a 10.0.0.1:8080*1", check: "-"},
		{name: "the settings' method", settings: kube.Settings{Method: kube.NodePorts}, method: kube.NodePorts, forward: model.NAT, mode: kube.ModeProxy, backends: "n1 192.0.2.11:30080*1, n2 192.0.2.12:30080*1, n3 192.0.2.13:30080*1", check: "icmp direct 0", panics: 1},
		{name: "the annotation's method", options: kube.Options{Method: kube.Nodes}, settings: kube.Settings{Method: kube.NodePorts}, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1", check: "icmp direct 0", panics: 1},
		{name: "nodes by the settings' way", options: kube.Options{Method: kube.Nodes}, settings: kube.Settings{NodesVia: model.L2}, method: kube.Nodes, forward: model.L2, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1", check: "icmp direct 0", panics: 1},
		{name: "nodes by the annotation's way", options: kube.Options{Method: kube.Nodes, NodesVia: model.GUE}, settings: kube.Settings{NodesVia: model.L2}, method: kube.Nodes, forward: model.GUE, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1", check: "icmp direct 0", panics: 1},
		{name: "no check when none is wanted", options: kube.Options{Method: kube.Nodes, DisableCheck: true}, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1", check: "-"},
		{name: "the check that is wanted", options: kube.Options{Method: kube.Nodes, Check: &model.Check{Type: model.CheckTCP}}, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1, n2 192.0.2.12*1, n3 192.0.2.13*1", check: "tcp  0"},
		{name: "Local goes to nodes with endpoints, which say whether they want more", change: local, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1", check: "http direct 32000 /healthz keeps", panics: 1},
		{name: "UDP flows do not stay with a node that wants no more", change: func(s *corev1.Service) { local(s); udp(s) }, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "", check: "http direct 32000 /healthz", panics: 1},
		{name: "Local without a port to ask is asked by ICMP", change: func(s *corev1.Service) { local(s); s.Spec.HealthCheckNodePort = 0 }, method: kube.Nodes, forward: model.IPIP, mode: kube.ModeVIP, backends: "n1 192.0.2.11*1", check: "icmp direct 0", panics: 1},
		{
			name: "Local by node ports", change: local, settings: kube.Settings{LocalMethod: kube.NodePorts}, method: kube.NodePorts, forward: model.NAT, mode: kube.ModeProxy,
			backends: "n1 192.0.2.11:30080*1", check: "http direct 32000 /healthz keeps", panics: 1,
			problems: []string{"ClientAddressNotPreserved: externalTrafficPolicy: Local keeps the client's address, and method nodeports does not; method nodes does"},
		},
		{
			name: "Local by pods", change: local, options: kube.Options{Method: kube.Pods}, method: kube.Pods, forward: model.NAT, mode: kube.ModeProxy, backends: "a 10.0.0.1:8080*1", check: "-",
			problems: []string{"ClientAddressNotPreserved: externalTrafficPolicy: Local keeps the client's address, and method pods does not; method nodes does"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := service()
			if c.change != nil {
				c.change(svc)
			}
			out := run(t, Input{Service: svc, Slices: pods, Nodes: nodes, Options: c.options, Settings: c.settings})
			if out.Method != c.method || out.IPMode != c.mode || IPMode(svc, c.options, c.settings) != c.mode || whole(out).Services[0].Method != c.forward {
				t.Errorf("method %s (%s), ipMode %s", out.Method, whole(out).Services[0].Method, out.IPMode)
			}
			if needs := NeedsNodes(svc, c.options, c.settings); needs != (c.method != kube.Pods) {
				t.Errorf("needs nodes: %v", needs)
			}
			label := "tcp-80/ipv4"
			if whole(out).Services[0].Protocol == model.UDP {
				label = "udp-80/ipv4"
			}
			expect(t, out, label, c.backends)
			p, check := whole(out).Pools[0], "-"
			if p.Check != nil {
				check = fmt.Sprintf("%s %s %d", p.Check.Type, p.Check.Path, p.Check.Port)
				if p.Check.HTTP.Path != "" {
					check += " " + p.Check.HTTP.Path
				}
				if p.Check.KeepFlows {
					check += " keeps"
				}
			}
			if check != c.check || p.PanicThreshold != c.panics {
				t.Errorf("check %q, panic at %d", check, p.PanicThreshold)
			}
			told(t, out, c.problems...)
			wantDrain := model.DefaultDrainTimeout
			if c.method == kube.Pods || label != "tcp-80/ipv4" {
				wantDrain = model.NoDrain
			}
			if d := whole(out).Services[0].DrainTimeout; d != wantDrain {
				t.Errorf("the drain timeout is %s", d)
			}
		})
	}
}

// TestLocalNodes: which nodes get what with externalTrafficPolicy Local.
func TestLocalNodes(t *testing.T) {
	on := func(node string, n int, change ...func(*discoveryv1.Endpoint)) discoveryv1.Endpoint {
		return endpointOf(fmt.Sprintf("p%d", n), fmt.Sprintf("10.0.0.%d", n), append(change, onNode(node))...)
	}
	for _, c := range []struct {
		name      string
		udp       bool
		endpoints []discoveryv1.Endpoint
		want      string
		problems  []string
	}{
		{name: "no endpoint, no node", want: ""},
		{name: "by how many endpoints are there", endpoints: []discoveryv1.Endpoint{on("n1", 1), on("n3", 2), on("n3", 3), on("n3", 4, unready)}, want: "n1 192.0.2.11*1, n3 192.0.2.13*2"},
		{name: "a node with terminating endpoints only keeps its connections", endpoints: []discoveryv1.Endpoint{on("n1", 1), on("n2", 2, terminating)}, want: "n1 192.0.2.11*1, n2 192.0.2.12*0"},
		{name: "when no endpoint is ready anywhere, those that terminate and serve", endpoints: []discoveryv1.Endpoint{on("n1", 1, unready), on("n2", 2, terminating), on("n3", 3, failing)}, want: "n1 192.0.2.11*0, n2 192.0.2.12*1, n3 192.0.2.13*0"},
		{name: "UDP leaves at once", udp: true, endpoints: []discoveryv1.Endpoint{on("n1", 1), on("n2", 2, terminating)}, want: "n1 192.0.2.11*1"},
		{name: "hints do not matter", endpoints: []discoveryv1.Endpoint{on("n1", 1, hinted("z1")), on("n2", 2, hinted("z2"))}, want: "n1 192.0.2.11*1, n2 192.0.2.12*1"},
		{name: "a node that there is not yet", endpoints: []discoveryv1.Endpoint{on("n1", 1), on("n9", 2)}, want: "n1 192.0.2.11*1"},
		{
			name: "endpoints without a node", endpoints: []discoveryv1.Endpoint{on("n1", 1), endpointOf("x", "10.0.0.9", func(e *discoveryv1.Endpoint) { e.NodeName = nil })}, want: "n1 192.0.2.11*1",
			problems: []string{"EndpointWithoutNode: externalTrafficPolicy: Local needs to know the node of each endpoint, and 1 have none"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc, s, label := service(local), slice(c.endpoints...), "tcp-80/ipv4"
			if c.udp {
				udp(svc)
				s, label = udpSlice(c.endpoints...), "udp-80/ipv4"
			}
			out := run(t, Input{Service: svc, Slices: sliceList{s}, Nodes: NodesOf(three()), Settings: kube.Settings{Zone: "z1"}})
			expect(t, out, label, c.want)
			told(t, out, c.problems...)
		})
	}
}

// TestLocalNodeIsExcluded: also one that has an endpoint.
func TestLocalNodeIsExcluded(t *testing.T) {
	all := three()
	labelled("true")(all[1])
	out := run(t, Input{Service: service(local), Nodes: NodesOf(all), Slices: sliceList{slice(endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2", onNode("n2")))}})
	expect(t, out, "tcp-80/ipv4", "n1 192.0.2.11*0, n2 192.0.2.12*1")
}

// TestLocalWeights: a node's share is that of its pods together.
func TestLocalWeights(t *testing.T) {
	in := Input{Service: service(local), Nodes: NodesOf(three()), Slices: sliceList{slice(endpointOf("a", "10.0.0.1"), endpointOf("b", "10.0.0.2"), endpointOf("c", "10.0.0.3", onNode("n2")))}}
	weights := map[string]string{"a": "40000", "b": "40000", "c": "3"}
	in.PodWeight = func(_, name string) (string, bool) { return weights[name], true }
	expect(t, run(t, in), "tcp-80/ipv4", "n1 192.0.2.11*65535, n2 192.0.2.12*3")
}

// TestNodeFamilies: NAT and l2 stay in the family of the VIP; tunnels go to the other
// one where a node has only that.
func TestNodeFamilies(t *testing.T) {
	nodes := NodesOf([]*corev1.Node{nodeOf("both", "192.0.2.11", "2001:db8::11"), nodeOf("four", "192.0.2.12"), nodeOf("six", "2001:db8::13"), nodeOf("none", "127.0.0.1", "x")})
	const lack4, lack6 = "NodeAddressMissing: node none has no IPv4 InternalIP that can be used (and 1 more)", "NodeAddressMissing: node four has no IPv6 InternalIP that can be used (and 1 more)"
	for _, c := range []struct {
		method    kube.Method
		via       model.Method
		four, six string
		problems  []string
	}{
		{kube.NodePorts, "", "both 192.0.2.11:30080*1, four 192.0.2.12:30080*1", "both [2001:db8::11]:30080*1, six [2001:db8::13]:30080*1", []string{lack4, lack6}},
		{kube.Nodes, model.L2, "both 192.0.2.11*1, four 192.0.2.12*1", "both 2001:db8::11*1, six 2001:db8::13*1", []string{lack4, lack6}},
		{kube.Nodes, model.IPIP, "both 192.0.2.11*1, four 192.0.2.12*1, six 2001:db8::13*1", "four 192.0.2.12*1, both 2001:db8::11*1, six 2001:db8::13*1", []string{
			"NodeAddressMissing: node none has no IPv4 InternalIP that can be used", "NodeAddressMissing: node none has no IPv6 InternalIP that can be used",
		}},
	} {
		t.Run(string(c.method)+string(c.via), func(t *testing.T) {
			out := run(t, Input{Service: service(vips("203.0.113.7", "2001:db8::7")), Nodes: nodes, Options: kube.Options{Method: c.method, NodesVia: c.via}})
			expect(t, out, "tcp-80/ipv4", c.four)
			expect(t, out, "tcp-80/ipv6", c.six)
			told(t, out, c.problems...)
		})
	}
}

// TestHeartbeatsAreNoChange: most of what changes of nodes changes no translation.
func TestHeartbeatsAreNoChange(t *testing.T) {
	a, b := three(), three()
	b[0].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	b[0], b[1] = b[1], b[0]
	if !NodesOf(a).Equal(NodesOf(b)) || NodesOf(a).Equal(nil) {
		t.Error("a heartbeat is a change")
	}
	labelled("true")(b[0])
	if NodesOf(a).Equal(NodesOf(b)) {
		t.Error("an excluded node is no change")
	}
}

// TestWithoutNodes: before nodes are known there are no backends, and no panic.
func TestWithoutNodes(t *testing.T) {
	expect(t, run(t, Input{Service: service(), Settings: kube.Settings{Method: kube.Nodes}}), "tcp-80/ipv4", "")
}

// TestOnTheBalancerItself: what runs on the node that we are is behind no interface
// that the data path drives.
func TestOnTheBalancerItself(t *testing.T) {
	in := Input{
		Service: service(), Nodes: NodesOf(three()), Settings: kube.Settings{NodeName: "n1"},
		Slices: sliceList{slice(endpointOf("b", "10.0.0.2"), endpointOf("a", "10.0.0.1"), endpointOf("c", "10.0.0.3", onNode("n2"), terminating), endpointOf("d", "10.0.0.4", onNode("")))},
	}
	out := run(t, in)
	expect(t, out, "tcp-80/ipv4", "c 10.0.0.3:8080*0, d 10.0.0.4:8080*1")
	told(t, out, "BackendOnBalancer: endpoint a is on node n1, which is this balancer, and cannot be reached from it (and 1 more); nothing that is served should run there")

	in.Settings.Method = kube.Nodes
	out = run(t, in)
	expect(t, out, "tcp-80/ipv4", "n2 192.0.2.12*1, n3 192.0.2.13*1")
	told(t, out, "BackendOnBalancer: node n1 is this balancer, and cannot be reached from it")

	local(in.Service)
	out = run(t, in)
	expect(t, out, "tcp-80/ipv4", "n2 192.0.2.12*0")
}
