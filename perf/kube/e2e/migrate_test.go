package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/kube"
)

// TestComingFromOthers: the annotations of other providers, read when that is switched
// on and not when it is off; and a cluster that goes from MetalLB to Fairlead by the
// commands of docs/kubernetes-migration.md, whose Services keep their addresses.
func TestComingFromOthers(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{pools: "# AddressPools alone\n"})
	t.Run("annotations", func(t *testing.T) { w.in(t).annotationsOfOthers() })
	t.Run("metallb", func(t *testing.T) { w.in(t).fromMetalLB() })
	w.balance("service_not_found", "service_empty", "backend_gone", "flow_not_found", "tcp_not_syn")
}

// configure gives a node other lines of [kubernetes], and starts it anew.
func (w *world) configure(node int, options string) {
	w.t.Helper()
	w.cfg.options = options
	w.must(w.nodes[node].Stop())
	w.must(w.nodes[node].Write(fmt.Sprintf("[node]\nname = %q\n", w.rack.Balancers[node].Name) + w.text(node)))
	w.must(w.nodes[node].Launch(w.ctx))
}

// pool makes an AddressPool.
func (w *world) pool(name string, auto bool, addresses ...string) {
	w.t.Helper()
	_, err := w.ours.Pools().Create(w.ctx, &v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.AddressPoolSpec{Addresses: addresses, AutoAssign: ptr.To(auto)},
	}, metav1.CreateOptions{})
	w.must(err)
}

func (w *world) annotationsOfOthers() {
	w.t.Helper()
	const ns = "others"
	w.namespace(ns)
	auto, special := "198.18.0.101-198.18.0.140", w.rack.VIP4(60)
	w.pool("auto", true, auto)
	w.pool("special", false, special.String()+"/32")
	asked := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("198.18.0.%d", 120+n)) }
	type asking struct {
		want     netip.Addr
		services []*corev1.Service
	}
	var all []asking
	add := func(want netip.Addr, s ...*corev1.Service) { all = append(all, asking{want, s}) }
	named := func(port corev1.ServicePort, annotations ...string) *corev1.Service {
		s := newService(ns, fmt.Sprintf("s%d-%s", len(all), strings.ToLower(string(port.Protocol))), port)
		for i := 0; i < len(annotations); i += 2 {
			annotated(s, annotations[i], annotations[i+1])
		}
		return s
	}
	for i, key := range []string{
		"metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs", "lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips",
		"kube-vip.io/loadbalancerIPs", "purelb.io/addresses", "loxilb.io/staticIP",
	} {
		add(asked(i), named(webPort(), key, asked(i).String()))
	}
	for i, keys := range [][2]string{
		{"metallb.io/loadBalancerIPs", "metallb.io/allow-shared-ip"}, {"lbipam.cilium.io/ips", "lbipam.cilium.io/sharing-key"},
		{"purelb.io/addresses", "purelb.io/allow-shared-ip"},
	} {
		vip := asked(10 + i)
		add(vip, named(webPort(), keys[0], vip.String(), keys[1], "key"), named(namePort(), keys[0], vip.String(), keys[1], "key"))
	}
	pools := []string{"metallb.io/address-pool", "metallb.universe.tf/address-pool", "purelb.io/service-group", "loxilb.io/poolSelect"}

	// Off: nothing of it is read.
	for _, c := range all {
		for _, s := range c.services {
			if got := w.assigned(w.create(s), 1)[0]; got == c.want {
				w.t.Errorf("%v: address %s, which is not to be read", s.Annotations, got)
			}
		}
	}
	for _, key := range pools {
		s := w.create(named(talkPort(), key, "special"))
		if got := w.assigned(s, 1)[0]; got == special {
			w.t.Errorf("%v: address %s of a pool, which is not to be read", s.Annotations, got)
		}
		w.remove(s)
	}
	for _, c := range all {
		for _, s := range c.services {
			w.remove(s)
		}
	}
	// On.
	w.configure(0, "annotations = [\"metallb\", \"cilium\", \"kube-vip\", \"purelb\", \"loxilb\"]\n")
	for _, c := range all {
		for _, s := range c.services {
			s = w.create(s)
			w.endpoints(s, allReady(w.rack.Backends...)...)
			if got := w.assigned(s, 1)[0]; got != c.want {
				w.t.Errorf("%v: address %s, want %s", s.Annotations, got, c.want)
			}
		}
		w.untilServed(c.want, "tcp 80", 3)
		w.web(c.want, 4)
		if len(c.services) > 1 {
			w.untilServed(c.want, "udp 53", 3)
			w.ask(c.want, 4)
		}
	}
	for _, key := range pools {
		s := w.create(named(talkPort(), key, "special"))
		if got := w.assigned(s, 1)[0]; got != special {
			w.t.Errorf("%v: address %s, want %s", s.Annotations, got, special)
		}
		w.remove(s)
	}
	for _, c := range all {
		for _, s := range c.services {
			w.remove(s)
		}
	}
	for _, name := range []string{"auto", "special"} {
		w.must(w.ours.Pools().Delete(w.ctx, name, deleteNow))
	}
}

// metalLB are definitions of MetalLB's kinds that take anything, and objects.
func metalLB() string {
	var b strings.Builder
	for kind, version := range map[string]string{
		"IPAddressPool": "v1beta1", "L2Advertisement": "v1beta1", "BGPAdvertisement": "v1beta1", "BFDProfile": "v1beta1", "Community": "v1beta1", "BGPPeer": "v1beta2",
	} {
		plural := strings.ToLower(kind) + "s"
		if kind == "Community" {
			plural = "communities"
		}
		fmt.Fprintf(&b, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.metallb.io}
spec:
  group: metallb.io
  scope: Namespaced
  names: {plural: %[1]s, singular: %[2]s, kind: %[3]s, listKind: %[3]sList}
  versions:
  - name: %[4]s
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
`, plural, strings.ToLower(kind), kind, version)
	}
	return b.String()
}

const metalLBObjects = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {namespace: metallb-system, name: public}
spec: {addresses: [198.18.0.101-198.18.0.119, 2001:db8::65-2001:db8::77]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {namespace: metallb-system, name: reserved}
spec: {addresses: [198.18.0.120/30], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {namespace: metallb-system, name: all}
---
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: metallb-system, name: controller}
spec:
  selector: {matchLabels: {app: controller}}
  template:
    metadata: {labels: {app: controller}}
    spec: {containers: [{name: controller, image: quay.io/metallb/controller}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {namespace: metallb-system, name: speaker}
spec:
  selector: {matchLabels: {app: speaker}}
  template:
    metadata: {labels: {app: speaker}}
    spec: {containers: [{name: speaker, image: quay.io/metallb/speaker}]}
`

// held is a Service with addresses that MetalLB has given it.
type held struct {
	*corev1.Service
	vips []netip.Addr
}

// heldByMetalLB makes a Service without a class, with a status as MetalLB writes it.
func (w *world) heldByMetalLB(s *corev1.Service, vips ...netip.Addr) held {
	w.t.Helper()
	s.Spec.LoadBalancerClass = nil
	s = w.create(annotated(s, "metallb.io/ip-allocated-from-pool", "public"))
	w.endpoints(s, allReady(w.rack.Backends...)...)
	for _, vip := range vips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: vip.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	s, err := w.kube.CoreV1().Services(s.Namespace).UpdateStatus(w.ctx, s, metav1.UpdateOptions{})
	w.must(err)
	return held{s, vips}
}

// fromMetalLB goes through docs/kubernetes-migration.md.
func (w *world) fromMetalLB() {
	w.t.Helper()
	w.must(w.api.Apply(w.ctx, metalLB()))
	w.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	w.namespace("metallb-system")
	w.must(w.api.Apply(w.ctx, metalLBObjects))
	w.namespace("shop")
	w.namespace("games")
	v4, v6 := w.rack.VIP4, w.rack.VIP6
	old := newService("shop", "old", webPort())
	old.Spec.LoadBalancerIP = v4(4).String()
	shared := func(ns string, p corev1.ServicePort) *corev1.Service {
		return annotated(newService(ns, "shared", p), "metallb.io/allow-shared-ip", "it")
	}
	all := []held{
		w.heldByMetalLB(dual(newService("shop", "web", webPort(), namePort())), v4(2), v6(2)),
		w.heldByMetalLB(annotated(newService("shop", "asked", webPort()), "metallb.universe.tf/loadBalancerIPs", v4(3).String()), v4(3)),
		w.heldByMetalLB(old, v4(4)),
		w.heldByMetalLB(annotated(newService("games", "pooled", webPort()), "metallb.io/address-pool", "reserved"), v4(21)),
		w.heldByMetalLB(shared("shop", webPort()), v4(5)),
		w.heldByMetalLB(shared("games", namePort()), v4(5)),
	}
	untouched := func(annotationsToo bool) {
		w.t.Helper()
		for _, h := range all {
			now := w.read(h.Service)
			if !slices.Equal(addresses(now), h.vips) || len(now.Finalizers) > 0 || annotationsToo && now.ResourceVersion != h.ResourceVersion {
				w.t.Errorf("%s/%s was touched: %+v", h.Namespace, h.Name, now)
			}
		}
	}
	sh := w.documentedShell()

	sh("fairlead k8s manifests --outside | kubectl apply --server-side -f -")
	sh("fairlead k8s migrate-metallb --only pools | kubectl apply -f -")
	config := sh("fairlead k8s migrate-metallb --only config")
	options, is := strings.CutPrefix(config, "[kubernetes]\n")
	if !is || !strings.Contains(options, "default_class = true\n") || !strings.Contains(options, `annotations = ["metallb"]`) {
		w.t.Fatalf("configuration %q", config)
	}
	w.configure(0, strings.Replace(options, "default_class = true", "default_class = false", 1))
	w.until("pools are looked after", func() string {
		out := w.kubectl("get", "addresspools", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status} {end}`)
		if out != "public True reserved True " {
			return out
		}
		return ""
	})
	untouched(true)
	sh("kubectl -n metallb-system scale deployment controller --replicas=0")
	sh("fairlead k8s migrate-metallb --only services | sh")
	untouched(false)
	sh("kubectl -n metallb-system delete daemonset speaker")
	w.configure(0, options)

	for _, h := range all {
		for _, vip := range h.vips {
			for _, p := range h.Spec.Ports {
				w.untilServed(vip, fmt.Sprintf("%s %d", strings.ToLower(string(p.Protocol)), p.Port), 3)
				if p.Protocol == corev1.ProtocolUDP {
					w.ask(vip, 8)
				} else {
					w.web(vip, 8)
				}
			}
		}
		w.until(h.Name+" is ours", func() string {
			now := w.read(h.Service)
			if !slices.Equal(addresses(now), h.vips) {
				w.t.Errorf("%s/%s has %v, want %v as before", h.Namespace, h.Name, addresses(now), h.vips)
			}
			for key := range now.Annotations {
				if strings.HasPrefix(key, "metallb.") {
					w.t.Errorf("%s/%s still has %s", h.Namespace, h.Name, key)
				}
			}
			for _, i := range now.Status.LoadBalancer.Ingress {
				if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeProxy {
					return fmt.Sprintf("%+v", i)
				}
			}
			return ""
		})
	}
	// What comes later gets what is free.
	later := newService("shop", "later", webPort())
	later.Spec.LoadBalancerClass = nil
	later = w.create(later)
	got := w.assigned(later, 1)[0]
	for _, h := range all {
		if slices.Contains(h.vips, got) {
			w.t.Errorf("a new Service has %s, which is that of %s/%s", got, h.Namespace, h.Name)
		}
		w.remove(h.Service)
	}
	w.remove(later)
}

// documentedShell runs commands of docs/kubernetes-migration.md as its reader does, and
// returns what they print.
func (w *world) documentedShell() (sh func(command string) string) {
	w.t.Helper()
	told, err := os.ReadFile("../../../docs/kubernetes-migration.md")
	w.must(err)
	servers, err := kube.Binaries()
	w.must(err)
	dir := w.t.TempDir()
	w.must(os.Symlink(binary, filepath.Join(dir, "fairlead")))
	w.must(os.Symlink(filepath.Join(servers, "kubectl"), filepath.Join(dir, "kubectl")))
	config := filepath.Join(dir, "config")
	w.must(w.api.Kubeconfig(config, w.api.REST()))
	return func(command string) string {
		w.t.Helper()
		if !strings.Contains(string(told), "`"+command+"`") {
			w.t.Errorf("docs/kubernetes-migration.md does not have: %s", command)
		}
		cmd := exec.CommandContext(w.ctx, "bash", "-eo", "pipefail", "-c", command)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KUBECONFIG="+config, "HOME="+dir)
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil {
			w.t.Fatalf("%s: %v\n%s%s", command, err, out, complaints.Bytes())
		}
		return string(out)
	}
}
