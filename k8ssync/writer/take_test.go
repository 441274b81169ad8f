package writer_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/k8ssync/kube"
	"fairlead/k8ssync/writer"
)

func TestDeletedServiceGivesItsAddressBack(t *testing.T) {
	r := newRig(t, "lb1", "lb2")
	r.nodes[0].write()
	r.create("web", nil)
	r.settled("web")
	r.delete("web")
	r.gone("web")
	if got := r.holds("web"); len(got) != 0 {
		t.Errorf("%v are reserved for it", got)
	}
	r.check()
	r.eventually("there is an Event", func() bool {
		return slices.Equal(r.events("web", writer.EventReleased), []string{"Given back: 198.18.64.1"})
	})
}

func TestServiceOfAnotherTypeGivesItsAddressBack(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("web", nil)
	r.settled("web")
	for _, to := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort} {
		r.patch("web", `{"status":{"conditions":[{"type":"example.com/theirs","status":"True","reason":"X","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, "status")
		r.patch("web", `{"spec":{"type":"`+string(to)+`","loadBalancerClass":null}}`)
		r.eventually("nothing of ours is left", func() bool {
			svc := r.get("web")
			return len(svc.Finalizers) == 0 && len(svc.Status.Conditions) == 1 && svc.Status.Conditions[0].Type == "example.com/theirs" && len(r.holds("web")) == 0
		})
		r.check()
		r.patch("web", `{"spec":{"type":"LoadBalancer","loadBalancerClass":"`+r.class+`"}}`)
		r.settled("web")
		r.check()
	}
}

// An address is not given back while a node that is connected serves it, and not
// held for ever by one that is cut off.
func TestAddressIsHeldUntilNodesHaveStopped(t *testing.T) {
	r := newRigOf(t, 1, "lb1", "lb2", "lb3")
	r.nodes[0].write()
	r.create("web", nil)
	r.settled("web")
	lb3 := r.nodes[2]
	lb3.cutOff(true)
	r.create("next", nil)
	r.eventually("the next waits", func() bool { return status(r.get("next"), writer.ConditionAddress) == metav1.ConditionFalse })
	r.delete("web")
	r.eventually("its status is empty", func() bool { return len(r.addresses("web")) == 0 })
	if svc := r.get("web"); svc == nil || !slices.Contains(svc.Finalizers, kube.Finalizer) {
		t.Error("it did not wait for the node that is cut off")
	}
	lb3.cutOff(false)
	r.gone("web")
	r.settled("next")
	r.check() // nothing was too early

	lb3.cutOff(true)
	r.delete("next")
	r.gone("next") // though lb3 does not answer
	lb3.cutOff(false)
}

// An address that a Service leaves for another one is not given back before the
// nodes have stopped to serve it, either.
func TestAddressThatIsLeft(t *testing.T) {
	r := newRig(t, "lb1", "lb2")
	r.nodes[0].write()
	r.create("web", nil)
	r.settled("web")
	r.patch("web", `{"metadata":{"annotations":{"test/address":"198.18.64.77"}}}`)
	r.eventually("it has the other address and the first is free", func() bool {
		return slices.Equal(r.addresses("web"), []string{"198.18.64.77"}) && len(r.holds("web")) == 1
	})
	r.settled("web")
	r.check()
	r.eventually("it is told", func() bool {
		return slices.Equal(r.events("web", writer.EventReleased), []string{"Address 198.18.64.1 is its no more"})
	})
}

// Nobody is to take the finalizer off; when somebody has, and the Service has gone,
// its address comes back all the same.
func TestServiceThatGoesWithoutWaiting(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("web", nil)
	first := r.settled("web")
	for range 3 { // the writer puts it back for as long as the Service is there
		r.user.CoreV1().Services(r.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{})
		r.patchIfThere("web", `{"metadata":{"$deleteFromPrimitiveList/finalizers":["`+kube.Finalizer+`"]}}`)
	}
	r.eventually("the first has gone", func() bool { svc := r.get("web"); return svc == nil || svc.UID != first.UID })
	r.eventually("its address is free", func() bool { return len(r.holds("web")) == 0 })
	r.create("web", nil)
	r.settled("web")
	r.check()
}

// A Service that is made again under its name at once is another one.
func TestServiceMadeAgain(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	for range 5 {
		r.create("web", nil)
		r.settled("web")
		r.delete("web")
		r.gone("web")
	}
	r.create("web", nil)
	r.delete("web") // perhaps before anything was written
	r.gone("web")
	r.create("web", nil)
	r.settled("web")
	r.check()
}

// The condition tells on which nodes a Service is in force, and why not on the
// others.
func TestProgrammedIsTrue(t *testing.T) {
	r := newRig(t, "lb1", "lb2", "lb3")
	lb2 := r.nodes[1]
	r.nodes[0].write()
	r.create("web", nil)
	key := keyOf(r.settled("web"))
	says := func(status metav1.ConditionStatus, reason, message string) {
		t.Helper()
		last := metav1.Condition{}
		defer func() {
			if t.Failed() {
				t.Logf("it says %s, %s, %q", last.Status, last.Reason, last.Message)
			}
		}()
		r.eventually(fmt.Sprintf("it says %s, %s, %q", status, reason, message), func() bool {
			last = condition(r.get("web"), writer.ConditionProgrammed)
			return last.Status == status && last.Reason == reason && last.Message == message
		})
	}
	says(metav1.ConditionTrue, "Programmed", "Programmed on 3 of 3 nodes")

	lb2.mu.Lock()
	lb2.refuses = map[string]string{key.Group(): "the VIP is declared by the file"}
	lb2.mu.Unlock()
	lb2.tell()
	says(metav1.ConditionFalse, "PartlyProgrammed", "Programmed on 2 of 3 nodes: lb2 cannot put it in force (the VIP is declared by the file)")
	r.eventually("there is an Event", func() bool { return len(r.events("web", "PartlyProgrammed")) == 1 })
	lb2.mu.Lock()
	lb2.refuses = nil
	lb2.mu.Unlock()
	lb2.tell()
	says(metav1.ConditionTrue, "Programmed", "Programmed on 3 of 3 nodes")

	// A node that is cut off goes on with what it has; of what is new it has nothing.
	lb2.cutOff(true)
	r.create("new", nil)
	r.eventually("the new one is not everywhere", func() bool {
		return condition(r.get("new"), writer.ConditionProgrammed).Message == "Programmed on 2 of 3 nodes: lb2 has no connection to the API server (cut off)"
	})
	says(metav1.ConditionTrue, "Programmed", "Programmed on 3 of 3 nodes")
	lb2.cutOff(false)
	r.settled("new")

	r.club.leave("lb3")
	says(metav1.ConditionTrue, "Programmed", "Programmed on 2 of 2 nodes")
	r.club.as("silent")
	r.club.tell()
	says(metav1.ConditionFalse, "PartlyProgrammed", "Programmed on 2 of 3 nodes: silent takes no part in Kubernetes")
}

// A class-less Service that we are to serve no more is left as it was.
func TestServiceThatIsNotOursAnyMore(t *testing.T) {
	r := newRig(t, "lb1")
	r.nodes[0].write()
	r.create("web", func(s *corev1.Service) {
		s.Spec.LoadBalancerClass = nil
		s.Labels = map[string]string{"test/ours": r.label()}
	})
	r.settled("web")
	r.patch("web", `{"metadata":{"labels":{"test/ours":null}}}`)
	r.eventually("nothing of ours is left", func() bool {
		svc := r.get("web")
		return len(svc.Finalizers)+len(svc.Status.Conditions)+len(svc.Status.LoadBalancer.Ingress) == 0
	})
	r.check()
}

// label is what class-less Services of the rig have.
func (r *rig) label() string { return r.namespace }

func (r *rig) patchIfThere(name, patch string) {
	_, _ = r.user.CoreV1().Services(r.namespace).Patch(r.t.Context(), name, strategic, []byte(patch), metav1.PatchOptions{})
}
