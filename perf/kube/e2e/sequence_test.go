package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"fairlead/controlplane/api"
	"fairlead/k8ssync/v1alpha1"
)

// TestAnySequence makes, changes and deletes objects at random, some hundred times,
// while a node follows. A node that starts afterwards, with nothing but the final
// objects, has the same in force, and nothing in Kubernetes changes by that.
func TestAnySequence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{balancers: 2, options: "default_class = true\n", pools: "# AddressPools alone\n"})
	w.startNode(0)
	q := &sequence{world: w, rand: rand.New(rand.NewPCG(6, 20))}
	w.namespace(q.namespace())
	const rounds, steps = 3, 150
	for round := range rounds {
		for range steps {
			q.step()
		}
		if round == 0 {
			w.startNode(1)
		} else {
			// It remembers nothing of what was in force.
			w.must(os.RemoveAll(filepath.Join(w.dir, w.rack.Balancers[1].Name, "state")))
			w.must(w.nodes[1].Launch(w.ctx))
		}
		before := q.agree(0, 1)
		if round < rounds-1 {
			w.must(w.nodes[1].Stop())
			continue
		}
		// The writer goes, too, and the other one begins afresh with what is recorded.
		w.must(w.nodes[0].Stop())
		if i := w.writer(); i != 1 {
			t.Errorf("%s writes, which has stopped", w.rack.Balancers[i].Name)
		}
		if after := q.agree(1); !maps.EqualFunc(before, after, slices.Equal) {
			t.Errorf("addresses before and after a fresh start of the writer:\n%v\n%v", before, after)
		}
	}
}

// sequence makes steps at random.
type sequence struct {
	*world
	rand *rand.Rand
	log  []string // of steps, for when something is wrong
}

func (q *sequence) namespace() string { return "any" }

// Of each kind there are so many names.
const (
	sequenceServices = 8
	sequenceSlices   = 3 // of each Service
	sequencePools    = 3
	sequenceNodes    = 3
)

// step makes, changes or deletes one object.
func (q *sequence) step() {
	q.t.Helper()
	var err error
	var what string
	switch n := q.rand.IntN(20); {
	case n < 7:
		what, err = q.service()
	case n < 15:
		what, err = q.slice()
	case n < 18:
		what, err = q.pool()
	default:
		what, err = q.node()
	}
	// Names are taken, objects are gone or are not to be changed so: steps that
	// are refused are steps as well.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
		q.t.Fatalf("%s: %v", what, err)
	}
	q.log = append(q.log, fmt.Sprintf("%s: %v", what, err))
}

func (q *sequence) oneOf(n int) bool { return q.rand.IntN(n) == 0 }

func (q *sequence) service() (string, error) {
	name := fmt.Sprintf("s%d", q.rand.IntN(sequenceServices))
	services := q.kube.CoreV1().Services(q.namespace())
	if q.oneOf(5) {
		return "delete " + name, services.Delete(q.ctx, name, deleteNow)
	}
	ports := []corev1.ServicePort{webPort(), namePort(), talkPort()}
	q.rand.Shuffle(len(ports), func(i, j int) { ports[i], ports[j] = ports[j], ports[i] })
	s := newService(q.namespace(), name, ports[:1+q.rand.IntN(3)]...)
	if q.oneOf(4) {
		dual(s)
	}
	if q.oneOf(3) {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if q.oneOf(3) {
		s.Spec.LoadBalancerSourceRanges = []string{"198.18.0.0/24", "2001:db8::/64"}
	}
	if q.oneOf(3) {
		annotated(s, "fairlead.io/sharing-key", fmt.Sprint(q.rand.IntN(2)))
	}
	if q.oneOf(4) {
		annotated(s, "fairlead.io/pool", fmt.Sprintf("p%d", q.rand.IntN(sequencePools+1)))
	}
	if q.oneOf(6) {
		annotated(s, "fairlead.io/addresses", q.rack.VIP4(1+q.rand.IntN(12)).String())
	}
	switch q.rand.IntN(8) {
	case 0:
		s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts, s.Spec.LoadBalancerSourceRanges = corev1.ServiceTypeClusterIP, nil, nil, nil
	case 1:
		s.Spec.LoadBalancerClass = ptr.To("example.com/other")
	case 2:
		s.Spec.LoadBalancerClass = nil
	}
	now, err := services.Get(q.ctx, name, metav1.GetOptions{})
	if err != nil {
		_, err = services.Create(q.ctx, s, metav1.CreateOptions{})
		return "create " + name, err
	}
	now.Annotations = s.Annotations
	s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.HealthCheckNodePort = now.Spec.ClusterIP, now.Spec.ClusterIPs, now.Spec.HealthCheckNodePort
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = now.Spec.IPFamilies, now.Spec.IPFamilyPolicy
	now.Spec = s.Spec
	_, err = services.Update(q.ctx, now, metav1.UpdateOptions{})
	return "update " + name, err
}

func (q *sequence) slice() (string, error) {
	name := fmt.Sprintf("s%d", q.rand.IntN(sequenceServices))
	suffix := fmt.Sprint(q.rand.IntN(sequenceSlices))
	slicesOf := q.kube.DiscoveryV1().EndpointSlices(q.namespace())
	if q.oneOf(6) {
		return "delete slice " + name + "-" + suffix, slicesOf.Delete(q.ctx, name+"-"+suffix, deleteNow)
	}
	family := discoveryv1.AddressTypeIPv4
	if suffix == "2" {
		family = discoveryv1.AddressTypeIPv6
	}
	var endpoints []endpoint
	for _, b := range q.rack.Backends {
		if q.oneOf(3) {
			continue
		}
		endpoints = append(endpoints, []endpoint{ready(b), ready(b), unready(b), draining(b), dying(b)}[q.rand.IntN(5)])
	}
	slice := newSlice(newService(q.namespace(), name, webPort(), namePort(), talkPort()), suffix, family, endpoints...)
	_, err := slicesOf.Update(q.ctx, slice, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = slicesOf.Create(q.ctx, slice, metav1.CreateOptions{})
	}
	return "put slice " + slice.Name, err
}

func (q *sequence) pool() (string, error) {
	i := q.rand.IntN(sequencePools)
	name := fmt.Sprintf("p%d", i)
	if q.oneOf(4) {
		return "delete pool " + name, q.ours.Pools().Delete(q.ctx, name, deleteNow)
	}
	pool := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	// They overlap, and change.
	first := 1 + 3*i + q.rand.IntN(3)
	pool.Spec.Addresses = []string{fmt.Sprintf("%s-%s", q.rack.VIP4(first), q.rack.VIP4(first+3)), q.rack.VIP6(first).String() + "/128"}
	pool.Spec.AutoAssign = ptr.To(!q.oneOf(4))
	pool.Spec.Priority = int32(q.rand.IntN(3))
	now, err := q.ours.Pools().Get(q.ctx, name, metav1.GetOptions{})
	if err != nil {
		_, err = q.ours.Pools().Create(q.ctx, pool, metav1.CreateOptions{})
		return "create pool " + name, err
	}
	now.Spec = pool.Spec
	_, err = q.ours.Pools().Update(q.ctx, now, metav1.UpdateOptions{})
	return "update pool " + name, err
}

func (q *sequence) node() (string, error) {
	b := q.rack.Backends[q.rand.IntN(sequenceNodes)]
	nodes := q.kube.CoreV1().Nodes()
	if q.oneOf(3) {
		return "delete node " + b.Name, nodes.Delete(q.ctx, b.Name, deleteNow)
	}
	labels := map[string]string{"topology.kubernetes.io/zone": fmt.Sprint(q.rand.IntN(2))}
	if q.oneOf(3) {
		labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
	}
	now, err := nodes.Get(q.ctx, b.Name, metav1.GetOptions{})
	if err != nil {
		_, err = nodes.Create(q.ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.Name, Labels: labels}}, metav1.CreateOptions{})
		return "create node " + b.Name, err
	}
	now.Labels = labels
	_, err = nodes.Update(q.ctx, now, metav1.UpdateOptions{})
	return "update node " + b.Name, err
}

// statuses are the addresses of all Services.
func (q *sequence) statuses() map[string][]netip.Addr {
	q.t.Helper()
	list, err := q.kube.CoreV1().Services(q.namespace()).List(q.ctx, metav1.ListOptions{})
	q.must(err)
	all := map[string][]netip.Addr{}
	for i := range list.Items {
		all[list.Items[i].Name] = addresses(&list.Items[i])
	}
	return all
}

// inForce is everything that a node serves: each service with its backends.
func (w *world) inForce(node int) (map[string]string, error) {
	all := map[string]string{}
	err := w.nodes[node].Client().Services(w.ctx, url.Values{"backends": {"true"}}, func(s *api.Service) error {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s %s %s table %s", s.VIP, s.Protocol, s.Ports, s.Method, s.Table)
		for _, k := range s.Backends {
			fmt.Fprintf(&b, "; %s %s:%d weight %d", k.Name, k.Address, k.Port, k.Weight)
		}
		all[s.Name] = b.String()
		return nil
	})
	return all, err
}

// agree waits until nodes have the same in force, all reservations are those of
// statuses, and nothing changes any more. It returns the addresses of all Services.
func (q *sequence) agree(nodes ...int) map[string][]netip.Addr {
	q.t.Helper()
	var before map[string][]netip.Addr
	calm := 0
	defer func() {
		if q.t.Failed() {
			q.t.Logf("the steps:\n%s", strings.Join(q.log, "\n"))
		}
	}()
	q.until("a node that has followed and one that began afresh agree", func() string {
		now := q.statuses()
		one, err := q.inForce(nodes[0])
		if err != nil {
			return err.Error()
		}
		for _, i := range nodes[1:] {
			two, err := q.inForce(i)
			if err != nil {
				return err.Error()
			}
			if !maps.Equal(one, two) {
				calm = 0
				return fmt.Sprintf("one has\n%v\nand the other\n%v", one, two)
			}
		}
		vips := map[netip.Addr]bool{}
		for _, all := range now {
			for _, a := range all {
				vips[a] = true
			}
		}
		reserved := map[netip.Addr]bool{}
		list, err := q.ours.Reservations().List(q.ctx, metav1.ListOptions{})
		q.must(err)
		for _, r := range list.Items {
			a, err := v1alpha1.ReservationAddress(r.Name)
			q.must(err)
			reserved[a] = true
		}
		if !maps.Equal(vips, reserved) {
			calm = 0
			return fmt.Sprintf("statuses have %v, reservations %v", vips, reserved)
		}
		if !reflect.DeepEqual(before, now) {
			before, calm = now, 0
			return "statuses change"
		}
		// Calm for as long as a writer takes to look at all of it again.
		if calm++; calm < 100 {
			return "it may change yet"
		}
		return ""
	})
	return before
}
