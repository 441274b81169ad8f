package k8ssync

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/report"
	"fairlead/k8ssync/writer"
	kubelab "fairlead/perf/kube"
)

// A node that is alone does everything: it is elected, assigns addresses of pools
// that are objects and of its own, serves them, says so, and takes them back; also
// when it is followed by another process.
func TestNodeThatWrites(t *testing.T) {
	cp := kubelab.ForTest(t, kubelab.Config{})
	if err := cp.InstallCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cp.Apply(t.Context(), `
apiVersion: v1
kind: Namespace
metadata: {name: fairlead-system}
---
apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: objects}
spec: {addresses: [192.0.2.1-192.0.2.2]}
`); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cp.REST())
	if err != nil {
		t.Fatal(err)
	}
	services := client.CoreV1().Services("default")
	sink := newMemory()
	start := func(class string) (*Sync, func()) {
		log := &lines{}
		s, err := New(Config{
			Settings: kube.Settings{
				Enabled: true, Class: class, Method: kube.Pods, LocalMethod: kube.Nodes, NodesVia: model.IPIP,
				LeaseNamespace: "fairlead-system", LeaseName: "fairlead", Resync: 10 * time.Minute,
				Pools: []kube.AddressPool{{Name: "settings", Ranges: []kube.Range{{First: netip.MustParseAddr("203.0.113.1"), Last: netip.MustParseAddr("203.0.113.1")}}, AutoAssign: true, Priority: -1}},
			},
			Sink: sink, Fellows: report.NewAlone("node"), REST: cp.REST(), Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		var once sync.Once
		stop := func() { once.Do(func() { cancel(); wg.Wait() }) }
		t.Cleanup(func() {
			stop()
			if t.Failed() {
				t.Log(log)
			}
		})
		return s, stop
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never: " + what)
			}
		}
	}
	make := func(name, class string) {
		t.Helper()
		if _, err := services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	condition := func(name, what string) metav1.Condition {
		svc, err := services.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range svc.Status.Conditions {
			if c.Type == what {
				return c
			}
		}
		return metav1.Condition{}
	}
	addresses := func() (list []string) {
		all, err := services.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range all.Items {
			for _, in := range all.Items[i].Status.LoadBalancer.Ingress {
				list = append(list, in.IP)
			}
		}
		slices.Sort(list)
		return list
	}

	s, stop := start(kube.Class)
	for _, name := range []string{"a", "b", "c", "d"} {
		make(name, kube.Class)
	}
	until("three of four have what there is", func() bool { return len(addresses()) == 3 })
	if got := strings.Join(addresses(), " "); got != "192.0.2.1 192.0.2.2 203.0.113.1" {
		t.Errorf("addresses %s", got)
	}
	if s.Writer().Leader != "node" || !s.Writer().Leading {
		t.Errorf("who writes: %+v", s.Writer())
	}
	var waits string
	until("one waits and says why", func() bool {
		for _, name := range []string{"a", "b", "c", "d"} {
			if c := condition(name, writer.ConditionAddress); c.Status == metav1.ConditionFalse && c.Message != "" {
				waits = name
			}
		}
		return waits != ""
	})
	until("the others are in force", func() bool {
		n := 0
		for _, name := range []string{"a", "b", "c", "d"} {
			if c := condition(name, writer.ConditionProgrammed); c.Status == metav1.ConditionTrue && c.Message == "Programmed on 1 of 1 node" {
				n++
			}
		}
		return n == 3
	})
	until("the writer counts the one that waits", func() bool { w := s.Writing(); return w.Unserved == 1 && w.Unprogrammed == 0 })
	w := s.Writing()
	if len(w.Pools) != 2 || w.Pools[0].Name != "objects" || w.Pools[0].IPv4.Assigned != 2 || w.Pools[0].IPv4.Free != 0 || w.Pools[1].Name != "settings" || w.Pools[1].IPv4.Assigned != 1 {
		t.Errorf("the writer's pools: %+v", w.Pools)
	}
	// What is served comes from the status.
	key := func(name string) string {
		return kube.Key{Kind: kube.Service, Namespace: "default", Name: name}.Group() + "/ipv4"
	}
	if sink.vips(key(waits)) != "" {
		t.Error("what has no address is in force")
	}

	// Another process follows, and a pool gets larger.
	stop()
	if w := s.Writing(); len(w.Pools) != 0 || w.Unserved != 0 {
		t.Errorf("who does not write any more still tells of it: %+v", w)
	}
	before := addresses()
	_, stop = start(kube.Class)
	if err := cp.Apply(t.Context(), "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: objects}\nspec: {addresses: [192.0.2.1-192.0.2.3]}\n"); err != nil {
		t.Fatal(err)
	}
	until("all have an address", func() bool { return len(addresses()) == 4 })
	for _, a := range before {
		if !slices.Contains(addresses(), a) {
			t.Errorf("%s has moved", a)
		}
	}
	until("the last is in force", func() bool { return sink.vips(key(waits)) != "" })

	// What is deleted or changed gives its address back.
	if err := services.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Patch(t.Context(), "b", types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	reservations := func() string {
		out, err := cp.Kubectl(t.Context(), "get", "addressreservations", "-o", "jsonpath={.items[*].spec.address}")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	until("two addresses are free", func() bool { return len(strings.Fields(reservations())) == 2 })
	until("nothing of them is in force", func() bool { return sink.vips(key("a")) == "" && sink.vips(key("b")) == "" })
	until("nothing of ours is left on the Service of another type", func() bool {
		svc, err := services.Get(t.Context(), "b", metav1.GetOptions{})
		return err == nil && len(svc.Finalizers)+len(svc.Status.Conditions) == 0
	})
	if got, want := reservations(), strings.Join(addresses(), " "); got != want {
		t.Errorf("reserved are %s, in statuses %s", got, want)
	}

	// Another class is served from now on: the Services of the earlier one are let go.
	stop()
	const class = "example.com/other"
	make("theirs", "example.com/theirs")
	if _, err := services.Patch(t.Context(), "theirs", types.MergePatchType, []byte(`{"metadata":{"finalizers":["`+kube.Finalizer+`"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	start(class)
	make("new", class)
	until("the new class has an address, and the earlier one none", func() bool { return len(addresses()) == 1 && reservations() == addresses()[0] })
	until("nothing of ours is left on Services of the earlier class", func() bool {
		for _, name := range []string{"c", "d"} {
			svc, err := services.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || len(svc.Finalizers)+len(svc.Status.Conditions)+len(svc.Status.LoadBalancer.Ingress) > 0 {
				return false
			}
		}
		return true
	})
	if svc, err := services.Get(t.Context(), "theirs", metav1.GetOptions{}); err != nil || len(svc.Finalizers) != 1 {
		t.Errorf("the Service of a class that never was ours: %v, %v", svc, err)
	}
}
