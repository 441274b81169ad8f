package compile

import (
	"math"
	"math/rand/v2"
	"testing"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// TestRefusedShare: a pool refuses what is due to its weight of nobody, and divides
// the rest as if that were not there; a pool that refuses shares no table with one
// that does not.
func TestRefusedShare(t *testing.T) {
	state, obs := lab()
	pool := func(name string, refused, one, two int) model.Pool {
		return model.Pool{Name: name, Refused: refused, Backends: []model.Backend{
			{Address: ip("198.18.10.1"), Port: 80, Weight: one}, {Address: ip("198.18.10.2"), Port: 80, Weight: two}}}
	}
	state.Services = nil
	state.Pools = []model.Pool{
		pool("most", 8, 1, 1), pool("none", 0, 1, 1), pool("great", 65535, 65535, 0), pool("drained", 5, 0, 0), {Name: "empty", Refused: 5},
	}
	_, s := compile(t, state, obs, nil, Options{})
	want := map[string][3]float64{ // refused, first, second
		"most": {0.8, 0.1, 0.1}, "none": {0, 0.5, 0.5}, "great": {0.5, 0.5, 0}, "drained": {1, 0, 0}, "empty": {1, 0, 0},
	}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range s.Pools() {
		p := &s.Pools()[i]
		const picks = 50000
		var got [3]float64
		for range picks {
			slot := s.Pick(p, random.Uint64())
			switch {
			case slot == fib.NoIndex:
				got[0] += 1.0 / picks
			case s.Backend(slot).Addr.Netip() == ip("198.18.10.1"):
				got[1] += 1.0 / picks
			default:
				got[2] += 1.0 / picks
			}
		}
		name := s.Name(p.Name)
		for n, share := range want[name] {
			if math.Abs(got[n]-share) > 0.02 {
				t.Errorf("pool %s: shares %v, want %v", name, got, want[name])
				break
			}
		}
	}
	if s.Pools()[0].Checksum == s.Pools()[1].Checksum {
		t.Error("a pool that refuses a share has the checksum of one that does not")
	}
}

// TestRefusedShareMovesNoOthers: what is refused comes evenly from all backends, and
// flows that are not refused stay where they are.
func TestRefusedShareMovesNoOthers(t *testing.T) {
	state, obs := lab()
	state.Services = nil
	p := model.Pool{Name: "p"}
	for i := range 8 { // one more is still within the rung
		p.Backends = append(p.Backends, model.Backend{Address: ip("198.18.10.1").Next(), Port: uint16(80 + i), Weight: 1})
	}
	with := p
	with.Name, with.Refused = "q", 1
	state.Pools = []model.Pool{p, with}
	_, s := compile(t, state, obs, nil, Options{})
	random := rand.New(rand.NewPCG(3, 4))
	const picks = 20000
	moved, refused := 0, 0
	for range picks {
		hash := random.Uint64()
		a, b := s.Pick(&s.Pools()[0], hash), s.Pick(&s.Pools()[1], hash)
		switch {
		case b == fib.NoIndex:
			refused++
		case s.Backend(a).Port != s.Backend(b).Port:
			moved++
		}
	}
	if share := float64(refused) / picks; math.Abs(share-1.0/9) > 0.01 {
		t.Errorf("%f is refused, want one of 9", share)
	}
	if moved > picks/20 {
		t.Errorf("%d of %d flows go elsewhere because others are refused", moved, picks)
	}
}
