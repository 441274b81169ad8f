package node

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
	"fairlead/dataplane/fib"
)

// pools takes everything.
type pools struct{}

func (pools) ApplyPools(...model.Pool) (bool, error) { return true, nil }

// TestRecallHealth has a process begin with what it finds in the image in force,
// and not believe that for ever.
func TestRecallHealth(t *testing.T) {
	ends := []netip.AddrPort{
		netip.MustParseAddrPort("198.18.10.1:1"), netip.MustParseAddrPort("198.18.10.2:1"),
		netip.MustParseAddrPort("198.18.10.3:1"), netip.MustParseAddrPort("198.18.10.4:1"),
	}
	state := &model.State{Pools: []model.Pool{{
		Name: "p", Check: &model.Check{Type: model.CheckTCP, Interval: time.Hour, Timeout: time.Second, Fall: 100}, // judges nobody meanwhile
	}}}
	for _, end := range ends {
		state.Pools[0].Backends = append(state.Pools[0].Backends, model.Backend{Address: end.Addr(), Port: end.Port(), Weight: 1})
	}
	image := *state
	image.Pools = slices.Clone(state.Pools)
	image.Pools[0].Backends = slices.Clone(state.Pools[0].Backends[:3]) // the fourth is new
	image.Pools[0].Backends[1].Serving.Down = true
	image.Pools[0].Backends[2].Serving.Withheld = 1000 // an operator's doing, or not checked yet
	result, err := compile.Compile(&image, &model.Observations{}, nil, compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := result.Builder.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := fib.Open(encoded)
	if err != nil {
		t.Fatal(err)
	}

	n := &Node{log: slog.New(slog.DiscardHandler)}
	n.serving = serving.New(pools{}, time.Now, nil)
	if n.checks, err = newChecks(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.checks.checker.Close() })
	n.recallHealth(verdictsIn(snapshot, time.Now()))
	var first []model.Backend
	err = n.serving.Apply(state, nil, func(s *model.State) error {
		first = s.Pools[0].Backends
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if first[0].Serving.Down || !first[1].Serving.Down || first[2].Serving.Down || first[3].Serving.Down {
		t.Errorf("the first image has %+v", first)
	}
	states := func() (out []health.State) {
		for _, r := range n.checks.checker.Results() {
			out = append(out, r.State)
		}
		return out
	}
	n.checks.follow(state)
	if got := states(); !slices.Equal(got, []health.State{health.Up, health.Down, health.Unknown, health.Unknown}) {
		t.Errorf("states are %v", got)
	}
	n.checks.follow(&model.State{})
	n.checks.follow(state)
	if got := states(); !slices.Equal(got, []health.State{health.Unknown, health.Unknown, health.Unknown, health.Unknown}) {
		t.Errorf("backends that went and came are %v", got)
	}
	if s := (&Node{}).HealthStats(); s != (health.Stats{}) {
		t.Errorf("before the start: %+v", s)
	}
}
