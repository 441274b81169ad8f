package property

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"fairlead/controlplane/model"
	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/ledger"
	"fairlead/k8ssync/options"
	"fairlead/k8ssync/translate"
)

// history is a cluster that has come to where it is step by step, with a writer and a
// node that have followed it.
type history struct {
	settings kube.Settings
	// What Kubernetes has. Statuses and finalizers are the writer's.
	services map[kube.Key]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	nodes    map[string]*corev1.Node
	pools    map[string]kube.AddressPool
	clock    time.Time

	ledger *ledger.Ledger         // the writer's
	groups map[string]model.Group // in force on the node
}

func newHistory() *history {
	return &history{
		settings: kube.Settings{
			Enabled: true, Class: kube.Class, DefaultClass: true, Method: kube.Pods, LocalMethod: kube.Nodes, NodesVia: model.IPIP, Zone: "a",
		},
		services: map[kube.Key]*corev1.Service{}, slices: map[string]*discoveryv1.EndpointSlice{},
		nodes: map[string]*corev1.Node{}, pools: map[string]kube.AddressPool{},
		clock:  time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		ledger: ledger.New(nil), groups: map[string]model.Group{},
	}
}

// keys are those of all Services, sorted.
func (h *history) keys() []kube.Key {
	return slices.SortedFunc(maps.Keys(h.services), kube.Key.Compare)
}

// request is what a Service asks of the ledger.
func (h *history) request(svc *corev1.Service) ledger.Request {
	o, _ := options.Parse(svc, h.settings.Flavors)
	r := ledger.Request{
		Key: translate.KeyOf(svc), Options: o, Labels: svc.Labels, Held: translate.VIPs(svc), Created: svc.CreationTimestamp.Time,
	}
	for _, f := range svc.Spec.IPFamilies {
		family := ledger.IPv4
		if f == corev1.IPv6Protocol {
			family = ledger.IPv6
		}
		r.Families = append(r.Families, family)
	}
	r.Required = *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	for _, p := range svc.Spec.Ports {
		r.Ports = append(r.Ports, ledger.Port{Protocol: string(p.Protocol), Port: uint16(p.Port)})
	}
	return r
}

// write has the writer look at a Service, and reports whether it has changed anything.
func (h *history) write(key kube.Key) bool {
	svc := h.services[key]
	if svc == nil || !translate.Serves(svc, h.settings) {
		released := h.ledger.Release(key)
		if svc != nil {
			svc.Finalizers, svc.Status = nil, corev1.ServiceStatus{}
		}
		return len(released) > 0
	}
	before := h.held(key)
	d := h.ledger.Assign(h.request(svc))
	svc.Finalizers = []string{kube.Finalizer}
	record(svc, d.Addresses)
	h.ledger.Release(key, d.Addresses...)
	return !reflect.DeepEqual(before, h.held(key))
}

// held are the reservations of what an object holds. Others may wait for one of them
// to be given back, and also for its ports or its sharing key to be others.
func (h *history) held(key kube.Key) (all []ledger.Reservation) {
	for _, a := range h.ledger.Holds(key) {
		r, _ := h.ledger.Reservation(a)
		all = append(all, r)
	}
	return all
}

// record puts addresses into a Service's status.
func record(svc *corev1.Service, addrs []netip.Addr) {
	svc.Status.LoadBalancer.Ingress = nil
	for _, a := range addrs {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
	}
}

// settle has the writer look at some Services, and at all others for as long as
// something changes: somebody may wait for what was given back.
func (h *history) settle(keys ...kube.Key) error {
	again := false
	for _, key := range keys {
		again = h.write(key) || again
	}
	for round := 0; again; round++ {
		if round > 100 {
			return fmt.Errorf("the writer does not come to rest:\n%s", h)
		}
		again = false
		for _, key := range h.keys() {
			again = h.write(key) || again
		}
	}
	return nil
}

// program has the node look at a Service.
func (h *history) program(key kube.Key) {
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		delete(h.groups, translate.GroupName(key, family))
	}
	if svc := h.services[key]; svc != nil {
		for _, g := range h.translate(svc).Groups {
			h.groups[g.Name] = g
		}
	}
}

func (h *history) translate(svc *corev1.Service) translate.Output {
	o, _ := options.Parse(svc, h.settings.Flavors)
	in := translate.Input{Service: svc, Options: o, Settings: h.settings}
	for _, name := range slices.Sorted(maps.Keys(h.slices)) {
		if s := h.slices[name]; s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
			in.Slices = append(in.Slices, s)
		}
	}
	if translate.NeedsNodes(svc, o, h.settings) {
		in.Nodes = translate.NodesOf(slices.Collect(maps.Values(h.nodes)))
	}
	return translate.Service(in)
}

// fresh is the same cluster for a writer and a node that have just been started. With
// reservations it also knows those that are recorded; without, somebody has deleted
// them all.
func (h *history) fresh(reservations bool) *history {
	f := newHistory()
	f.slices, f.nodes, f.pools, f.clock = h.slices, h.nodes, h.pools, h.clock
	for key, svc := range h.services {
		f.services[key] = svc.DeepCopy()
	}
	f.ledger = ledger.New(slices.Collect(maps.Values(h.pools)))
	if reservations {
		for _, r := range h.ledger.Reservations() {
			f.ledger.Record(r)
		}
	}
	var all []ledger.Request
	for _, key := range f.keys() {
		if svc := f.services[key]; translate.Serves(svc, f.settings) {
			all = append(all, f.request(svc))
		}
	}
	slices.Reverse(all) // the order does not matter
	f.ledger.Adopt(all)
	return f
}

// compare demands that a fresh start ends up where history is.
func (h *history) compare(reservations bool) error {
	f := h.fresh(reservations)
	if err := f.settle(f.keys()...); err != nil {
		return err
	}
	for _, key := range f.keys() {
		f.program(key)
		is, was := translate.VIPs(f.services[key]), translate.VIPs(h.services[key])
		if !slices.Equal(is, was) {
			return fmt.Errorf("a fresh start (with reservations: %v) gives %s %v; it had %v\n%s", reservations, key, is, was, h)
		}
	}
	if !maps.EqualFunc(f.groups, h.groups, func(a, b model.Group) bool { return reflect.DeepEqual(a, b) }) {
		return fmt.Errorf("a fresh start has in force\n%+v\nand who has followed\n%+v\n%s", f.groups, h.groups, h)
	}
	if reservations && !reflect.DeepEqual(f.ledger.Reservations(), h.ledger.Reservations()) {
		return fmt.Errorf("a fresh start has the reservations\n%+v\nand who has followed\n%+v\n%s", f.ledger.Reservations(), h.ledger.Reservations(), h)
	}
	return nil
}

// check demands what holds at any time: an address has two owners only where both
// share it, and the numbers of pools add up.
func (h *history) check() error {
	owners := map[netip.Addr][]*corev1.Service{}
	for _, key := range h.keys() {
		for _, a := range translate.VIPs(h.services[key]) {
			owners[a] = append(owners[a], h.services[key])
		}
	}
	for a, all := range owners {
		for i, s := range all {
			for _, o := range all[:i] {
				if err := mayShare(s, o); err != nil {
					return fmt.Errorf("%s is that of %s and of %s: %w\n%s", a, s.Name, o.Name, err, h)
				}
			}
		}
		if _, is := h.ledger.Reservation(a); !is {
			return fmt.Errorf("%s is in a status and not in the ledger\n%s", a, h)
		}
	}
	for _, r := range h.ledger.Reservations() {
		if len(r.Holders) != len(owners[r.Address]) {
			return fmt.Errorf("%s has %d holders in the ledger and is in %d statuses\n%s", r.Address, len(r.Holders), len(owners[r.Address]), h)
		}
	}
	for _, p := range h.ledger.Pools() {
		for _, c := range []*ledger.Counts{p.IPv4, p.IPv6} {
			if c != nil && (c.Total != c.Assigned+c.Reserved+c.Free || c.Free < 0) {
				return fmt.Errorf("pool %s: %+v does not add up\n%s", p.Name, *c, h)
			}
		}
	}
	return nil
}

// mayShare is the rule of sharing once more, in the simplest words.
func mayShare(a, b *corev1.Service) error {
	key := func(s *corev1.Service) string { return s.Annotations[options.SharingKey] }
	if key(a) == "" || key(a) != key(b) {
		return fmt.Errorf("sharing keys %q and %q", key(a), key(b))
	}
	if a.Namespace != b.Namespace {
		for _, s := range []*corev1.Service{a, b} {
			if s.Annotations[options.SharingNamespaces] != "*" {
				return fmt.Errorf("%s/%s shares within its namespace", s.Namespace, s.Name)
			}
		}
	}
	for _, p := range a.Spec.Ports {
		for _, q := range b.Spec.Ports {
			if p.Port == q.Port && p.Protocol == q.Protocol {
				return fmt.Errorf("both have %s %d", p.Protocol, p.Port)
			}
		}
	}
	return nil
}

// String is the cluster, for when something is wrong.
func (h *history) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h.pools)) {
		fmt.Fprintf(&b, "pool %+v\n", h.pools[name])
	}
	for _, key := range h.keys() {
		s := h.services[key]
		fmt.Fprintf(&b, "%s %v: type %s, class %v, families %v, ports %v, created %v, has %v\n", key, s.Annotations, s.Spec.Type, s.Spec.LoadBalancerClass != nil,
			s.Spec.IPFamilies, len(s.Spec.Ports), s.CreationTimestamp.Unix(), translate.VIPs(s))
	}
	for _, r := range h.ledger.Reservations() {
		fmt.Fprintf(&b, "reservation %+v\n", r)
	}
	return b.String()
}

// TestAnySequence takes random steps: Services, slices, nodes and pools are made,
// changed and deleted. After any of them the ledger is exact, and every few steps a
// writer and a node that start afresh, with the reservations or without, end up with
// the same addresses in statuses and the same groups in force. FAIRLEAD_STEPS says how
// many steps each of eight clusters takes.
func TestAnySequence(t *testing.T) {
	t.Parallel()
	const seeds, every = 8, 20
	steps := 4000
	if text := os.Getenv("FAIRLEAD_STEPS"); text != "" {
		var err error
		if steps, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			q := newSteps(uint64(seed))
			for step := range steps {
				if err := q.step(); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if err := q.check(); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if step%every != 0 {
					continue
				}
				for _, reservations := range []bool{true, false} {
					if !reservations && !q.known() {
						continue
					}
					if err := q.compare(reservations); err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
				}
			}
		})
	}
}
