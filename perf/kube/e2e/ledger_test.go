package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/controlplane/api"
	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/lab"
)

// parallel runs f for 0 to n-1, a few at a time, and returns when all have ended.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// owners are the Services of a namespace by address. It demands that no address has
// two.
func (w *world) owners(namespace string) map[netip.Addr]string {
	w.t.Helper()
	list, err := w.kube.CoreV1().Services(namespace).List(w.ctx, metav1.ListOptions{})
	w.must(err)
	all := map[netip.Addr]string{}
	for i := range list.Items {
		for _, a := range addresses(&list.Items[i]) {
			if other, taken := all[a]; taken {
				w.t.Fatalf("%s is that of %s and of %s", a, other, list.Items[i].Name)
			}
			all[a] = list.Items[i].Name
		}
	}
	return all
}

// reserved are the holders in AddressReservations, by address.
func (w *world) reserved() map[netip.Addr]string {
	w.t.Helper()
	list, err := w.ours.Reservations().List(w.ctx, metav1.ListOptions{})
	w.must(err)
	all := map[netip.Addr]string{}
	for _, r := range list.Items {
		a, err := v1alpha1.ReservationAddress(r.Name)
		w.must(err)
		if len(r.Spec.Holders) != 1 {
			w.t.Errorf("%s has holders %+v, want one", a, r.Spec.Holders)
			continue
		}
		all[a] = r.Spec.Holders[0].Name
	}
	return all
}

// exact waits until statuses, reservations and what all nodes have in force tell the
// same of so many addresses.
func (w *world) exact(namespace string, n int) map[netip.Addr]string {
	w.t.Helper()
	var owners map[netip.Addr]string
	w.until(fmt.Sprintf("%d addresses have owners", n), func() string {
		if owners = w.owners(namespace); len(owners) != n {
			return fmt.Sprintf("%d have", len(owners))
		}
		return ""
	})
	w.until("reservations and statuses tell the same", func() string {
		if reserved := w.reserved(); !maps.Equal(owners, reserved) {
			return fmt.Sprintf("%d reservations and %d addresses in statuses", len(reserved), len(owners))
		}
		return ""
	})
	for i := range w.nodes {
		w.until(fmt.Sprintf("%s has in force what statuses say", w.rack.Balancers[i].Name), func() string {
			vips := map[netip.Addr]bool{}
			err := w.nodes[i].Client().Services(w.ctx, nil, func(s *api.Service) error {
				vips[netip.MustParseAddr(s.VIP)] = true
				return nil
			})
			if err != nil {
				return err.Error()
			}
			if !maps.EqualFunc(owners, vips, func(string, bool) bool { return true }) {
				return fmt.Sprintf("%d VIPs in force, %d in statuses", len(vips), len(owners))
			}
			return ""
		})
	}
	return owners
}

// TestThousandServices makes 1,000 Services at once and deletes them again, and while
// they go it makes others: every address has one owner at any time, and at the end all
// are free.
func TestThousandServices(t *testing.T) {
	t.Parallel()
	const n, again = 1000, 200
	w := startWorld(t, worldConfig{
		pools: "[[kubernetes.pool]]\nname = \"many\"\naddresses = [\"198.18.64.0/22\"]\n",
	})
	const ns = "many"
	w.namespace(ns)
	service := func(i int) *corev1.Service { return newService(ns, fmt.Sprintf("s%04d", i), webPort()) }
	began := time.Now()
	parallel(n, func(i int) {
		if _, err := w.kube.CoreV1().Services(ns).Create(w.ctx, service(i), metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	first := w.exact(ns, n)
	t.Logf("%d Services created and in force in %v", n, time.Since(began).Round(time.Millisecond))
	pool := netip.MustParsePrefix("198.18.64.0/22")
	for a := range first {
		if !pool.Contains(a) {
			t.Errorf("%s is in no pool", a)
		}
	}
	// The node begins anew: nothing moves.
	w.must(w.nodes[0].Stop())
	w.must(w.nodes[0].Launch(w.ctx))
	if now := w.exact(ns, n); !maps.Equal(now, first) {
		t.Error("addresses have moved with a restart")
	}
	began = time.Now()
	parallel(n+again, func(i int) {
		if i < n {
			if err := w.kube.CoreV1().Services(ns).Delete(w.ctx, service(i).Name, deleteNow); err != nil {
				t.Error(err)
			}
		} else if _, err := w.kube.CoreV1().Services(ns).Create(w.ctx, service(i), metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	w.until("those that are deleted are gone", func() string {
		list, err := w.kube.CoreV1().Services(ns).List(w.ctx, metav1.ListOptions{})
		w.must(err)
		if len(list.Items) != again {
			return fmt.Sprintf("%d are there", len(list.Items))
		}
		return ""
	})
	w.exact(ns, again)
	parallel(again, func(i int) {
		if err := w.kube.CoreV1().Services(ns).Delete(w.ctx, service(n+i).Name, deleteNow); err != nil {
			t.Error(err)
		}
	})
	w.exact(ns, 0)
	t.Logf("%d Services deleted, %d created and deleted in %v", n, again, time.Since(began).Round(time.Millisecond))
	w.balance()
}

// TestTwoWriters has two nodes that know nothing of each other, and both of which
// write: the names of their Leases differ. No address ever has two owners, and
// everything has one.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{balancers: 2, each: func(i int) string { return fmt.Sprintf("lease_name = \"writer%d\"\n", i) }})
	const ns, n = "race", 60
	w.namespace(ns)
	// More than the pool has: who gets none is told so, and gets one when another goes.
	const free = 80
	parallel(n, func(i int) {
		s := newService(ns, fmt.Sprintf("s%03d", i), webPort())
		if _, err := w.kube.CoreV1().Services(ns).Create(w.ctx, s, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	first := w.exact(ns, n)
	parallel(free, func(i int) {
		s := newService(ns, fmt.Sprintf("s%03d", n+i), webPort())
		if _, err := w.kube.CoreV1().Services(ns).Create(w.ctx, s, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	all := w.exact(ns, free) // which is as many as there are
	for a, name := range first {
		if all[a] != name {
			t.Errorf("%s was that of %s and is that of %s", a, name, all[a])
		}
	}
	for _, name := range first {
		w.must(w.kube.CoreV1().Services(ns).Delete(w.ctx, name, deleteNow))
	}
	w.exact(ns, free) // 60 go, 60 have waited
	list, err := w.kube.CoreV1().Services(ns).List(w.ctx, metav1.ListOptions{})
	w.must(err)
	parallel(len(list.Items), func(i int) {
		if err := w.kube.CoreV1().Services(ns).Delete(w.ctx, list.Items[i].Name, deleteNow); err != nil {
			t.Error(err)
		}
	})
	w.exact(ns, 0)
}

// TestWriterKilled kills the node that writes with -9, of two that are one cluster:
// the other one writes, no address moves, and the first, when it is back, agrees.
func TestWriterKilled(t *testing.T) {
	t.Parallel()
	for _, clustered := range []bool{true, false} {
		t.Run(map[bool]string{true: "cluster", false: "alone"}[clustered], func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, worldConfig{balancers: 2, clustered: clustered})
			const ns = "killed"
			w.namespace(ns)
			var all []*corev1.Service
			for i := range 10 {
				all = append(all, w.create(newService(ns, fmt.Sprintf("before%d", i), webPort())))
			}
			before := w.exact(ns, len(all))
			for round := range 2 {
				writer := w.writer()
				began := time.Now()
				w.kill(writer)
				other := 1 - writer
				s := w.create(newService(ns, fmt.Sprintf("after%d", round), webPort()))
				vip := w.assigned(s, 1)[0]
				w.untilServedBy(other, vip, "tcp 80", 0)
				t.Logf("%s was killed; %s wrote after %v", w.rack.Balancers[writer].Name, w.rack.Balancers[other].Name, time.Since(began).Round(10*time.Millisecond))
				w.must(w.nodes[writer].Launch(w.ctx))
				now := w.exact(ns, len(before)+1)
				for a, name := range before {
					if now[a] != name {
						t.Errorf("%s was that of %s and is that of %s", a, name, now[a])
					}
				}
				before = now
			}
			for _, name := range slices.Sorted(maps.Values(before)) {
				w.must(w.kube.CoreV1().Services(ns).Delete(w.ctx, name, deleteNow))
			}
			w.exact(ns, 0)
		})
	}
}

// writer waits until a node has the Lease, and returns which one.
func (w *world) writer() (node int) {
	w.t.Helper()
	w.until("a node has the Lease", func() string {
		lease, err := w.kube.CoordinationV1().Leases("fairlead-system").Get(w.ctx, "fairlead", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		holder := ""
		if lease.Spec.HolderIdentity != nil {
			holder = *lease.Spec.HolderIdentity
		}
		node = slices.IndexFunc(w.rack.Balancers, func(n *lab.Node) bool {
			return holder == n.Name || strings.HasPrefix(holder, n.Name+"/") || strings.HasPrefix(holder, n.Name+"_")
		})
		if node < 0 {
			return fmt.Sprintf("it is that of %q", holder)
		}
		return ""
	})
	return node
}

// kill ends all processes of a node with -9.
func (w *world) kill(node int) {
	w.t.Helper()
	status, err := w.nodes[node].Status(w.ctx)
	w.must(err)
	w.must(w.nodes[node].Process().Kill())
	for _, pid := range []int{status.Data.PID, status.Data.Standby} {
		if p, err := os.FindProcess(pid); err == nil && pid > 0 {
			_ = p.Kill() // it may have ended with its control process
		}
	}
}
