package v1alpha1_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"fairlead/k8ssync/v1alpha1"
	"fairlead/perf/kube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manifests is where the CRDs and the policy are.
const manifests = "../../configs/kubernetes"

// api is a real API server that has our CRDs and policies.
type api struct {
	*kube.ControlPlane
	ours *v1alpha1.Client
	core *kubernetes.Clientset
}

// TestAPI starts one API server for all tests that need one.
func TestAPI(t *testing.T) {
	cp := kube.ForTest(t, kube.Config{})
	apply(t, cp, "crds/addresspools.yaml", "crds/addressreservations.yaml", "policy.yaml")
	for _, crd := range []string{"addresspools.fairlead.io", "addressreservations.fairlead.io"} {
		if _, err := cp.Kubectl(t.Context(), "wait", "--for=condition=Established", "--timeout=60s", "crd/"+crd); err != nil {
			t.Fatal(err)
		}
	}
	a := &api{ControlPlane: cp}
	var err error
	if a.ours, err = v1alpha1.NewClient(cp.REST()); err != nil {
		t.Fatal(err)
	}
	if a.core, err = kubernetes.NewForConfig(cp.REST()); err != nil {
		t.Fatal(err)
	}
	t.Run("pools", a.testPools)
	t.Run("pool defaults and status", a.testPoolStatus)
	t.Run("range order", a.testRangeOrder)
	t.Run("reservations", a.testReservations)
	t.Run("informers", a.testInformers)
	t.Run("kubectl get", a.testColumns)
	t.Run("documentation", a.testDocumentation)
	t.Run("policy", a.testPolicy)
}

func apply(t *testing.T, cp *kube.ControlPlane, files ...string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(manifests, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := cp.Apply(t.Context(), string(text)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// dry asks the API server what it would say, and changes nothing.
var dry = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// complaints are the messages of an error of the API server, one a line.
func complaints(err error) string {
	if err == nil {
		return ""
	}
	status, ok := err.(errors.APIStatus)
	if !ok {
		return err.Error()
	}
	details := status.Status().Details
	if details == nil || len(details.Causes) == 0 {
		return err.Error()
	}
	var lines []string
	for _, cause := range details.Causes {
		// This one only follows from the others.
		if strings.Contains(cause.Message, "some validation rules were not checked") {
			continue
		}
		lines = append(lines, cause.Field+": "+cause.Message)
	}
	return strings.Join(lines, "\n")
}

func pool(name string, addresses ...string) *v1alpha1.AddressPool {
	return &v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.AddressPoolSpec{Addresses: addresses},
	}
}

func (a *api) testPools(t *testing.T) {
	const canonical = `: is not in canonical form (RFC 5952: lower case, no leading zeros, the longest run of zeros as ::)`
	many := make([]string, 0, 64)
	for i := range 64 {
		many = append(many, fmt.Sprintf("2001:db8:%x:ffff:ffff:ffff:ffff:fffe-2001:db8:%x:ffff:ffff:ffff:ffff:ffff", i, i))
	}
	tests := []struct {
		pool *v1alpha1.AddressPool
		want string // "" is accepted
	}{
		{pool("a", "192.0.2.0/24"), ""},
		{pool("a", "192.0.2.1"), ""},
		{pool("a", "0.0.0.0/0"), ""},
		{pool("a", "::/0"), ""},
		{pool("a", "192.0.2.1/32", "2001:db8::/112", "2001:db8:1::5"), ""},
		{pool("a", "192.0.2.10-192.0.2.20", "2001:db8::a-2001:db8::1:0"), ""},
		{pool("a", "192.0.2.10-192.0.2.10"), ""},
		{pool("a", many...), ""},
		{pool("a"), "spec.addresses: Required value"},
		{&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{}}}, "spec.addresses: Invalid value: 0: spec.addresses in body should have at least 1 items"},
		{pool("a", "web"), `spec.addresses[0]: Invalid value: "web": is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`},
		{pool("a", "192.0.2.1", "192.0.2.256"), `spec.addresses[1]: Invalid value: "192.0.2.256": is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`},
		{pool("a", "192.0.2.01"), `spec.addresses[0]: Invalid value: "192.0.2.01": is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`},
		{pool("a", "::ffff:192.0.2.1"), `spec.addresses[0]: Invalid value: "::ffff:192.0.2.1": is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`},
		{pool("a", "fe80::1%eth0"), `spec.addresses[0]: Invalid value: "fe80::1%eth0": is not an address, a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`},
		{pool("a", "2001:DB8::1"), `spec.addresses[0]: Invalid value: "2001:DB8::1"` + canonical},
		{pool("a", "2001:db8:0:0::1"), `spec.addresses[0]: Invalid value: "2001:db8:0:0::1"` + canonical},
		{pool("a", "192.0.2.0/33"), `spec.addresses[0]: Invalid value: "192.0.2.0/33": is not a prefix such as 192.0.2.0/24 or 2001:db8::/112`},
		{pool("a", "192.0.2.0/024"), `spec.addresses[0]: Invalid value: "192.0.2.0/024": is not a prefix such as 192.0.2.0/24 or 2001:db8::/112`},
		{pool("a", "192.0.2.0/24-192.0.2.9"), `spec.addresses[0]: Invalid value: "192.0.2.0/24-192.0.2.9": is not a prefix such as 192.0.2.0/24 or 2001:db8::/112`},
		{pool("a", "192.0.2.1/24"), `spec.addresses[0]: Invalid value: "192.0.2.1/24": has bits set behind its prefix length`},
		{pool("a", "2001:0db8::/112"), `spec.addresses[0]: Invalid value: "2001:0db8::/112"` + canonical},
		{pool("a", "192.0.2.10 - 192.0.2.20"), `spec.addresses[0]: Invalid value: "192.0.2.10 - 192.0.2.20": is not a range such as 192.0.2.10-192.0.2.20, without spaces`},
		{pool("a", "192.0.2.10-20"), `spec.addresses[0]: Invalid value: "192.0.2.10-20": is not a range such as 192.0.2.10-192.0.2.20, without spaces`},
		{pool("a", "192.0.2.1-192.0.2.2-192.0.2.3"), `spec.addresses[0]: Invalid value: "192.0.2.1-192.0.2.2-192.0.2.3": is not a range such as 192.0.2.10-192.0.2.20, without spaces`},
		{pool("a", "2001:db8::1-2001:DB8::2"), `spec.addresses[0]: Invalid value: "2001:db8::1-2001:DB8::2"` + canonical},
		{pool("a", "192.0.2.1-2001:db8::1"), `spec.addresses[0]: Invalid value: "192.0.2.1-2001:db8::1": has its ends in two families`},
		{pool("a", "192.0.2.20-192.0.2.10"), `spec.addresses[0]: Invalid value: "192.0.2.20-192.0.2.10": ends before it begins`},
		{pool("a", "2001:db8::1:0-2001:db8::ffff"), `spec.addresses[0]: Invalid value: "2001:db8::1:0-2001:db8::ffff": ends before it begins`},
		{pool("a", "192.0.2.1", "192.0.2.1"), `spec.addresses[1]: Duplicate value: "192.0.2.1"`},
	}
	for _, test := range tests {
		_, err := a.ours.Pools().Create(t.Context(), test.pool, dry)
		if got := complaints(err); got != test.want {
			t.Errorf("%v:\n%s\nwant\n%s", test.pool.Spec.Addresses, got, test.want)
		}
	}
	with := func(change func(*v1alpha1.AddressPoolSpec)) *v1alpha1.AddressPool {
		p := pool("a", "192.0.2.0/24")
		change(&p.Spec)
		return p
	}
	for _, test := range []struct {
		pool *v1alpha1.AddressPool
		want string
	}{
		{with(func(s *v1alpha1.AddressPoolSpec) { s.Namespaces = []string{"web", "db"} }), ""},
		{with(func(s *v1alpha1.AddressPoolSpec) { s.Namespaces = []string{"Web"} }), `spec.namespaces[0]: Invalid value: "Web": spec.namespaces[0] in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'`},
		{with(func(s *v1alpha1.AddressPoolSpec) {
			s.ServiceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn}}}
		}), `spec.serviceSelector.matchExpressions[0]: Invalid value: In and NotIn need values`},
		{with(func(s *v1alpha1.AddressPoolSpec) {
			s.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpExists, Values: []string{"b"}}}}
		}), `spec.namespaceSelector.matchExpressions[0]: Invalid value: Exists and DoesNotExist take no values`},
	} {
		_, err := a.ours.Pools().Create(t.Context(), test.pool, dry)
		if got := complaints(err); got != test.want {
			t.Errorf("%v:\n%s\nwant\n%s", test.pool.Spec, got, test.want)
		}
	}
}

// testRangeOrder compares the rule by which a range's ends are in order with the
// order of addresses, for ends that differ in any one bit.
func (a *api) testRangeOrder(t *testing.T) {
	for _, base := range []string{"203.0.113.170", "2001:db8:5555:aaaa:0:f0f0:1234:8001"} {
		first := netip.MustParseAddr(base)
		for bit := range first.BitLen() {
			raw := first.AsSlice()
			raw[bit/8] ^= 0x80 >> (bit % 8)
			last, _ := netip.AddrFromSlice(raw)
			_, err := a.ours.Pools().Create(t.Context(), pool("a", first.String()+"-"+last.String()), dry)
			if ok := first.Less(last); ok != (err == nil) {
				t.Errorf("%s-%s: %v", first, last, err)
			}
		}
	}
}

func (a *api) testPoolStatus(t *testing.T) {
	pools := a.ours.Pools()
	made, err := pools.Create(t.Context(), pool("status", "192.0.2.0/28", "2001:db8::/64"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Spec.AutoAssign == nil || !*made.Spec.AutoAssign {
		t.Error("a pool that does not say so is not assigned from automatically")
	}
	made.Status = v1alpha1.AddressPoolStatus{
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()}},
		IPv4:       &v1alpha1.AddressCounts{Total: 16, Assigned: 3, Reserved: 1, Free: 12},
		IPv6:       &v1alpha1.AddressCounts{Total: 1<<63 - 1, Free: 1<<63 - 1},
		Conflicts:  []v1alpha1.PoolConflict{{Pool: "b", Addresses: "192.0.2.1", Owner: "b"}},
	}
	made.Spec.Priority = 7 // the status subresource does not write it
	updated, err := pools.UpdateStatus(t.Context(), made, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Spec.Priority != 0 || updated.Status.IPv4.Free != 12 || updated.Status.IPv6.Total != 1<<63-1 {
		t.Errorf("after an update of the status: %+v %+v", updated.Spec, updated.Status)
	}
	patched, err := pools.Patch(t.Context(), "status", types.MergePatchType, []byte(`{"spec":{"priority":3}}`), metav1.PatchOptions{})
	if err != nil || patched.Spec.Priority != 3 || patched.Status.IPv4 == nil {
		t.Errorf("after a patch: %+v, %v", patched, err)
	}
	if err := pools.Delete(t.Context(), "status", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := pools.Get(t.Context(), "status", metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("a deleted pool: %v", err)
	}
}

func reservation(name, address string) *v1alpha1.AddressReservation {
	return &v1alpha1.AddressReservation{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.AddressReservationSpec{Address: address},
	}
}

func (a *api) testReservations(t *testing.T) {
	const six = "2001-0db8-0000-0000-0000-0000-0000-0001"
	held := reservation("192.0.2.9", "192.0.2.9")
	now := metav1.NowMicro()
	held.Spec.Pool, held.Spec.Retain = "a", true
	held.Spec.ReservedFor = &v1alpha1.ObjectReference{Namespace: "default", Name: "web"}
	held.Spec.Holders = []v1alpha1.Holder{{
		Kind: v1alpha1.KindService, Namespace: "default", Name: "web", UID: "1", SharingKey: "k", SharingNamespaces: []string{"*"},
		Ports: []v1alpha1.HolderPort{{Protocol: "TCP", Port: 80}}, Claimed: &now,
	}}
	twice := reservation("192.0.2.9", "192.0.2.9")
	twice.Spec.Holders = []v1alpha1.Holder{{Kind: "Service", Namespace: "a", Name: "b"}, {Kind: "Service", Namespace: "a", Name: "b"}}
	pod := reservation("192.0.2.9", "192.0.2.9")
	pod.Spec.Holders = []v1alpha1.Holder{{Kind: "Pod", Namespace: "a", Name: "b"}}
	for _, test := range []struct {
		reservation *v1alpha1.AddressReservation
		want        string
	}{
		{held, ""},
		{reservation("192.0.2.1", "192.0.2.1"), ""},
		{reservation(six, "2001:db8::1"), ""},
		{reservation("0000-0000-0000-0000-0000-0000-0000-0000", "::"), ""},
		{reservation("web", "192.0.2.1"), `spec.address: Invalid value: the name of a reservation follows from its address: for 192.0.2.1 it is 192.0.2.1`},
		{reservation("192.0.2.2", "192.0.2.1"), `spec.address: Invalid value: the name of a reservation follows from its address: for 192.0.2.1 it is 192.0.2.1`},
		{reservation("2001-db8-0-0-0-0-0-1", "2001:db8::1"), `spec.address: Invalid value: the name of a reservation follows from its address: for 2001:db8::1 it is all of its digits, with hyphens for colons, such as 2001-0db8-0000-0000-0000-0000-0000-0001`},
		{reservation(six, "2001:db8::2"), `spec.address: Invalid value: the name of a reservation follows from its address: for 2001:db8::2 it is all of its digits, with hyphens for colons, such as 2001-0db8-0000-0000-0000-0000-0000-0001`},
		{reservation("web", "web"), `spec.address: Invalid value: "web": is not an address`},
		{reservation(six, "2001:DB8::1"), `spec.address: Invalid value: "2001:DB8::1": is not in canonical form (RFC 5952: lower case, no leading zeros, the longest run of zeros as ::)`},
		{twice, `spec.holders[1]: Duplicate value: {"kind":"Service","name":"b","namespace":"a"}`},
		{pod, `spec.holders[0].kind: Unsupported value: "Pod": supported values: "Service", "Gateway"`},
	} {
		_, err := a.ours.Reservations().Create(t.Context(), test.reservation, dry)
		if got := complaints(err); got != test.want {
			t.Errorf("%s of %s:\n%s\nwant\n%s", test.reservation.Name, test.reservation.Spec.Address, got, test.want)
		}
	}

	all := a.ours.Reservations()
	made, err := all.Create(t.Context(), held, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Spec.ReservedFor.Kind != v1alpha1.KindService || made.Spec.Holders[0].Claimed.Time.UnixMicro() != now.UnixMicro() {
		t.Errorf("made: %+v", made.Spec)
	}
	if _, err := all.Create(t.Context(), held, metav1.CreateOptions{}); !errors.IsAlreadyExists(err) {
		t.Errorf("a second reservation of an address: %v", err)
	}
	made.Spec.Address = "192.0.2.10"
	_, err = all.Update(t.Context(), made, metav1.UpdateOptions{})
	want := "spec.address: Invalid value: the name of a reservation follows from its address: for 192.0.2.10 it is 192.0.2.10"
	if got := complaints(err); got != want {
		t.Errorf("another address:\n%s\nwant\n%s", got, want)
	}
	stale := made.DeepCopy()
	stale.Spec.Address, stale.ResourceVersion = "192.0.2.9", "1"
	if _, err := all.Update(t.Context(), stale, metav1.UpdateOptions{}); !errors.IsConflict(err) {
		t.Errorf("an update of an old version: %v", err)
	}
	if err := all.Delete(t.Context(), made.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func (a *api) testInformers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pools := cache.NewSharedInformer(a.ours.WatchPools(), &v1alpha1.AddressPool{}, 0)
	reservations := cache.NewSharedInformer(a.ours.WatchReservations(), &v1alpha1.AddressReservation{}, 0)
	done := make(chan struct{}, 2)
	for _, informer := range []cache.SharedInformer{pools, reservations} {
		go func() {
			informer.Run(ctx.Done())
			done <- struct{}{}
		}()
	}
	defer func() {
		cancel()
		<-done
		<-done
	}()
	if !cache.WaitForCacheSync(ctx.Done(), pools.HasSynced, reservations.HasSynced) {
		t.Fatal("no sync")
	}
	if _, err := a.ours.Pools().Create(ctx, pool("seen", "192.0.2.0/28"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ours.Reservations().Create(ctx, reservation("192.0.2.3", "192.0.2.3"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "informers see what is made", func() error {
		if _, ok, _ := pools.GetStore().GetByKey("seen"); !ok {
			return fmt.Errorf("no pool")
		}
		if _, ok, _ := reservations.GetStore().GetByKey("192.0.2.3"); !ok {
			return fmt.Errorf("no reservation")
		}
		return nil
	})
	if err := a.ours.Pools().Delete(ctx, "seen", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if err := a.ours.Reservations().Delete(ctx, "192.0.2.3", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// eventually polls until check has no error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

// testColumns shows what an operator sees.
func (a *api) testColumns(t *testing.T) {
	p, err := a.ours.Pools().Create(t.Context(), pool("column", "192.0.2.0/28"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status = v1alpha1.AddressPoolStatus{
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()},
			{Type: v1alpha1.ConditionConflict, Status: metav1.ConditionFalse, Reason: "None", LastTransitionTime: metav1.Now()},
		},
		IPv4: &v1alpha1.AddressCounts{Total: 16, Assigned: 3, Reserved: 1, Free: 12},
	}
	if _, err := a.ours.Pools().UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := reservation("192.0.2.9", "192.0.2.9")
	r.Spec.Pool = "column"
	r.Spec.Holders = []v1alpha1.Holder{{Kind: v1alpha1.KindService, Namespace: "default", Name: "web"}}
	if _, err := a.ours.Reservations().Create(t.Context(), r, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want [][]string // fields of each line; the age is left out
	}{
		{[]string{"get", "apool"}, [][]string{
			{"NAME", "AUTO", "READY", "CONFLICT", "IPV4-ASSIGNED", "IPV4-FREE", "IPV6-ASSIGNED", "IPV6-FREE", "AGE"},
			{"column", "true", "True", "False", "3", "12"},
		}},
		{[]string{"get", "ares"}, [][]string{
			{"NAME", "ADDRESS", "POOL", "HELD-BY", "NAMESPACES", "RETAIN", "RESERVED-FOR", "AGE"},
			{"192.0.2.9", "192.0.2.9", "column", "web", "default"},
		}},
	} {
		out, err := a.Kubectl(t.Context(), test.args...)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != len(test.want) {
			t.Errorf("kubectl %v:\n%s", test.args, out)
			continue
		}
		for i, want := range test.want {
			got := strings.Fields(lines[i])
			if len(got) > len(want) {
				got = got[:len(want)]
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("kubectl %v: line %q, want %v", test.args, lines[i], want)
			}
		}
	}
	if err := a.ours.Pools().Delete(t.Context(), "column", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if err := a.ours.Reservations().Delete(t.Context(), "192.0.2.9", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// testDocumentation has the API server look at the objects in the documentation.
func (a *api) testDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes-addresses.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(text, -1)
	if len(blocks) < 3 {
		t.Fatalf("%d objects", len(blocks))
	}
	for _, block := range blocks {
		file := filepath.Join(t.TempDir(), "object.yaml")
		if err := os.WriteFile(file, block[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := a.Kubectl(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-f", file); err != nil {
			t.Errorf("%s\n%s\n%v", block[1], out, err)
		}
	}
}
