package controlplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// pair is a publisher with a reader that verifies what it is told, as the data
// process does.
type pair struct {
	images *fib.Images
	mapped [2]*fib.Mapped
	force  int
	seen   *fib.Snapshot
}

func (p *pair) Publish(generation uint64, b *fib.Builder) error {
	p.close()
	var err error
	if p.images, err = fib.NewImages(b, generation); err != nil {
		return err
	}
	if err := p.images.Double(); err != nil {
		return err
	}
	for i, fd := range []int{p.images.FD(), p.images.RestingFD()} {
		if p.mapped[i], err = fib.MapImage(fd); err != nil {
			return err
		}
		if _, err = p.mapped[i].Open(); err != nil {
			return err
		}
	}
	p.force = 0
	p.seen, err = p.mapped[0].Open()
	return err
}

func (p *pair) Patch(generation uint64, patch *fib.Patch) error {
	written, err := p.images.Patch(patch, generation)
	if err != nil {
		return err
	}
	if p.seen, err = p.mapped[1-p.force].Patched(p.seen, written); err != nil {
		return err
	}
	p.force = 1 - p.force
	p.images.Commit()
	return nil
}

func (p *pair) close() {
	if p.images != nil {
		p.images.Close()
		p.mapped[0].Close()
		p.mapped[1].Close()
	}
}

// large is a state of n services, each with a pool of its own of so many
// backends.
func large(n, backends int) (*model.State, *model.Observations) {
	s := &model.State{SNATs: []model.SNAT{{Address: netip.MustParseAddr("198.19.255.1")}}}
	obs := &model.Observations{
		Interfaces: []model.Interface{{Name: "eth0", Index: 2, MTU: 1500, MAC: [6]byte{2}}},
		NextHops:   make(map[netip.Addr]model.NextHop, n*backends),
	}
	for i := range n {
		p := model.Pool{Name: fmt.Sprintf("namespace/service-%d", i)}
		for j := range backends {
			b := model.Backend{Address: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j + 1)}), Port: 8080, Weight: 1}
			p.Backends = append(p.Backends, b)
			obs.NextHops[b.Address] = model.NextHop{Interface: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, Resolved: true}
		}
		s.Pools = append(s.Pools, p)
		s.Services = append(s.Services, model.Service{
			Name: p.Name, VIP: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i) | 1}), Protocol: model.TCP,
			Ports: model.PortRange{First: uint16(80 + i&1), Last: uint16(80 + i&1)}, Pool: p.Name, Method: model.NAT,
		})
	}
	return s, obs
}

// BenchmarkChange is what one change costs in a node of 10,000 services with
// 100 backends each, from the call of the reconciler until the reader has
// verified what it is to use. The workers' part, and the message that wakes
// the data process, come on top.
func BenchmarkChange(b *testing.B) {
	for _, size := range []struct{ services, backends int }{{100, 10}, {10000, 10}, {10000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.backends), func(b *testing.B) {
			state, obs := large(size.services, size.backends)
			p := &pair{}
			r := New(p)
			if err := r.Start(state, obs); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(p.close)
			pools := func(n int, f func(*model.Pool)) model.Pool {
				pool := state.Pools[n*7919%size.services]
				pool.Backends = slices.Clone(pool.Backends)
				f(&pool)
				return pool
			}
			run := func(name string, f func(n int) error) {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					before, last, n := r.Status().Generation, 0, 0
					for ; b.Loop(); n++ {
						if err := f(n); err != nil {
							b.Fatal(err)
						}
						last = n
					}
					if s := r.Status(); s.Generation-before < uint64(last) || !s.Patched {
						b.Fatalf("%d changes are %d generations, patched: %v", last, s.Generation-before, s.Patched)
					}
				})
			}
			run("endpoint-removed-or-added", func(n int) error {
				pool := pools(n/2, func(p *model.Pool) {
					if n%2 == 0 {
						p.Backends = p.Backends[1:]
					}
				})
				_, err := r.ApplyPools(pool)
				return err
			})
			run("weight", func(n int) error {
				_, err := r.ApplyPools(pools(n/2, func(p *model.Pool) { p.Backends[3].Weight = 1 + (n+1)%2 }))
				return err
			})
			run("down-or-up", func(n int) error {
				_, err := r.ApplyPools(pools(n/2, func(p *model.Pool) { p.Backends[2].Serving.Down = n%2 == 0 }))
				return err
			})
			run("next-hop", func(n int) error {
				a := state.Pools[n*7919%size.services].Backends[1].Address
				way := model.NextHop{Interface: "eth0", MAC: [6]byte{4, byte(n >> 16), byte(n >> 8), byte(n)}, Resolved: true}
				return r.ObserveChange(model.ObservationChange{NextHops: map[netip.Addr]model.NextHop{a: way}})
			})
			run("whole-state", func(n int) error {
				_, err := r.Apply(r.with([]model.Pool{pools(n/2, func(p *model.Pool) { p.Backends[3].Weight = 1 + (n+1)%2 })}))
				return err
			})
		})
	}
}
