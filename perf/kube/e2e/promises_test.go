package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"fairlead/perf/kube"
	"fairlead/perf/lab/traffic"
)

// podPromises are promises about pods, each kept in a namespace of its own.
var podPromises = []struct {
	name string
	run  func(*world, string)
}{
	{"zones", zones},
	{"weights", weights},
	{"unready", unreadyAddresses},
	{"host", hostNetwork},
	{"named", namedPorts},
}

// newPod is a pod of the lab's server on a node, by its number, that serves HTTP on a
// port of its own. It is ready as soon as it answers.
func (w *world) newPod(namespace, name string, node int, httpPort int32, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web"}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			NodeName:                      w.pods.Nodes[node].Name,
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			Containers: []corev1.Container{{
				Name: "server", Image: kube.ServerImage, Args: append([]string{"-http", fmt.Sprintf(":%d", httpPort)}, args...),
				Env:   []corev1.EnvVar{{Name: "POD_NAME", Value: name}},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: httpPort}},
				ReadinessProbe: &corev1.Probe{
					PeriodSeconds: 1, TimeoutSeconds: 20, FailureThreshold: 1,
					ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(httpPort)}},
				},
			}},
		},
	}
}

// run creates a pod, as soon as its namespace has the account that it is to have.
func (w *world) run(p *corev1.Pod) {
	w.t.Helper()
	w.until(p.Name+" is created", func() string {
		_, err := w.kube.CoreV1().Pods(p.Namespace).Create(w.ctx, p, metav1.CreateOptions{})
		if err != nil && !apierrors.IsForbidden(err) {
			w.t.Fatal(err)
		}
		return text(err)
	})
}

// web80 is a Service of the pods that newPod makes.
func web80(namespace string, change func(*corev1.Service)) *corev1.Service {
	s := selecting(namespace, "web", webPort())
	s.Spec.Ports[0].TargetPort = intstr.FromString("http")
	if change != nil {
		change(s)
	}
	return s
}

// answered waits until so many requests are answered by exactly these servers.
func (w *world) answered(vip netip.Addr, requests int, servers ...string) (tally *traffic.Tally) {
	w.t.Helper()
	w.until(fmt.Sprintf("%v answer, and nobody else", servers), func() string {
		tally = traffic.HTTPLoad{Target: netip.AddrPortFrom(vip, 80), Connections: requests, Parallel: 8}.Run(w.ctx, w.rack.Client.Host)
		if got := slices.Sorted(maps.Keys(tally.ByServer)); tally.Err() != nil || !slices.Equal(got, servers) {
			return fmt.Sprint(tally.ByServer, tally.Err())
		}
		return ""
	})
	return tally
}

// zones: the node is in zone a. What is hinted for it takes new connections, while
// every ready endpoint has a hint and one is for this zone; else all do.
func zones(w *world, ns string) {
	w.run(w.newPod(ns, "here", 0, httpPort))
	w.run(w.newPod(ns, "there", 1, httpPort))
	s := w.create(web80(ns, func(s *corev1.Service) {
		s.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferSameZone)
	}))
	vip := w.assigned(s, 1)[0]
	hinted := func(n int) {
		w.t.Helper()
		w.until(fmt.Sprintf("%d endpoints are ready and hinted", n), func() string {
			list, err := w.kube.DiscoveryV1().EndpointSlices(ns).List(w.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelManagedBy + "=endpointslice-controller.k8s.io"})
			w.must(err)
			count := 0
			for _, slice := range list.Items {
				for _, e := range slice.Endpoints {
					if ptr.Deref(e.Conditions.Ready, false) && e.Hints != nil && len(e.Hints.ForZones) == 1 {
						count++
					}
				}
			}
			if count != n {
				return fmt.Sprintf("%+v", list.Items)
			}
			return ""
		})
	}
	hinted(2)
	w.answered(vip, 40, "here")

	// Another one without a hint: hints do not count any more, for any.
	b := w.rack.Backends[1]
	_, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", httpPort))
	w.must(err)
	other := newSlice(s, "other", discoveryv1.AddressTypeIPv4, ready(b))
	other.Ports[0].Port = ptr.To[int32](httpPort)
	w.put(other)
	w.answered(vip, 60, b.Name, "here", "there")
	w.must(w.kube.DiscoveryV1().EndpointSlices(ns).Delete(w.ctx, other.Name, deleteNow))
	w.answered(vip, 40, "here")

	// No endpoint of the zone is left: the others serve it, and it gets its own back.
	w.must(w.kube.CoreV1().Pods(ns).Delete(w.ctx, "here", deleteNow))
	w.answered(vip, 40, "there")
	w.until("the pod is gone", func() string {
		if _, err := w.kube.CoreV1().Pods(ns).Get(w.ctx, "here", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Sprint("it is there: ", err)
		}
		return ""
	})
	w.run(w.newPod(ns, "here", 0, httpPort))
	hinted(2)
	w.answered(vip, 40, "here")
	// Without the Service's wish there are no hints.
	w.change(s, func(s *corev1.Service) { s.Spec.TrafficDistribution = nil })
	w.answered(vip, 60, "here", "there")
}

// weights: a pod's share is its weight's, and with weight 0 it gets nothing new.
func weights(w *world, ns string) {
	for name, weight := range map[string]int{"light": 1, "heavy": 3} {
		p := w.newPod(ns, name, 0, httpPort)
		p.Annotations["fairlead.io/weight"] = strconv.Itoa(weight)
		w.run(p)
	}
	s := w.create(web80(ns, nil))
	vip := w.assigned(s, 1)[0]
	w.answered(vip, 40, "heavy", "light")
	w.until("the weights are in force", func() string {
		all, err := w.served(0, vip)
		if err != nil || len(all["tcp 80"]) != 2 || weightOf(all["tcp 80"]) != 4 {
			return fmt.Sprint(all, err)
		}
		return ""
	})
	// Of 2,000, a quarter is 500 with a standard deviation of 19.
	const requests = 2000
	if got := w.answered(vip, requests, "heavy", "light").ByServer["light"]; got < 350 || got > 650 {
		w.t.Errorf("of %d, the lighter of 1 and 3 has answered %d, want some 500", requests, got)
	}
	w.kubectl("annotate", "pod", "-n", ns, "heavy", "fairlead.io/weight=0", "--overwrite")
	w.answered(vip, 40, "light")
	w.kubectl("annotate", "pod", "-n", ns, "heavy", "fairlead.io/weight-")
	w.answered(vip, 40, "heavy", "light")
}

// weightOf is the sum of the weights of what served has.
func weightOf(backends []string) (sum int) {
	for _, b := range backends {
		var where string
		var weight int
		if _, err := fmt.Sscan(b, &where, &weight); err == nil {
			sum += weight
		}
	}
	return sum
}

// unreadyAddresses: publishNotReadyAddresses has pods take connections that are not
// ready.
func unreadyAddresses(w *world, ns string) {
	w.run(w.newPod(ns, "never", 0, httpPort, "-unready"))
	s := w.create(web80(ns, nil))
	vip := w.assigned(s, 1)[0]
	w.untilServed(vip, "tcp 80", 0)
	s = w.change(s, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
	w.untilServed(vip, "tcp 80", 1)
	w.answered(vip, 10, "never")
	w.change(s, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = false })
	w.untilServed(vip, "tcp 80", 0)
}

// hostNetwork: a pod in the network of its node beside one with an address of its own.
func hostNetwork(w *world, ns string) {
	const port = 9080
	p := w.newPod(ns, "host", 2, port, "-udp", ":9053", "-stream", ":9007")
	p.Spec.HostNetwork = true
	p.Spec.Containers[0].Ports[0].HostPort = port
	w.run(p)
	w.run(w.newPod(ns, "own", 0, httpPort))
	s := w.create(dual(web80(ns, nil)))
	vips := w.assigned(s, 2)
	w.answered(vips[0], 40, "host", "own")
	all, err := w.served(0, vips[0])
	w.must(err)
	if want := netip.AddrPortFrom(w.rack.Backends[2].IPv4, port).String() + " 1"; !slices.Contains(all["tcp 80"], want) {
		w.t.Errorf("backends %v, want %s among them", all["tcp 80"], want)
	}
}

// namedPorts: one name means another port in each of two pods.
func namedPorts(w *world, ns string) {
	w.run(w.newPod(ns, "first", 0, 8080))
	w.run(w.newPod(ns, "second", 1, 8081))
	s := w.create(dual(web80(ns, nil)))
	for _, vip := range w.assigned(s, 2) {
		w.answered(vip, 40, "first", "second")
		all, err := w.served(0, vip)
		w.must(err)
		ports := map[uint16]bool{}
		for _, b := range all["tcp 80"] {
			var where string
			var weight int
			_, err := fmt.Sscan(b, &where, &weight)
			w.must(err)
			ports[netip.MustParseAddrPort(where).Port()] = true
		}
		if !maps.Equal(ports, map[uint16]bool{8080: true, 8081: true}) {
			w.t.Errorf("%s: backends %v, want one at 8080 and one at 8081", vip, all["tcp 80"])
		}
	}
}
