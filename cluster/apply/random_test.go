package apply

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/cluster/clustertest"
)

// TestAnyHistoryEndsInOneState: whatever is changed where, refused, parted, killed
// and lost: when all is quiet, every node has what is shared, that is what
// somebody has asked for, and nothing of what was refused has been in force
// anywhere.
func TestAnyHistoryEndsInOneState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			anyHistory(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func anyHistory(t *testing.T, r *rand.Rand) {
	names := []string{"a", "b", "c", "d"}
	w := clustertest.New(t, names...)
	w.Lose(0.3)
	w.Delay(0, 3*time.Millisecond)
	nodes := map[string]*node{}
	for _, name := range names {
		nodes[name] = start(t, w, name, with{})
	}
	for _, n := range nodes {
		n.begun()
	}
	asked := map[string]bool{"": true}
	made := 0
	for step := range 60 {
		name := names[r.IntN(len(names))]
		n := nodes[name]
		switch r.IntN(10) {
		case 0:
			w.Part(names[:1+r.IntN(3)])
		case 1:
			w.Heal()
		case 2: // killed, and started again
			n.stop()
			w.Kill(name)
			// For a while that is one of the things left to chance.
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			w.Start(name)
			nodes[name] = start(t, w, name, with{local: n.local})
		case 3:
			text := fmt.Sprintf("refused %d\nrefuse %s", step, names[r.IntN(len(names))])
			if _, err := n.apply(text); err == nil {
				asked[text] = true // nobody was there to refuse it
			}
		default:
			text := fmt.Sprintf("%s's change %d", name, step)
			if _, err := n.apply(text); err == nil {
				asked[text] = true
				made++
			}
		}
	}
	w.Lose(0)
	w.Heal()
	if made == 0 {
		t.Fatal("no change was made")
	}
	within(t, "all have the same", func() bool {
		e, there := nodes["a"].cfg.Store.Get("desired/api")
		if !there {
			return false
		}
		d, err := decode(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			other, _ := n.cfg.Store.Get("desired/api")
			if other.Version != e.Version {
				return false
			}
			// A node may be the one that the last change names, because nobody could ask it.
			if n.text(SourceAPI) != d.Text && n.condition(NotAdopted) == "" {
				return false
			}
		}
		return asked[d.Text]
	})
	for name, n := range nodes {
		n.local.mu.Lock()
		for _, before := range append(n.before, maps.Clone(n.contents)) {
			if !asked[before[SourceAPI].Text] {
				t.Errorf("node %s has had %q in force, which was refused", name, before[SourceAPI].Text)
			}
		}
		n.local.mu.Unlock()
	}
}
