package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/v1alpha1"
)

// permutations are all orders of 0 to n-1.
func permutations(n int) (all [][]int) {
	var extend func(have []int)
	extend = func(have []int) {
		if len(have) == n {
			all = append(all, slices.Clone(have))
			return
		}
		for i := range n {
			if !slices.Contains(have, i) {
				extend(append(have, i))
			}
		}
	}
	extend(nil)
	return all
}

// TestEveryOrder writes a pool, a Service and its two slices in every order, and
// deletes them in every order: the Service ends up with the pool's address and both
// endpoints, and nothing is left.
func TestEveryOrder(t *testing.T) {
	t.Parallel()
	w := startWorld(t, worldConfig{pools: "# AddressPools alone\n"})
	type object struct{ make, remove func() }
	orders := permutations(4)
	vips := make([]netip.Addr, len(orders))
	all := make([][]object, len(orders))
	for i, order := range orders {
		ns := fmt.Sprintf("order%d", i)
		w.namespace(ns)
		vips[i] = w.rack.VIP4(1 + i)
		s := newService(ns, "web", webPort())
		s1 := newSlice(s, "one", discoveryv1.AddressTypeIPv4, ready(w.rack.Backends[0]))
		s2 := newSlice(s, "two", discoveryv1.AddressTypeIPv4, ready(w.rack.Backends[1]))
		pool := &v1alpha1.AddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: ns},
			Spec:       v1alpha1.AddressPoolSpec{Addresses: []string{vips[i].String() + "/32"}, Namespaces: []string{ns}},
		}
		slice := func(one *discoveryv1.EndpointSlice) object {
			return object{func() { w.put(one) }, func() { w.must(w.kube.DiscoveryV1().EndpointSlices(ns).Delete(w.ctx, one.Name, deleteNow)) }}
		}
		all[i] = []object{
			{func() {
				_, err := w.ours.Pools().Create(w.ctx, pool, metav1.CreateOptions{})
				w.must(err)
			}, func() { w.must(w.ours.Pools().Delete(w.ctx, pool.Name, deleteNow)) }},
			{func() { w.create(s) }, func() { w.must(w.kube.CoreV1().Services(ns).Delete(w.ctx, s.Name, deleteNow)) }},
			slice(s1), slice(s2),
		}
		for _, n := range order {
			all[i][n].make()
		}
	}
	for i := range orders {
		s := newService(fmt.Sprintf("order%d", i), "web")
		if got := w.assigned(s, 1)[0]; got != vips[i] {
			t.Errorf("order %v: address %s, want %s", orders[i], got, vips[i])
		}
		w.untilServed(vips[i], "tcp 80", 2)
		if tally := w.web(vips[i], 20); len(tally.ByServer) != 2 {
			t.Errorf("order %v: answers of %v, want both", orders[i], tally.ByServer)
		}
	}
	for i, order := range orders {
		for _, n := range order {
			all[i][n].remove()
		}
	}
	for i := range orders {
		w.until(fmt.Sprintf("order %v: the Service is gone", orders[i]), func() string {
			_, err := w.kube.CoreV1().Services(fmt.Sprintf("order%d", i)).Get(w.ctx, "web", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return fmt.Sprintf("it is there: %v", err)
			}
			return ""
		})
		w.untilServed(vips[i], "tcp 80", -1)
	}
	w.until("no address is reserved", func() string {
		if left := w.reserved(); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	w.balance("service_empty", "service_not_found", "backend_gone", "flow_not_found", "tcp_not_syn")
}
