package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// shop is the namespace of what is served in TestDaemonSet.
const shop = "shop"

// TestDaemonSet has Fairlead run in a cluster by the manifests that are shipped: its
// pods have the rights that these say and no others, become ready by their own
// probes, and serve a Service by the addresses of pods and one that keeps the client's
// address, while they are replaced, deleted and killed, until they are uninstalled.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	w := balancerNodes(t)
	shipped := w.install()
	w.nodesRolledOut()
	w.must(w.api.Apply(w.ctx, "{apiVersion: fairlead.io/v1alpha1, kind: AddressPool, metadata: {name: rack}, spec: {addresses: [198.18.0.101-198.18.0.180, 2001:db8::65-2001:db8::b4]}}"))
	w.namespace(shop)
	w.deploy(deployment(shop, "web", 3))
	web := w.create(dual(selecting(shop, "web", webPort(), talkPort())))
	vips := w.assigned(web, 2)
	w.untilAsked(3, vips...)
	kept := selecting(shop, "web", webPort(), talkPort())
	kept.Name, kept.Spec.AllocateLoadBalancerNodePorts = "kept", nil
	kept.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	kept = w.create(kept)
	direct := w.assigned(kept, 1)[0]
	w.untilAsked(3, direct)
	if tally := w.web(direct, 20); tally.Clients[w.rack.Client.IPv4] != 20 {
		t.Errorf("pods see %v, want the client's own address", tally.Clients)
	}
	t.Run("rights", func(t *testing.T) { w.in(t).rightsOfPods() })
	t.Run("commands", func(t *testing.T) { w.in(t).commandsInPods() })
	t.Run("rolling update", func(t *testing.T) { w.in(t).updateNodes(vips, direct) })
	t.Run("deleted", func(t *testing.T) { w.in(t).deleteOwner(vips, direct) })
	t.Run("killed", func(t *testing.T) { w.in(t).killOwner(vips, direct) })
	t.Run("roles", func(t *testing.T) { w.in(t).nothingRefused() })
	t.Run("uninstalled", func(t *testing.T) { w.in(t).uninstall(shipped, web, kept) })
}

// rightsOfPods: the control process has the capabilities of the manifest, the data
// processes have none.
func (w *world) rightsOfPods() {
	w.t.Helper()
	// KILL, SETGID, SETUID, NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE and BPF.
	const given, none = "00000080008070e0", "0000000000000000"
	for node, pod := range w.fairleadPods() {
		first, err := w.pods.PodProcess(pod.Namespace, pod.Name)
		w.must(err)
		status, err := rig.ProcessStatus(first)
		w.must(err)
		for field, want := range map[string]string{
			"CapEff": given, "CapPrm": given, "CapBnd": given, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Uid": "0\t0\t0\t0", "Name": "fairlead",
		} {
			if status[field] != want {
				w.t.Errorf("%s: %s of the control process is %q, want %q", node, field, status[field], want)
			}
		}
		children := childrenOf(w.t, first)
		if len(children) != 2 {
			w.t.Errorf("%s: the control process has the children %v, want a data process and one that stands by", node, children)
		}
		for _, child := range children {
			status, err := rig.ProcessStatus(child)
			w.must(err)
			for field, want := range map[string]string{"CapEff": none, "CapPrm": none, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Uid": "65534\t65534\t65534\t65534"} {
				if status[field] != want {
					w.t.Errorf("%s: %s of a data process is %q, want %q", node, field, status[field], want)
				}
			}
		}
	}
}

// childrenOf are the processes that a process has started.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		child, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		// One that has ended meanwhile is nobody's.
		if status, err := rig.ProcessStatus(child); err == nil && status["PPid"] == strconv.Itoa(pid) && !rig.Ended(child) {
			children = append(children, child)
		}
	}
	return children
}

// commandsInPods: by kubectl exec the commands find the node and its configuration.
func (w *world) commandsInPods() {
	w.t.Helper()
	for _, args := range [][]string{{"status"}, {"k8s", "status"}, {"k8s", "services"}, {"cluster", "status"}, {"addresses"}, {"check"}} {
		if out, err := w.inPod("lb1", args...); err != nil {
			w.t.Errorf("%v\n%s", err, out)
		}
	}
	// There may be warnings, of which the exit status is 1.
	out, err := w.inPod("lb1", "doctor")
	if err != nil && !strings.Contains(err.Error(), "exit code 1") || !strings.Contains(out, "\n0 errors, ") || strings.Contains(out, "there is no such file") {
		w.t.Errorf("%v\n%s", err, out)
	}
}

// updateNodes: the DaemonSet is updated while clients ask.
func (w *world) updateNodes(vips []netip.Addr, direct netip.Addr) {
	w.t.Helper()
	before := w.fairleadPods()
	loads := []*load{w.load(vips[0]), w.load(vips[1])}
	moves := []func() int{w.countMoves(vips[0]), w.countMoves(vips[1])}
	for _, l := range loads {
		l.goOn(50)
	}
	talk := w.talk(direct, 10)
	w.kubectl("-n", "fairlead-system", "rollout", "restart", "daemonset/fairlead")
	w.nodesRolledOut()
	// With the VIP kept, a connection goes on wherever its packets arrive.
	talk.await(20)
	talk.stop()
	for i, l := range loads {
		l.goOn(50)
		answers, failed, err := l.count()
		moved := moves[i]()
		w.t.Logf("%s: %d answers, %d requests failed, the VIP moved %d times", vips[i], answers, failed, moved)
		// With addresses translated, those end that are under way when their VIP moves:
		// when its node stops, and when it is back.
		if moved == 0 || failed > moved*loadParallel {
			w.t.Errorf("%s moved %d times, and %d requests failed, more than were under way then: %v", vips[i], moved, failed, err)
		}
	}
	for node, pod := range w.fairleadPods() {
		if pod.UID == before[node].UID {
			w.t.Errorf("the pod of %s was not replaced", node)
		}
	}
	w.untilAsked(3, append(vips, direct)...)
}

// countMoves counts how often the client sends packets for a VIP to another node from
// now on, until the result is asked for.
func (w *world) countMoves(vip netip.Addr) (moves func() int) {
	stop, counted := make(chan struct{}), make(chan int, 1)
	go func() {
		n, at := 0, ""
		for {
			// While the client asks for the VIP there is no answer.
			if mac, err := rig.NeighborMAC(w.rack.Client, vip); err == nil {
				if at != "" && mac != at {
					n++
				}
				at = mac
			}
			select {
			case <-stop:
				counted <- n
				return
			case <-w.ctx.Done():
				counted <- n
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() int { close(stop); return <-counted }
}

// ownerOf is the node that the client sends packets for a VIP to.
func (w *world) ownerOf(vip netip.Addr) (*lab.Node, string) {
	w.t.Helper()
	mac, err := rig.NeighborMAC(w.rack.Client, vip)
	if err != nil {
		return nil, err.Error()
	}
	for _, lb := range w.rack.Balancers {
		if lb.Interface.MAC.String() == mac {
			return lb, ""
		}
	}
	return nil, fmt.Sprintf("%s is at %s", vip, mac)
}

// owner waits until a VIP has an owner.
func (w *world) owner(vip netip.Addr, not *lab.Node) (owner *lab.Node) {
	w.t.Helper()
	w.until(fmt.Sprintf("%s has an owner", vip), func() string {
		found, missing := w.ownerOf(vip)
		if missing == "" && found == not {
			return "it is still " + not.Name
		}
		owner = found
		return missing
	})
	return owner
}

// deleteOwner: a pod is deleted in good order, and its VIPs move to the other node.
func (w *world) deleteOwner(vips []netip.Addr, direct netip.Addr) {
	w.t.Helper()
	owner := w.owner(direct, nil)
	pod := w.fairleadPods()[owner.Name]
	talk := w.talk(direct, 5)
	w.kubectl("-n", pod.Namespace, "delete", "pod", pod.Name, "--wait=false")
	w.owner(direct, owner)
	talk.await(20)
	talk.stop()
	w.untilAsked(3, append(vips, direct)...)
	w.until("another pod is ready on "+owner.Name, func() string {
		now := w.fairleadPods()[owner.Name]
		if s := now.Status.ContainerStatuses; now.UID == pod.UID || len(s) == 0 || !s[0].Ready {
			return fmt.Sprint(now.UID, s)
		}
		return ""
	})
	w.nodesRolledOut()
}

// killOwner: all processes of a pod are killed. The others own its VIPs when they
// take it for dead, and the pod's container is started again.
func (w *world) killOwner(vips []netip.Addr, direct netip.Addr) {
	w.t.Helper()
	owner := w.owner(direct, nil)
	pod := w.fairleadPods()[owner.Name]
	talk := w.talk(direct, 5)
	w.must(w.pods.Crash(pod.Namespace, pod.Name))
	talk.await(20)
	talk.stop()
	w.until("the pod is ready again", func() string {
		now, err := w.kube.CoreV1().Pods(pod.Namespace).Get(w.ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if s := now.Status.ContainerStatuses[0]; s.RestartCount != 1 || !s.Ready {
			return fmt.Sprintf("restarts %d, ready %v", s.RestartCount, s.Ready)
		}
		return ""
	})
	w.untilAsked(3, append(vips, direct)...)
	log := w.kubectl("-n", pod.Namespace, "logs", pod.Name)
	if !strings.Contains(log, `"msg":"XDP program attached","interface":"eth0","mode":"native","frags":false,"adopted":true`) {
		w.t.Errorf("the pod did not find what its predecessor had pinned:\n%s", log)
	}
}

// nothingRefused: with the shipped roles and the pods' own tokens no request of theirs
// was refused.
func (w *world) nothingRefused() {
	w.t.Helper()
	f, err := os.Open(w.api.AuditLog())
	w.must(err)
	defer f.Close()
	requests := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct {
			Verb, RequestURI string
			ResponseStatus   struct{ Code int }
		}
		w.must(json.Unmarshal(lines.Bytes(), &r))
		requests++
		if c := r.ResponseStatus.Code; c == 401 || c == 403 {
			w.t.Errorf("%s %s: %d", r.Verb, r.RequestURI, c)
		}
	}
	w.must(lines.Err())
	if requests < 50 {
		w.t.Errorf("%d requests were recorded", requests)
	}
}

// uninstall takes Fairlead away while a Service is still there.
func (w *world) uninstall(shipped string, left, served *corev1.Service) {
	w.t.Helper()
	w.remove(served)
	file := filepath.Join(w.dir, "shipped.yaml")
	w.must(os.WriteFile(file, []byte(shipped), 0o600))
	w.kubectl("delete", "-f", file, "--ignore-not-found", "--timeout=120s")
	for _, n := range append(w.rack.Balancers, w.rack.Backends...) {
		link, err := n.Netlink().LinkByName(n.Interface.Name)
		w.must(err)
		if xdp := link.Attrs().Xdp; xdp != nil && xdp.Attached {
			w.t.Errorf("%s still has an XDP program", n.Name)
		}
		pinned, err := filepath.Glob(w.pods.Node(n.Name).Disk("/sys/fs/bpf") + "/*/*")
		w.must(err)
		if len(pinned) > 0 {
			w.t.Errorf("%s still has %v", n.Name, pinned)
		}
	}
	// Nobody is left who would give its address back.
	w.kubectl("-n", left.Namespace, "delete", "service", left.Name, "--wait=false")
	if s := w.read(left); s.DeletionTimestamp == nil || fmt.Sprint(s.Finalizers) != "[service.kubernetes.io/load-balancer-cleanup]" {
		w.t.Errorf("the Service that is left has the finalizers %v", s.Finalizers)
	}
	w.kubectl("-n", left.Namespace, "patch", "service", left.Name, "--type=merge", "--patch", `{"metadata":{"finalizers":null}}`)
	w.until("the Service is gone", func() string { return w.there(left) })
}
