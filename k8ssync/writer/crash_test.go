package writer_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const strategic = types.StrategicMergePatchType

// A writer that dies at any of its writes, before it is sent or before its answer
// arrives, is followed by one that gets everything right.
func TestWriterThatDiesAnywhere(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for step := int64(1); ; step++ {
			died := false
			t.Run(fmt.Sprintf("write %d, answer lost %t", step, lost), func(t *testing.T) { died = dies(t, step, lost) })
			if t.Failed() {
				return
			}
			if !died {
				if step < 8 {
					t.Errorf("the story has only %d writes", step-1)
				}
				break
			}
		}
	}
}

// dies has a writer die at a write of a story: a Service that comes and goes, one
// that changes its type, and one that stays. It reports whether the writer died.
func dies(t *testing.T, step int64, lost bool) bool {
	r := newRig(t, "lb1", "lb2")
	first, second := r.nodes[0], r.nodes[1]
	dead := make(chan struct{})
	var once sync.Once
	die := func() { once.Do(func() { close(dead) }) }
	if lost {
		first.faults.set(0, step, die)
	} else {
		first.faults.set(step, 0, die)
	}
	first.write()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-dead:
			first.resign()
			second.write()
		case <-t.Context().Done():
		}
	}()
	t.Cleanup(func() { <-done })

	stays := r.create("stays", nil)
	r.create("goes", nil)
	r.create("changes", nil)
	for _, name := range []string{"stays", "goes", "changes"} {
		r.settled(name)
	}
	had := r.addresses("stays")
	r.delete("goes")
	r.patch("changes", `{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`)
	r.gone("goes")
	r.eventually("nothing of ours is left", func() bool {
		svc := r.get("changes")
		return len(svc.Finalizers) == 0 && len(svc.Status.Conditions) == 0
	})
	r.eventually("two addresses are free", func() bool {
		return len(r.holds("goes"))+len(r.holds("changes")) == 0
	})
	svc := r.settled("stays")
	if svc.UID != stays.UID || !slices.Equal(r.addresses("stays"), had) {
		t.Errorf("the one that stays had %v and has %v", had, r.addresses("stays"))
	}
	r.check()
	select {
	case <-dead:
		return true
	default:
		die()
		return false
	}
}

// Two nodes that both write, as can be for a moment when a Lease changes hands,
// come to one result.
func TestTwoWriters(t *testing.T) {
	r := newRig(t, "lb1", "lb2")
	for _, n := range r.nodes {
		n.write()
	}
	const services = 40
	for i := range services {
		r.create(fmt.Sprintf("s%02d", i), nil)
	}
	for i := range services {
		r.settled(fmt.Sprintf("s%02d", i))
	}
	r.check()
	for i := range services {
		switch i % 3 {
		case 0:
			r.delete(fmt.Sprintf("s%02d", i))
		case 1:
			r.patch(fmt.Sprintf("s%02d", i), `{"spec":{"type":"ClusterIP","loadBalancerClass":null}}`)
		}
	}
	for i := range services {
		switch i % 3 {
		case 0:
			r.gone(fmt.Sprintf("s%02d", i))
		case 1:
			r.eventually("it is as it was", func() bool {
				svc := r.get(fmt.Sprintf("s%02d", i))
				return len(svc.Finalizers)+len(svc.Status.Conditions) == 0
			})
		}
	}
	r.eventually("they agree", func() bool { return len(r.reserved()) == services/3 })
	r.check()
}

// Many Services at once. A thousand, with what they put in force, are tested end to end
// (perf/kube/e2e).
func TestManyServices(t *testing.T) {
	const services = 250
	r := newRig(t, "lb1", "lb2")
	r.nodes[0].write()
	began, all, writes := time.Now(), r.nodes[0].faults.all.Load(), r.nodes[0].faults.writes.Load()
	each := func(f func(i int)) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < services; i += 8 {
					f(i)
				}
			})
		}
		wg.Wait()
	}
	name := func(i int) string { return fmt.Sprintf("s%04d", i) }
	each(func(i int) { r.create(name(i), nil) })
	created := time.Since(began)
	count := func(f func(*corev1.Service) bool) int {
		list, err := r.user.CoreV1().Services(r.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range list.Items {
			if f(&list.Items[i]) {
				n++
			}
		}
		return n
	}
	r.eventually("all are served", func() bool {
		time.Sleep(200 * time.Millisecond) // a list of all is no small request
		return count(func(s *corev1.Service) bool { return status(s, "fairlead.io/Programmed") == metav1.ConditionTrue }) == services
	})
	t.Logf("%d Services: created in %s, served after %s, %d requests, %d of them writes, %d Events", services, created.Round(time.Millisecond),
		time.Since(began).Round(time.Millisecond), r.nodes[0].faults.all.Load()-all, r.nodes[0].faults.writes.Load()-writes, r.nodes[0].faults.all.Load()-all-(r.nodes[0].faults.writes.Load()-writes))
	r.check()
	if held := len(r.reserved()); held != services {
		t.Errorf("%d addresses are held", held)
	}
	began, all, writes = time.Now(), r.nodes[0].faults.all.Load(), r.nodes[0].faults.writes.Load()
	each(func(i int) { r.delete(name(i)) })
	r.eventually("all have gone", func() bool {
		time.Sleep(200 * time.Millisecond) // likewise
		return count(func(*corev1.Service) bool { return true }) == 0
	})
	t.Logf("%d Services: gone after %s, %d requests, %d of them writes", services, time.Since(began).Round(time.Millisecond), r.nodes[0].faults.all.Load()-all, r.nodes[0].faults.writes.Load()-writes)
	r.check()
	if held := len(r.reserved()); held != 0 {
		t.Errorf("%d addresses are held", held)
	}
}
