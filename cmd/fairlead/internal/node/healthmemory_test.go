package node

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead/controlplane/health"
	"fairlead/controlplane/model"
	"fairlead/controlplane/serving"
)

// pools takes everything.
type pools struct{}

func (pools) ApplyPools(...model.Pool) (bool, error) { return true, nil }

// TestRecallHealth has a second process begin with what the first has found,
// and not with what is too old or is of backends that are no more.
func TestRecallHealth(t *testing.T) {
	up, down, gone := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.2:1"), netip.MustParseAddrPort("127.0.0.3:1")
	check := &model.Check{Type: model.CheckTCP, Interval: time.Hour, Timeout: time.Second, Fall: 100} // judges nobody meanwhile
	begin := func(memory []byte, backends ...netip.AddrPort) (*Node, *model.State) {
		n := &Node{log: slog.New(slog.DiscardHandler)}
		n.serving = serving.New(pools{}, time.Now, nil)
		var err error
		if n.checks, err = newChecks(n); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.checks.checker.Close() })
		if memory != nil {
			if err := n.RecallHealth(memory); err != nil {
				t.Fatal(err)
			}
		}
		s := &model.State{Pools: []model.Pool{{Name: "p", Check: check}}}
		for _, b := range backends {
			s.Pools[0].Backends = append(s.Pools[0].Backends, model.Backend{Address: b.Addr(), Port: b.Port(), Weight: 1})
		}
		if err := n.serving.Apply(s, nil, func(*model.State) error { return nil }); err != nil {
			t.Fatal(err)
		}
		n.checks.follow(s)
		return n, s
	}
	memory := func(age time.Duration) []byte {
		at := time.Now().Add(-age).Format(time.RFC3339Nano)
		text := `{"at":"` + at + `","backends":[`
		for i, b := range []netip.AddrPort{up, down, gone} {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(`{"pool":"p","endpoint":%q,"up":%t,"since":"2026-01-02T03:04:05Z"}`, b, b == up)
		}
		return []byte(text + "]}")
	}
	states := func(n *Node) (out []health.State) {
		for _, r := range n.HealthResults() {
			out = append(out, r.State)
		}
		return out
	}
	n, s := begin(memory(time.Second), up, down)
	if got := states(n); !slices.Equal(got, []health.State{health.Up, health.Down}) {
		t.Errorf("states are %v", got)
	}
	_, served := n.serving.Backends("p")
	if served[0].Health != serving.Up || served[1].Health != serving.Down || served[1].Since.Year() != 2026 {
		t.Errorf("they serve as %+v", served)
	}
	if r, ok := n.HealthResult(model.BackendKey{Pool: "p", Endpoint: down}); !ok || r.Since.Year() != 2026 {
		t.Errorf("%+v", r)
	}
	kept, err := n.HealthVerdicts()
	if err != nil {
		t.Fatal(err)
	}
	next, _ := begin(kept, up, down, gone)
	if got := states(next); !slices.Equal(got, []health.State{health.Up, health.Down, health.Unknown}) {
		t.Errorf("the next process has %v", got)
	}
	n.checks.follow(&model.State{})
	n.checks.follow(s)
	if got := states(n); !slices.Equal(got, []health.State{health.Unknown, health.Unknown}) {
		t.Errorf("backends that went and came are %v", got)
	}
	old, _ := begin(memory(time.Hour), up, down)
	if got := states(old); !slices.Equal(got, []health.State{health.Unknown, health.Unknown}) {
		t.Errorf("from old verdicts they are %v", got)
	}
	if err := old.RecallHealth([]byte("x")); err == nil || err.Error() != "verdicts of health checks: invalid character 'x' looking for beginning of value" {
		t.Errorf("nonsense: %v", err)
	}
	if s := (&Node{}).HealthStats(); s != (health.Stats{}) {
		t.Errorf("before the start: %+v", s)
	}
}
