package desired

import (
	"fmt"
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
)

// large is a node of 10,000 services, each with a pool of 10 backends.
func large() *model.State {
	s := &model.State{}
	for n := range 10_000 {
		p := model.Pool{Name: fmt.Sprint("p", n)}
		for b := range 10 {
			p.Backends = append(p.Backends, model.Backend{Address: netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(b + 1)}), Port: 80, Weight: 1})
		}
		s.Pools = append(s.Pools, p)
		s.Services = append(s.Services, model.Service{
			Name: fmt.Sprint("s", n), VIP: netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), Protocol: model.TCP, Ports: model.PortRange{First: 80, Last: 80}, Pool: p.Name, Method: model.L2,
		})
	}
	return s
}

// BenchmarkDeclareLarge is a change of one weight in the file of a large node,
// from what was read to what is on disk; BenchmarkSetLarge drains one backend.
func BenchmarkDeclareLarge(b *testing.B) {
	s := Open(Config{Directory: b.TempDir(), RemovalGuard: 50, Parse: parse})
	state := large()
	if _, err := s.Begin(declaration(SourceFile, state), nil); err != nil {
		b.Fatal(err)
	}
	s.Attach(func(*Desired) error { return nil })
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		state = large()
		state.Pools[5000].Backends[5].Weight = 1 + n
		d := declaration(SourceFile, state)
		b.StartTimer()
		if r, err := s.Declare(d, Request{}); err != nil || len(r.Changes) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetLarge(b *testing.B) {
	s := Open(Config{Directory: b.TempDir(), RemovalGuard: 50, Parse: parse})
	if _, err := s.Begin(declaration(SourceFile, large()), nil); err != nil {
		b.Fatal(err)
	}
	s.Attach(func(*Desired) error { return nil })
	n := 0
	for b.Loop() {
		n++
		to := []model.AdminState{model.Drained, model.Disabled}[n%2]
		if r, err := s.SetBackend("p77", "10.0.77.3", Action{State: to}, Request{}); err != nil || len(r.Changes) != 1 {
			b.Fatal(err)
		}
	}
}
