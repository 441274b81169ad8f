package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"fairlead/controlplane/api"
	"fairlead/perf/kube"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// deployment is a Deployment of the lab's server, whose pods, when they are asked to
// end, go on for as long as somebody comes or a connection lasts. A probe that takes
// its time, on a machine that is busy, makes no pod unready.
func deployment(namespace, name string, replicas int32, args ...string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1)),
			}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](600),
					Containers: []corev1.Container{{
						Name: "server", Image: kube.ServerImage, Args: append([]string{"-linger", "2s"}, args...),
						Env: []corev1.EnvVar{{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
						ReadinessProbe: &corev1.Probe{
							PeriodSeconds: 1, TimeoutSeconds: 20, FailureThreshold: 3,
							ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(httpPort)}},
						},
					}},
				},
			},
		},
	}
}

// selecting is a Service of the pods of a deployment.
func selecting(namespace, name string, ports ...corev1.ServicePort) *corev1.Service {
	s := newService(namespace, name, ports...)
	s.Spec.Selector = map[string]string{"app": name}
	return s
}

// deploy creates a deployment.
func (w *world) deploy(d *appsv1.Deployment) {
	w.t.Helper()
	_, err := w.kube.AppsV1().Deployments(d.Namespace).Create(w.ctx, d, metav1.CreateOptions{})
	w.must(err)
}

// scale changes how many pods a deployment has.
func (w *world) scale(namespace, name string, replicas int) {
	w.t.Helper()
	w.kubectl("scale", "deployment", "-n", namespace, name, fmt.Sprintf("--replicas=%d", replicas))
}

// livePods are the pods of a deployment that are ready and not asked to end.
func (w *world) livePods(namespace, name string) (all []corev1.Pod) {
	w.t.Helper()
	list, err := w.kube.CoreV1().Pods(namespace).List(w.ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	w.must(err)
	for _, p := range list.Items {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if ready && p.DeletionTimestamp == nil {
			all = append(all, p)
		}
	}
	return all
}

// untilFollowed waits until a deployment has n live pods and every node sends new
// connections for a port of a VIP to these and to nobody else.
func (w *world) untilFollowed(vip netip.Addr, port, namespace, name string, n int) {
	w.t.Helper()
	for i := range w.nodes {
		w.until(fmt.Sprintf("%s serves %s %s with the %d pods of %s", w.rack.Balancers[i].Name, vip, port, n, name), func() string {
			live := map[string]bool{}
			for _, p := range w.livePods(namespace, name) {
				for _, ip := range p.Status.PodIPs {
					if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is4() == vip.Is4() {
						live[a.String()] = true
					}
				}
			}
			all, err := w.served(i, vip)
			if err != nil {
				return err.Error()
			}
			given := map[string]bool{}
			for _, b := range all[port] {
				if where, weight, _ := strings.Cut(b, " "); weight != "0" {
					given[netip.MustParseAddrPort(where).Addr().String()] = true
				}
			}
			if len(live) != n || !maps.Equal(live, given) {
				return fmt.Sprintf("pods %v, and %v in force", live, all)
			}
			return ""
		})
	}
}

// rolledOut waits until a deployment consists of pods of its latest template.
func (w *world) rolledOut(namespace, name string) {
	w.t.Helper()
	w.kubectl("rollout", "status", "-n", namespace, "deployment/"+name)
}

// TestPodsComeAndGo has a client ask for pages without a pause while pods are scaled
// up and down, replaced by rolling updates, and killed, by the real controllers: no
// request fails but by what is killed, and long-lived connections stay on pods that
// terminate until these have ended.
func TestPodsComeAndGo(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{balancers: 2, clustered: true, nodes: 2})
	const ns = "pods"
	w.namespace(ns)
	w.deploy(deployment(ns, "web", 2))
	s := w.create(dual(selecting(ns, "web", webPort(), talkPort(), namePort())))
	vips := w.assigned(s, 2)
	follow := func(pods int) {
		t.Helper()
		for _, vip := range vips {
			for _, port := range []string{"tcp 80", "tcp 7", "udp 53"} {
				w.untilFollowed(vip, port, ns, "web", pods)
			}
		}
	}
	follow(2)
	for _, vip := range vips {
		if tally := w.web(vip, 40); len(tally.ByServer) != 2 {
			t.Errorf("%s: answers of %v, want both pods", vip, tally.ByServer)
		}
		w.ask(vip, 10)
	}
	vip := vips[0]
	w.explained(ns, vip)
	four, six := w.load(vips[0]), w.load(vips[1])

	// Pods come.
	w.scale(ns, "web", 5)
	follow(5)
	if tally := w.web(vip, 100); len(tally.ByServer) != 5 {
		t.Errorf("answers of %v, want all five pods", tally.ByServer)
	}
	four.goOn(100)
	// Pods go: connections stay while they terminate.
	talk := w.talk(vip, 20)
	w.scale(ns, "web", 2)
	follow(2)
	talk.await(20)
	talk.stop()
	// All are replaced, twice.
	talk = w.talk(vip, 10)
	for _, round := range []string{"ROUND=2", "ROUND=3"} {
		w.kubectl("set", "env", "deployment/web", "-n", ns, round)
		w.rolledOut(ns, "web")
		follow(2)
		four.goOn(50)
		six.goOn(50)
		talk.await(20)
	}
	talk.stop()
	served := four.end()
	six.end()
	t.Logf("answers by pod: %v", served)
	if len(served) != 9 {
		t.Errorf("answers of %v, want those of nine pods: five, two and two", served)
	}

	// A pod dies: others answer, and it comes back.
	w.must(w.pods.Crash(ns, w.livePods(ns, "web")[0].Name))
	w.until("requests are answered by two pods again", func() string {
		tally := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 40, Parallel: 8}.Run(w.ctx, w.rack.Client.Host)
		if tally.Err() != nil || len(tally.ByServer) != 2 {
			return fmt.Sprint(tally.ByServer, tally.Err())
		}
		return ""
	})
	// The last one goes, and pods come back from nothing.
	w.scale(ns, "web", 0)
	follow(0)
	w.scale(ns, "web", 1)
	follow(1)
	w.web(vip, 10)
	w.balance("service_empty", "backend_gone", "flow_not_found", "tcp_not_syn", "next_hop_unresolved")
}

// explained demands that a node names the pod that a client would be sent to.
func (w *world) explained(namespace string, vip netip.Addr) {
	w.t.Helper()
	pods, err := w.kube.CoreV1().Pods(namespace).List(w.ctx, metav1.ListOptions{})
	w.must(err)
	e, err := w.nodes[0].Client().Explain(w.ctx, api.ExplainQuery{
		Client: netip.AddrPortFrom(w.rack.Client.IPv4, 40_000), Protocol: "tcp", Destination: netip.AddrPortFrom(vip, 80),
	})
	w.must(err)
	said, err := json.Marshal(e)
	w.must(err)
	for _, p := range pods.Items {
		if strings.Contains(string(said), p.Name) {
			return
		}
	}
	w.t.Errorf("the explanation names no pod: %s", said)
}

// TestPods is what pods, and the real controllers that tell of them, can ask for, by
// one node of Fairlead in a zone: see podPromises, and kubeProxy.
func TestPods(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{
		nodes: 3, kubeProxy: true, zones: []string{"a", "b", "b"}, options: "zone = \"a\"\npod_weights = true\n",
	})
	t.Run("promises", func(t *testing.T) {
		for _, c := range podPromises {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				sub := w.in(t)
				sub.namespace(c.name)
				c.run(sub, c.name)
			})
		}
	})
	t.Run("kube-proxy", func(t *testing.T) { w.in(t).kubeProxy() })
	// Answers are waited for from before there is a pod, and refused so long.
	w.balance("service_not_found", "service_empty", "reply_rate_limited", "backend_gone", "flow_not_found", "tcp_not_syn", "next_hop_unresolved")
}

// kubeProxy has real kube-proxy on the nodes: packets with the VIP kept, by l2 and
// tunnels, and packets to ports of nodes. With externalTrafficPolicy Local the client's
// address is what pods see, and nodes without a ready pod get nothing.
func (w *world) kubeProxy() {
	w.t.Helper()
	const ns = "proxy"
	w.namespace(ns)
	w.deploy(deployment(ns, "web", 2))
	var vips []netip.Addr
	for i := 1; i <= 5; i++ {
		vips = append(vips, w.rack.VIP4(70+i)) // others have the first ones of the pool
	}
	lb := w.rack.Balancers[0]
	for _, b := range w.rack.Backends {
		_, err := rig.Decapsulate(b, decap.Config{VIPs: vips, LoadBalancers: []netip.Prefix{netip.PrefixFrom(lb.IPv4, 32), netip.PrefixFrom(lb.IPv6, 128)}})
		w.must(err)
	}
	for i, c := range []struct {
		name, via string
		local     bool
	}{{"l2", "l2", true}, {"ipip", "ipip", true}, {"gue", "gue", true}, {"cluster", "l2", false}, {"ports", "", false}} {
		w.t.Run(c.name, func(t *testing.T) {
			w := w.in(t)
			s := selecting(ns, "web", webPort(), namePort())
			s.Name = c.name
			s.Spec.AllocateLoadBalancerNodePorts = nil
			annotated(s, "fairlead.io/addresses", vips[i].String())
			annotated(s, "fairlead.io/method", "nodeports")
			if c.via != "" {
				annotated(annotated(s, "fairlead.io/method", "nodes"), "fairlead.io/nodes-via", c.via)
			}
			nodes := 3
			if c.local {
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				nodes = len(w.nodesOf(ns, "web"))
			}
			s = w.create(s)
			vip := w.assigned(s, 1)[0]
			w.untilServed(vip, "tcp 80", nodes)
			w.untilServed(vip, "udp 53", nodes)
			// kube-proxy learns of the VIP in its own time.
			w.until("all pods answer", func() string {
				one := traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: 40, Parallel: 8, Timeout: time.Second}
				tally := one.Run(w.ctx, w.rack.Client.Host)
				if tally.Err() != nil || len(tally.ByServer) != 2 {
					return fmt.Sprint(tally.ByServer, tally.Err())
				}
				if kept := tally.Clients[w.rack.Client.IPv4] == 40; c.local && !kept {
					return fmt.Sprintf("pods saw %v", tally.Clients)
				}
				return ""
			})
			w.web(vip, 100)
			w.ask(vip, 20)
			w.remove(s)
		})
	}
}

// nodesOf waits until the pods of a deployment are ready and returns the nodes that
// they are on.
func (w *world) nodesOf(namespace, name string) (nodes map[string]int) {
	w.t.Helper()
	w.rolledOut(namespace, name)
	pods, err := w.kube.CoreV1().Pods(namespace).List(w.ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	w.must(err)
	nodes = map[string]int{}
	for _, p := range pods.Items {
		nodes[p.Spec.NodeName]++
	}
	return nodes
}
