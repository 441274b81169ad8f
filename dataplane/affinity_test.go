package dataplane_test

import (
	"fmt"
	"testing"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

const stickyMS = 60_000

func stickyService(s *fib.Service) { s.Affinity, s.AffinityMS = 1, stickyMS }

// leave changes the first pool so that Maglev has another choice for the
// client than its present backend, which stays up.
func (n *node) leave(backend uint32) {
	n.b.Backends[backend].Weight = 0
	n.repool(0)
	n.b.Backends[backend].Weight = 1
	n.publish()
}

// TestAffinity asserts that a client's connections go to one backend until its
// timeout after the last new one, whatever becomes of the table, and not for
// longer.
func TestAffinity(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodIPIP, fib.MethodL2} {
		t.Run(method.String(), func(t *testing.T) {
			n := newNode(t, pooled(method, packet.ProtoTCP, stickyService))
			port := 1000
			next := func() uint32 {
				port++
				v := n.tcp(fmt.Sprintf("203.0.113.9:%d", port), pooledVIP, syn)
				n.expect(v, reason.ForwardNew)
				return v.Backend
			}
			home := next()
			n.leave(home)
			for range 5 {
				n.now += stickyMS - 1000 // each new connection begins the time anew
				if got := next(); got != home {
					t.Fatalf("the client is at backend %d and was at %d", got, home)
				}
			}
			n.now += stickyMS
			if next() == home {
				t.Fatal("the client is still there after its time")
			}
		})
	}
}

// TestAffinityLeaves asserts that affinity is not kept to a backend that takes
// no new flows, and begins anew with the next one.
func TestAffinityLeaves(t *testing.T) {
	for name, change := range map[string]func(*fib.Backend){
		"down":      func(b *fib.Backend) { b.Flags = fib.BackendDown },
		"draining":  func(b *fib.Backend) { b.Flags = fib.BackendDraining },
		"weight 0":  func(b *fib.Backend) { b.Weight = 0 },
		"slot used": func(b *fib.Backend) { b.ID, b.Weight = fib.MakeID(b.ID.Slot(), 2), 0 },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, pooled(fib.MethodNAT, packet.ProtoTCP, stickyService))
			home := n.tcp("203.0.113.9:1000", pooledVIP, syn).Backend
			before := n.b.Backends[home]
			change(&n.b.Backends[home])
			n.repool(0)
			moved := n.tcp("203.0.113.9:1001", pooledVIP, syn)
			if moved.Reason != reason.ForwardNew || moved.Backend == home {
				t.Fatalf("%+v", moved)
			}
			n.b.Backends[home] = before
			n.repool(0)
			if v := n.tcp("203.0.113.9:1002", pooledVIP, syn); v.Backend != moved.Backend {
				t.Errorf("the client goes to backend %d and has moved to %d", v.Backend, moved.Backend)
			}
		})
	}
}

// TestAffinityOfUsedTuple asserts that affinity also holds for a connection on
// the tuple of one that has ended, or whose service was replaced.
func TestAffinityOfUsedTuple(t *testing.T) {
	for _, method := range []fib.Method{fib.MethodNAT, fib.MethodL2} {
		n := newNode(t, pooled(method, packet.ProtoTCP, stickyService))
		home, _ := n.connect("203.0.113.9:1000", pooledVIP)
		n.tcp("203.0.113.9:1000", pooledVIP, rst)
		n.leave(home)
		if v := n.tcp("203.0.113.9:1000", pooledVIP, syn); v.Reason != reason.ForwardNew || v.Backend != home {
			t.Errorf("%v: after a reset: %+v %v, home is %d", method, v, v.Reason, home)
		}
		n.b.Services[1].ID = fib.MakeID(1, 2)
		n.publish()
		if v := n.tcp("203.0.113.9:1000", pooledVIP, syn); v.Reason != reason.ForwardNew || v.Backend != home {
			t.Errorf("%v: after the service was replaced: %+v %v, home is %d", method, v, v.Reason, home)
		}
	}
}

// TestAffinityIsOfOneService asserts that two services of one VIP and pool keep
// a client apart.
func TestAffinityIsOfOneService(t *testing.T) {
	other := pooled(fib.MethodL2, packet.ProtoTCP, stickyService)
	other.port = 81
	n := newNode(t, pooled(fib.MethodL2, packet.ProtoTCP, stickyService), other)
	home := n.tcp("203.0.113.9:1000", pooledVIP, syn).Backend
	v := n.tcp("203.0.113.9:1000", "198.18.100.1:81", syn)
	if n.b.Backends[v.Backend].Pool != 1 {
		t.Fatalf("%+v", v)
	}
	if v := n.tcp("203.0.113.9:1001", pooledVIP, syn); v.Backend != home {
		t.Errorf("%+v", v)
	}
}

// TestAffinityOver asserts that a client whose time is over may go anywhere, and
// that its connections have one backend again from then on; and that a client of
// which nothing is known goes where its address alone leads.
func TestAffinityOver(t *testing.T) {
	n := newNode(t, pooled(fib.MethodIPIP, packet.ProtoTCP, stickyService))
	port := 1000
	next := func() uint32 {
		port++
		v := n.tcp(fmt.Sprintf("203.0.113.9:%d", port), pooledVIP, syn)
		n.expect(v, reason.ForwardNew)
		return v.Backend
	}
	first := next()
	met := map[uint32]int{first: 1}
	for range 40 {
		n.now += stickyMS + 1000
		home := next()
		met[home]++
		for range 3 {
			if got := next(); got != home {
				t.Fatalf("within its time the client went from backend %d to %d", home, got)
			}
		}
	}
	if len(met) < 2 {
		t.Errorf("however often its time was over, the client went to %v", met)
	}
	n.now += 2*stickyMS + 1000
	if got := next(); got != first {
		t.Errorf("a client of which nothing is known any more went to %d, at first to %d", got, first)
	}
}
