package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/maglev"
)

// large is a state of n services on as many VIPs, each with a pool of ten
// backends of its own.
func large(n int) (*model.State, *model.Observations) {
	s := &model.State{SNATs: []model.SNAT{{Address: ip("198.19.255.1")}}}
	obs := &model.Observations{
		Interfaces: []model.Interface{{Name: "eth0", Index: 2, MTU: 1500, MAC: mac(1)}},
		NextHops:   make(map[netip.Addr]model.NextHop, 10*n),
	}
	for i := range n {
		p := model.Pool{Name: fmt.Sprintf("namespace/service-%d", i)}
		for j := range 10 {
			b := model.Backend{Address: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j + 1)}), Port: 8080, Weight: 1}
			p.Backends = append(p.Backends, b)
			obs.NextHops[b.Address] = model.NextHop{Interface: "eth0", MAC: mac(byte(i)), Resolved: true}
		}
		s.Pools = append(s.Pools, p)
		s.Services = append(s.Services, model.Service{
			Name: p.Name, VIP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i) | 1}), Protocol: model.TCP,
			Ports: model.PortRange{First: uint16(80 + i&1), Last: uint16(80 + i&1)}, Pool: p.Name, Method: model.NAT,
		})
	}
	return s, obs
}

// TestLargeImage: 10,000 services with 10 backends each, all different, are an
// image of less than 40 MiB, and a change of one pool builds one table.
func TestLargeImage(t *testing.T) {
	state, obs := large(10000)
	cache := &maglev.Cache{}
	first, s := compile(t, state, obs, nil, Options{Tables: cache})
	if s.Size() > 40<<20 {
		t.Errorf("the image has %d bytes", s.Size())
	}
	t.Logf("the image has %.1f MiB", float64(s.Size())/(1<<20))
	if cache.Built() != 10000 {
		t.Errorf("%d tables were built, want 10000", cache.Built())
	}
	state.Pools[77].Backends = state.Pools[77].Backends[1:]
	second, s := compile(t, state, obs, first.IDs, Options{Tables: cache})
	if cache.Built() != 10001 || cache.Len() != 10000 {
		t.Errorf("after one change %d tables were built and %d are remembered, want 10001 and 10000", cache.Built(), cache.Len())
	}
	if len(second.Warnings) != 0 || len(s.NextHops()) != 256 {
		t.Errorf("warnings are %q, next hops %d", second.Warnings, len(s.NextHops()))
	}
}

func BenchmarkCompile(b *testing.B) {
	state, obs := large(10000)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := Compile(state, obs, nil, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	cache := &maglev.Cache{}
	first, err := Compile(state, obs, nil, Options{Tables: cache})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("again", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			state.Pools[n%10000].Backends[0].Weight = 1 + n%2
			if _, err := Compile(state, obs, first.IDs, Options{Tables: cache}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		for b.Loop() {
			if errs := model.Validate(state); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := first.Builder.Encode(1); err != nil {
				b.Fatal(err)
			}
		}
	})
}
