package writer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/writer"
)

func TestServiceGetsAnAddress(t *testing.T) {
	r := newRig(t, "lb1", "lb2")
	r.nodes[0].write()
	r.create("web", nil)
	svc := r.settled("web")
	proxy := corev1.LoadBalancerIPModeProxy
	want := []corev1.LoadBalancerIngress{{IP: "198.18.64.1", IPMode: &proxy, Ports: []corev1.PortStatus{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	got, _ := json.Marshal(svc.Status.LoadBalancer.Ingress)
	expected, _ := json.Marshal(want)
	if string(got) != string(expected) {
		t.Errorf("status %s, expected %s", got, expected)
	}
	if !slices.Contains(svc.Finalizers, kube.Finalizer) {
		t.Error("it has no finalizer")
	}
	if c := condition(svc, writer.ConditionAddress); c.Status != metav1.ConditionTrue || c.Reason != "Assigned" || c.Message != "198.18.64.1" {
		t.Errorf("%+v", c)
	}
	if c := condition(svc, writer.ConditionProgrammed); c.Reason != "Programmed" || c.Message != "Programmed on 2 of 2 nodes" {
		t.Errorf("%+v", c)
	}
	if len(svc.Status.Conditions) != 2 {
		t.Errorf("conditions %+v", svc.Status.Conditions)
	}
	r.check()

	out, err := control.Kubectl(t.Context(), "get", "svc", "-n", r.namespace, "web")
	if err != nil || !strings.Contains(out, " 198.18.64.1 ") {
		t.Errorf("kubectl get svc: %s, %v", out, err)
	}
	r.eventually("kubectl describe shows the Event", func() bool {
		out, err := control.Kubectl(t.Context(), "describe", "svc", "-n", r.namespace, "web")
		return err == nil && strings.Contains(out, "AddressAssigned") && strings.Contains(out, "Address 198.18.64.1 is assigned") &&
			strings.Contains(out, "LoadBalancer Ingress:") && strings.Contains(out, "198.18.64.1 (Proxy)")
	})
}

func TestDualStackInTheOrderOfTheFamilies(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	both := corev1.IPFamilyPolicyRequireDualStack
	r.create("web", func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &both, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		s.Annotations = map[string]string{"test/vip": "yes"}
	})
	svc := r.settled("web")
	if got := r.addresses("web"); !slices.Equal(got, []string{"2001:db8:64::1", "198.18.64.1"}) {
		t.Errorf("addresses %v", got)
	}
	if c := condition(svc, writer.ConditionAddress); c.Message != "2001:db8:64::1, 198.18.64.1" {
		t.Errorf("%+v", c)
	}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		if *i.IPMode != corev1.LoadBalancerIPModeVIP {
			t.Errorf("mode %s", *i.IPMode)
		}
	}
	r.check()
}

// Services of other classes, of no class and of other types are not touched.
func TestOthersAreNotTouched(t *testing.T) {
	r := newRig(t, "lb1")
	other := "example.com/other"
	foreign := []*corev1.Service{
		r.create("classed", func(s *corev1.Service) {
			s.Spec.LoadBalancerClass = &other
			s.Finalizers = []string{kube.Finalizer}
		}),
		r.create("classless", func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil; s.Finalizers = []string{kube.Finalizer} }),
		r.create("clusterip", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
			s.Finalizers = []string{kube.Finalizer}
		}),
	}
	r.patch("classed", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.18.64.1"}]},"conditions":[{"type":"example.com/x","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, "status")
	foreign[0] = r.get("classed")
	r.nodes[0].write()
	r.create("ours", nil)
	r.settled("ours")
	r.delete("classed") // waits for its own provider
	r.nodes[0].writer.TouchAll()
	r.create("second", nil)
	r.settled("second")
	for _, was := range foreign[1:] {
		if is := r.get(was.Name); is == nil || is.ResourceVersion != was.ResourceVersion {
			t.Errorf("%s has been touched", was.Name)
		}
	}
	is := r.get("classed")
	if is == nil || !slices.Contains(is.Finalizers, kube.Finalizer) || len(is.Status.LoadBalancer.Ingress) != 1 || len(is.Status.Conditions) != 1 {
		t.Errorf("the Service of another class has been touched: %+v", is)
	}
	for _, was := range foreign {
		r.patch(was.Name, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["`+kube.Finalizer+`"]}}`)
	}
}

// What others have in the status stays, and what they empty or change of ours is
// written again, with the same address.
func TestStatusIsRestored(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("web", nil)
	r.settled("web")
	r.patch("web", `{"status":{"conditions":[{"type":"example.com/theirs","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, "status")
	r.patch("web", `{"status":{"loadBalancer":{"ingress":null}}}`, "status")
	r.eventually("the address is back", func() bool { return slices.Equal(r.addresses("web"), []string{"198.18.64.1"}) })
	r.patch("web", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.18.70.1"},{"ip":"198.18.70.2"}]}}}`, "status")
	r.eventually("the address is back", func() bool { return slices.Equal(r.addresses("web"), []string{"198.18.64.1"}) })
	r.patch("web", `{"status":{"conditions":[{"type":"`+writer.ConditionAddress+`","status":"False","reason":"X","message":"lie"}]}}`, "status")
	r.eventually("the condition is true", func() bool { return status(r.get("web"), writer.ConditionAddress) == metav1.ConditionTrue })
	r.patch("web", `{"metadata":{"$deleteFromPrimitiveList/finalizers":["`+kube.Finalizer+`"]}}`)
	r.eventually("the finalizer is back", func() bool { return slices.Contains(r.get("web").Finalizers, kube.Finalizer) })
	svc := r.settled("web")
	if status(svc, "example.com/theirs") != metav1.ConditionTrue {
		t.Error("a condition of others has gone")
	}
	r.check()
}

// kubectl apply, a controller that owns other fields, and the writer do not undo
// what the others do.
func TestApplyAndTheWriterDoNotFight(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	manifest := func(port int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: %s, labels: {v: \"%d\"}}\nspec:\n  type: LoadBalancer\n  loadBalancerClass: %s\n  ports: [{name: http, port: %d}]\n", r.namespace, port, r.class, port)
	}
	for port := 80; port < 84; port++ {
		if err := control.Apply(t.Context(), manifest(port)); err != nil {
			t.Fatal(err)
		}
		r.eventually("the status follows the ports", func() bool {
			svc := r.get("web")
			return len(svc.Status.LoadBalancer.Ingress) == 1 && svc.Status.LoadBalancer.Ingress[0].Ports[0].Port == int32(port) && status(svc, writer.ConditionProgrammed) == metav1.ConditionTrue
		})
	}
	if got := r.addresses("web"); !slices.Equal(got, []string{"198.18.64.1"}) {
		t.Errorf("addresses %v", got)
	}
	// Nothing is written any more.
	version := r.get("web").ResourceVersion
	writes := r.nodes[0].faults.writes.Load()
	r.nodes[0].writer.TouchAll()
	r.create("after", nil)
	r.settled("after")
	if is := r.get("web").ResourceVersion; is != version {
		t.Errorf("the Service was written without a reason: %s, %s", version, is)
	}
	if n := r.nodes[0].faults.writes.Load() - writes; n > 4 {
		t.Errorf("a new Service took %d writes", n)
	}
}

func TestNoAddressIsExplained(t *testing.T) {
	r := newRigOf(t, 1, "lb1")
	r.nodes[0].write()
	r.create("first", nil)
	r.settled("first")
	r.create("second", nil)
	r.eventually("it is told", func() bool { return status(r.get("second"), writer.ConditionAddress) == metav1.ConditionFalse })
	svc := r.get("second")
	if c := condition(svc, writer.ConditionAddress); c.Reason != "PoolExhausted" || c.Message != fmt.Sprintf("no IPv4 address is free in pool %q", r.namespace) {
		t.Errorf("%+v", c)
	}
	if c := condition(svc, writer.ConditionProgrammed); c.Status == metav1.ConditionTrue {
		t.Errorf("%+v", c)
	}
	r.eventually("there is an Event", func() bool { return len(r.events("second", "PoolExhausted")) == 1 })
	// It gets the address as soon as there is one.
	r.delete("first")
	r.settled("second")
	r.check()
}

// events are the notes of a Service's Events with a reason.
func (r *rig) events(name, reason string) []string {
	r.t.Helper()
	list, err := r.user.EventsV1().Events(r.namespace).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Name == name && e.Reason == reason {
			out = append(out, e.Note)
		}
	}
	return out
}

func TestProblemsAndPortsAreTold(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("web", func(s *corev1.Service) {
		s.Annotations = map[string]string{"test/problem": "fairlead.io/metod: did you mean fairlead.io/method?", "test/unserved": "53"}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
	})
	svc := r.settled("web")
	if c := condition(svc, writer.ConditionProblems); c.Status != metav1.ConditionTrue || c.Reason != "BadAnnotation" || c.Message != "fairlead.io/metod: did you mean fairlead.io/method?" {
		t.Errorf("%+v", c)
	}
	if c := condition(svc, writer.ConditionPorts); c.Status != metav1.ConditionTrue || c.Reason != "NoRoom" || c.Message != "port 53 has no room" {
		t.Errorf("%+v", c)
	}
	ports := svc.Status.LoadBalancer.Ingress[0].Ports
	if len(ports) != 2 || ports[0].Error != nil || ports[1].Error == nil || *ports[1].Error != "fairlead.io/NoRoom" || ports[1].Protocol != corev1.ProtocolUDP {
		t.Errorf("ports %+v", ports)
	}
	r.eventually("there are Events", func() bool {
		return len(r.events("web", "BadAnnotation")) == 1 && len(r.events("web", "LoadBalancerPortsError")) == 1
	})
	r.patch("web", `{"metadata":{"annotations":{"test/problem":null,"test/unserved":null}}}`)
	r.eventually("the conditions go with the problems", func() bool {
		svc := r.get("web")
		return condition(svc, writer.ConditionProblems).Type == "" && condition(svc, writer.ConditionPorts).Type == "" && svc.Status.LoadBalancer.Ingress[0].Ports[1].Error == nil
	})
}

// What another provider has in the status of a Service without our finalizer is
// taken out before nodes could go by it.
func TestAddressesOfAnotherProviderAreNotServed(t *testing.T) {
	r := newRig(t, "lb1")
	r.create("web", nil)
	r.patch("web", `{"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.7"}]}}}`, "status")
	r.create("name", nil)
	r.patch("name", `{"status":{"loadBalancer":{"ingress":[{"hostname":"lb.example.com"}]}}}`, "status")
	r.create("kept", nil)
	r.patch("kept", `{"status":{"loadBalancer":{"ingress":[{"ip":"198.18.64.200"}]}}}`, "status")
	watched, err := r.user.CoreV1().Services(r.namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Stop()
	r.nodes[0].write()
	for _, name := range []string{"web", "name", "kept"} {
		r.settled(name)
	}
	if got := r.addresses("kept"); !slices.Equal(got, []string{"198.18.64.200"}) {
		t.Errorf("an address of the pool that was there before is %v now", got)
	}
	r.check()
	r.create("last", nil)
	for e := range watched.ResultChan() {
		svc, is := e.Object.(*corev1.Service)
		if !is {
			t.Fatalf("%+v", e)
		}
		if svc.Name == "last" {
			break
		}
		if !slices.Contains(svc.Finalizers, kube.Finalizer) {
			continue
		}
		for _, i := range svc.Status.LoadBalancer.Ingress {
			if i.IP == "203.0.113.7" || i.Hostname != "" {
				t.Errorf("%s had our finalizer and %s%s in its status", svc.Name, i.IP, i.Hostname)
			}
		}
	}
}

func TestFailingAllocationIsToldAndTriedAgain(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("first", nil)
	r.settled("first")
	r.fail(errors.New("the reservations cannot be read"))
	r.create("web", nil)
	r.eventually("there is an Event", func() bool {
		return slices.Equal(r.events("web", "AllocationFailed"), []string{"the reservations cannot be read"})
	})
	r.fail(nil)
	r.settled("web")
}

func TestBadConfig(t *testing.T) {
	if _, err := writer.New(writer.Config{}); err == nil || err.Error() != "writer: a part of its configuration is missing" {
		t.Error(err)
	}
}
