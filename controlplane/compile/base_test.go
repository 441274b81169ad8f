package compile

import (
	"math/rand/v2"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// TestBaseIsTheTableOfItsShares compares bases with the tables of pools that have
// just those shares: by them another node sends what it has no flow of.
func TestBaseIsTheTableOfItsShares(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	compared, own, gone := 0, 0, 0
	for range 300 {
		state, obs := randomState(r)
		for i := range state.Pools {
			if p := &state.Pools[i]; r.IntN(3) > 0 {
				p.Base = randomShares(r, i%2 == 1)
			} else {
				p.Base = sharesOf(p.Backends)
			}
		}
		other := *state
		other.Pools = nil
		for i := range state.Pools {
			p := model.Pool{Name: state.Pools[i].Name}
			for _, s := range state.Pools[i].Base {
				p.Backends = append(p.Backends, model.Backend{Address: s.Endpoint.Addr(), Weight: s.Weight, Serving: model.Serving{Withheld: s.Withheld}})
			}
			other.Pools = append(other.Pools, p)
		}
		_, s := compile(t, state, obs, nil, Options{})
		_, want := compile(t, &other, obs, nil, Options{})
		for i := range state.Pools {
			p, q := s.Pool(uint32(i)), want.Pool(uint32(i))
			if p.BaseSize != q.TableSize {
				t.Fatalf("a base of %d entries for a table of %d", p.BaseSize, q.TableSize)
			}
			if p.BaseSize != 0 && p.Base == p.Table {
				own++
			}
			for range 50 {
				hash := r.Uint64()
				at, ok := s.PickBase(p, hash)
				right := want.Pick(q, hash)
				switch {
				case !ok:
					if right != fib.NoIndex {
						t.Fatal("a pool with shares has no base")
					}
				case at == fib.NoIndex:
					gone++
					for _, b := range state.Pools[i].Backends {
						if addr(b.Address) == want.Backend(right).Addr {
							t.Fatalf("backend %v is a member and the base does not know it", b.Address)
						}
					}
				default:
					compared++
					if s.Backend(at).Addr != want.Backend(right).Addr {
						t.Fatalf("the base says %v, the table of its shares %v", s.Backend(at).Addr, want.Backend(right).Addr)
					}
				}
			}
		}
	}
	if compared == 0 || own == 0 || gone == 0 {
		t.Errorf("%d answers compared, %d bases that are the pool's own table, %d answers of backends that are gone: too few", compared, own, gone)
	}
}
