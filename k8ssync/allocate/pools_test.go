package allocate

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/v1alpha1"
)

func testPoolStatus(t *testing.T, w *world, ns string) {
	create := func(name string, addresses ...string) {
		t.Helper()
		_, err := w.ours.Pools().Create(t.Context(), &v1alpha1.AddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	create("a", "198.51.100.0/31")
	create("b", "198.51.100.1-198.51.100.4", "2001:db8:1::/64")
	create("p", "203.0.113.0/24")
	var looks atomic.Int32
	a := w.allocator(t, func(c *Config) { c.Changed = func([]kube.Key) { looks.Add(1) } })
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { a.Run(ctx) })
	defer group.Wait()
	defer cancel()
	stop := w.follow(t, a)
	defer stop()
	a.expect(t, ask(ns, "s", wants("198.51.100.0")), "[198.51.100.0]")
	a.expect(t, ask(ns, "t", wants("198.51.100.1")), "[198.51.100.1]")

	says := func(name string) string {
		p, err := w.ours.Pools().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		text := ""
		for _, c := range []*v1alpha1.AddressCounts{p.Status.IPv4, p.Status.IPv6} {
			if c == nil {
				text += "- "
			} else {
				text += fmt.Sprintf("%d+%d+%d=%d ", c.Assigned, c.Reserved, c.Free, c.Total)
			}
		}
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionConflict, v1alpha1.ConditionExhausted} {
			if c := meta.FindStatusCondition(p.Status.Conditions, kind); c != nil {
				text += fmt.Sprintf("\n%s %s %s: %s", kind, c.Status, c.Reason, c.Message)
			}
		}
		return text
	}
	expect := func(name, want string) {
		t.Helper()
		eventually(t, "pool "+name, func() error {
			if got := says(name); got != want {
				return fmt.Errorf("says\n%s\nwant\n%s", got, want)
			}
			return nil
		})
	}
	expect("a", `2+0+0=2 - 
Ready True Ready: addresses are given out
Conflict True Overlap: pool "b" lists 198.51.100.1, too; pool "a" has them, which is first by name
Exhausted True NoneFree: no IPv4 address is free`)
	expect("b", `0+0+3=3 0+0+9223372036854775807=9223372036854775807 
Ready True Ready: addresses are given out
Conflict True Overlap: pool "a" lists 198.51.100.1, too; pool "a" has them, which is first by name
Exhausted False SomeFree: addresses are free`)
	expect("p", `- - 
Ready False NotUsable: the configuration of the nodes has a pool of this name
Conflict False NoOverlap: no other pool lists its addresses
Exhausted False SomeFree: addresses are free`)

	// A new pool is used at once; what a pool that is gone has given out stays.
	before := looks.Load()
	create("c", "198.51.100.64/31")
	eventually(t, "a new pool", func() error {
		if looks.Load() == before {
			return fmt.Errorf("nobody is told of it")
		}
		return nil
	})
	a.expect(t, ask(ns, "u", wants("198.51.100.65")), "[198.51.100.65]")
	expect("c", `1+0+1=2 - 
Ready True Ready: addresses are given out
Conflict False NoOverlap: no other pool lists its addresses
Exhausted False SomeFree: addresses are free`)
	if err := w.ours.Pools().Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("b", `1+0+3=4 0+0+9223372036854775807=9223372036854775807 
Ready True Ready: addresses are given out
Conflict False NoOverlap: no other pool lists its addresses
Exhausted False SomeFree: addresses are free`)
	a.expect(t, ask(ns, "s", held("198.51.100.0")), "[198.51.100.0]\nWarning AddressOutsidePools: 198.51.100.0 is in no address pool any more; the service keeps it until it asks for another one")
	for _, name := range []string{"b", "c", "p"} {
		if err := w.ours.Pools().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func testPolicy(t *testing.T, w *world, ns string) {
	maps := w.core.CoreV1().ConfigMaps(ns)
	a := w.allocator(t, func(c *Config) {
		c.Policy = &Policy{ConfigMaps: maps, Name: "addresses", Lease: "l", Class: "example.com/b", DefaultClass: true}
		c.Pools = []kube.AddressPool{aPool("p", "192.0.2.10-192.0.2.20", "2001:db8::/112"), aPool("q", "192.0.2.0/28", "10.0.0.1")}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { a.Run(ctx) })
	expect := func(want string) {
		t.Helper()
		eventually(t, "the policy's addresses", func() error {
			m, err := maps.Get(t.Context(), "addresses", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := strings.ReplaceAll(m.Data["prefixes"], "\n", " ") + " " + m.Data["default-class"]; got != want {
				return fmt.Errorf("says %q, want %q", got, want)
			}
			return nil
		})
	}
	expect("10.0.0.1/32 192.0.2.0/28 192.0.2.10/31 192.0.2.12/30 192.0.2.16/30 192.0.2.20/32 2001:db8::/112 true")
	a.PoolEvent(nil, &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"::1"}}})
	expect("10.0.0.1/32 192.0.2.0/28 192.0.2.10/31 192.0.2.12/30 192.0.2.16/30 192.0.2.20/32 ::1/128 2001:db8::/112 true")
	cancel()
	group.Wait()

	// The next writer knows which classes were served.
	for _, c := range []struct{ lease, class, earlier string }{
		{"l", "example.com/b", "[]"}, {"l", "example.com/a", "[example.com/b]"}, {"another", "example.com/c", "[]"}, {"l", "example.com/b", "[example.com/a]"},
	} {
		a := w.allocator(t, func(cfg *Config) {
			cfg.Policy = &Policy{ConfigMaps: maps, Name: "addresses", Lease: c.lease, Class: c.class}
		})
		if err := a.tellPolicy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := a.EarlierClasses(t.Context()); err != nil || fmt.Sprint(got) != c.earlier {
			t.Errorf("class %s: earlier ones %v, %v; want %s", c.class, got, err, c.earlier)
		}
	}
}
