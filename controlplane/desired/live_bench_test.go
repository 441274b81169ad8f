package desired

import (
	"fmt"
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
)

// BenchmarkLive changes groups among 5,000 with four backends each: the backends of
// one, and one service more or less.
func BenchmarkLive(b *testing.B) {
	const groups = 5000
	s := Open(Config{Parse: parse, RemovalGuard: 100, Live: []string{liveSource}})
	if _, err := s.Begin(declaration(SourceFile, state(service("own", 1, "own"), pool("own", 1))), nil); err != nil {
		b.Fatal(err)
	}
	s.Attach(func(*Desired) error { return nil })
	make1 := func(n, shift int) model.Group {
		p := model.Pool{Name: fmt.Sprintf("p%d", n)}
		for i := range 4 {
			p.Backends = append(p.Backends, model.Backend{Address: netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(i + shift)}), Port: 80, Weight: 1})
		}
		svc := service(fmt.Sprintf("s%d", n), 1, p.Name)
		svc.VIP = netip.AddrFrom4([4]byte{198, 19, byte(1 + n>>8), byte(n)})
		return model.Group{Name: fmt.Sprintf("g%d", n), Services: []model.Service{svc}, Pools: []model.Pool{p}}
	}
	var all []model.Group
	for n := range groups {
		all = append(all, make1(n, 1))
	}
	if refused, err := s.Live(liveSource).Replace(all); err != nil || len(refused) > 0 {
		b.Fatal(err, refused)
	}
	b.Run("backends", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Live(liveSource).Change([]model.Group{make1(i%groups, 2+i%100)}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("service", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			var err error
			if i%2 == 0 {
				_, err = s.Live(liveSource).Change([]model.Group{make1(groups+1, 1)}, nil)
			} else {
				_, err = s.Live(liveSource).Change(nil, []string{fmt.Sprintf("g%d", groups+1)})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
