package allocate

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
)

// testRace: two writers that know nothing of each other assign addresses to the same five
// hundred Services, and write statuses.
func testRace(t *testing.T, w *world, ns string) {
	// Each writer may reserve an address for each Service, before one learns that the
	// other was faster: there is room for that.
	const services, workers, room = 500, 6, 1024
	pool := []kube.AddressPool{aPool("big", "198.18.0.0/22", "2001:db8:5::/112")}
	class := "fairlead.io/lb"
	all := make([]*corev1.Service, services)
	parallel(t, services, func(i int) error {
		s, err := w.core.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i)},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &class, Ports: []corev1.ServicePort{{Port: 80}}},
		}, metav1.CreateOptions{})
		all[i] = s
		return err
	})
	var lost atomic.Int32
	write := func(a *Allocator, s *corev1.Service) error {
		for range 20 {
			assignment, err := a.Ensure(t.Context(), requestOf(s))
			if err != nil {
				return err
			}
			if len(assignment.Addresses) != 1 {
				return fmt.Errorf("%s: %v", s.Name, assignment)
			}
			next := s.DeepCopy()
			next.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: assignment.Addresses[0].String()}}
			_, err = w.core.CoreV1().Services(ns).UpdateStatus(t.Context(), next, metav1.UpdateOptions{})
			if !apierrors.IsConflict(err) {
				return err
			}
			lost.Add(1)
			if s, err = w.core.CoreV1().Services(ns).Get(t.Context(), s.Name, metav1.GetOptions{}); err != nil {
				return err
			}
		}
		return fmt.Errorf("%s: too many conflicts", s.Name)
	}
	// Both have begun before either works: they are told that no Service is there, and
	// would give back what the other one has reserved.
	writers := [2]*Allocator{}
	for n := range writers {
		writers[n] = w.allocator(t, func(c *Config) { c.Pools = pool })
	}
	var group sync.WaitGroup
	for n, a := range writers {
		for k := range workers {
			group.Go(func() {
				for j := k; j < services; j += workers {
					i := j
					if n == 1 && k%2 == 1 {
						i = (j + services/2) % services // not all in the same order
					}
					if err := write(a, all[i]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	group.Wait()

	// Each status has an address of its own, which is reserved for its Service.
	list, err := w.core.CoreV1().Services(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string][]string{}
	for _, r := range w.reservations(t) {
		for _, h := range r.Spec.Holders {
			owners[r.Spec.Address] = append(owners[r.Spec.Address], h.Name)
		}
	}
	requests := make([]Request, 0, services)
	of := map[string]string{}
	for i := range list.Items {
		s := &list.Items[i]
		requests = append(requests, requestOf(s))
		address := s.Status.LoadBalancer.Ingress[0].IP
		if other, ok := of[address]; ok {
			t.Errorf("%s is in the status of %s and of %s", address, other, s.Name)
		}
		of[address] = s.Name
		if !slices.Equal(owners[address], []string{s.Name}) {
			t.Errorf("%s is in the status of %s and reserved for %v", address, s.Name, owners[address])
		}
	}
	t.Logf("%d statuses were written by the other writer first; %d addresses are reserved for %d Services", lost.Load(), len(owners), services)

	// The next writer finds what has been left over, and nothing is lost.
	c := w.allocator(t, func(c *Config) { c.Pools, c.Grace = pool, time.Nanosecond }, requests...)
	parallel(t, services, func(i int) error {
		assignment, err := c.Ensure(t.Context(), requests[i])
		if err != nil {
			return err
		}
		if !slices.Equal(assignment.Addresses, requests[i].Held) {
			return fmt.Errorf("%s moves from %v to %v", requests[i].Key, requests[i].Held, assignment.Addresses)
		}
		return c.Release(t.Context(), requests[i].Key, assignment.Addresses...)
	})
	if got := len(w.reservations(t)); got != services {
		t.Errorf("%d reservations for %d Services", got, services)
	}
	p := c.Pools()[0]
	if p.IPv4.Assigned != services || p.IPv4.Free != room-services {
		t.Errorf("the pool has %+v", *p.IPv4)
	}
	// All of them go.
	parallel(t, services, func(i int) error { return c.Release(t.Context(), requests[i].Key) })
	w.expectLedger(t)
	if p := c.Pools()[0]; p.IPv4.Free != room {
		t.Errorf("the pool has %+v", *p.IPv4)
	}
}

func requestOf(s *corev1.Service) Request {
	r := Request{
		Key: kube.Key{Kind: kube.Service, Namespace: s.Namespace, Name: s.Name}, UID: string(s.UID),
		Families: []ledger.Family{ledger.IPv4}, Ports: []ledger.Port{{Protocol: "TCP", Port: 80}}, Created: s.CreationTimestamp.Time,
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		r.Held = append(r.Held, netip.MustParseAddr(i.IP))
	}
	return r
}

// parallel calls f for 0 to n-1, several at a time.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
