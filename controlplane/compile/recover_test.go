package compile

import (
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// TestRecover asserts that a compilation that goes on from an image gives the
// same identities as one that goes on from the compilation that made it, and
// that an identity that was free is given to nobody.
func TestRecover(t *testing.T) {
	backend := func(n byte) model.Backend {
		return model.Backend{Address: netip.AddrFrom4([4]byte{198, 18, 10, n}), Port: 80, Weight: 1}
	}
	service := func(name string, vip byte, pool string) model.Service {
		return model.Service{Name: name, VIP: netip.AddrFrom4([4]byte{198, 18, 0, vip}), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: pool, Method: model.L2}
	}
	first := &model.State{
		Services: []model.Service{service("a", 1, "p"), service("b", 2, "p"), service("c", 3, "q")},
		Pools:    []model.Pool{{Name: "p", Backends: []model.Backend{backend(1), backend(2), backend(3)}}, {Name: "q", Backends: []model.Backend{backend(1)}}},
	}
	second := &model.State{
		Services: []model.Service{service("c", 3, "q"), service("a", 1, "p")},
		Pools:    []model.Pool{{Name: "p", Backends: []model.Backend{backend(3), backend(1)}}, {Name: "q", Backends: []model.Backend{backend(1)}}},
	}
	third := &model.State{
		Services: []model.Service{service("a", 1, "p"), service("c", 3, "q"), service("d", 4, "p")},
		Pools:    []model.Pool{{Name: "p", Backends: []model.Backend{backend(1), backend(3), backend(4)}}, {Name: "q", Backends: []model.Backend{backend(1)}}},
	}
	compiled := func(s *model.State, ids *IDs) (*Result, *fib.Snapshot) {
		t.Helper()
		r, err := Compile(s, nil, ids, Options{})
		if err != nil {
			t.Fatal(err)
		}
		image, err := r.Builder.Encode(1)
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := fib.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		return r, snapshot
	}
	one, _ := compiled(first, nil)
	_, before := compiled(second, one.IDs)
	found := Recover(before)
	_, after := compiled(third, found.IDs)

	names := func(s *fib.Snapshot) map[string]fib.ID {
		all := make(map[string]fib.ID)
		for i := range s.Services() {
			if svc := &s.Services()[i]; svc.ID != 0 {
				all["service "+s.Name(svc.Name)] = svc.ID
			}
		}
		for i := range s.Backends() {
			if b := &s.Backends()[i]; b.ID != 0 {
				all["backend "+s.Name(s.Pool(b.Pool).Name)+" "+b.Addr.Netip().String()] = b.ID
			}
		}
		return all
	}
	was, is := names(before), names(after)
	for name, id := range was {
		if is[name] != id {
			t.Errorf("%s has identity %#x, it had %#x", name, is[name], id)
		}
	}
	for _, fresh := range []string{"service d", "backend p 198.18.10.4"} {
		for name, id := range names(func() *fib.Snapshot { _, s := compiled(first, nil); return s }()) {
			if is[fresh].Slot() == id.Slot() && fresh[:7] == name[:7] {
				t.Errorf("%s has slot %d, which was %s's", fresh, id.Slot(), name)
			}
		}
	}
	if len(found.Pools) != 2 || len(found.Pools[0].Backends) != 2 || found.Pools[0].Name != "p" {
		t.Errorf("pools %+v", found.Pools)
	}
}
