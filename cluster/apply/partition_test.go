package apply

import (
	"strings"
	"testing"
	"time"

	"fairlead/cluster/clustertest"
)

// TestBothHalvesTakeChanges: after the healing the later one holds everywhere, and
// the nodes that had the other one say whose change was replaced by whose.
func TestBothHalvesTakeChanges(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[0].must(nodes[0].apply("before"))
	have(t, SourceAPI, "before", nodes...)
	w.Part([]string{"a"}, []string{"b", "c"})
	within(t, "the halves are apart", func() bool { return !nodes[0].serves("b") && !nodes[1].serves("a") })
	nodes[0].must(nodes[0].apply("first"))
	time.Sleep(3 * time.Millisecond) // the clock orders changes by milliseconds
	nodes[1].must(nodes[1].apply("second"))
	have(t, SourceAPI, "first", nodes[0])
	have(t, SourceAPI, "second", nodes[1:]...)
	w.Heal()
	have(t, SourceAPI, "second", nodes...)
	within(t, "a says that its change was replaced", func() bool {
		m := nodes[0].condition(Replaced)
		return strings.HasPrefix(m, `the change of what was sent by operator of a on node "a" at `) && strings.Contains(m, `was replaced by the change of what was sent by operator of b on node "b" at `)
	})
	if !nodes[0].log.has("a change was replaced") {
		t.Error("the log does not say so")
	}
	if m := nodes[1].condition(Replaced); m != "" {
		t.Errorf("node b says %q", m)
	}
	nodes[0].must(nodes[0].apply("third"))
	have(t, SourceAPI, "third", nodes...)
	within(t, "it is over", func() bool { return nodes[0].condition(Replaced) == "" })
}

// TestManyChangesAreOneHistory: a node that has missed any number of changes does
// not take the last one for one that knows nothing of its own.
func TestManyChangesAreOneHistory(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[2].must(nodes[2].apply("c's"))
	have(t, SourceAPI, "c's", nodes...)
	w.Part([]string{"a", "b"}, []string{"c"})
	within(t, "c is away", func() bool { return !nodes[0].serves("c") })
	for i := range 2*keptAncestors + 3 {
		nodes[0].must(nodes[0].apply(strings.Repeat("x", i+1)))
	}
	w.Heal()
	have(t, SourceAPI, nodes[0].text(SourceAPI), nodes...)
	within(t, "c has looked", func() bool { return len(nodes[2].Status().Shared) == 1 && nodes[2].Status().Shared[0].Origin == "a" })
	if m := nodes[2].condition(Replaced); m != "" {
		t.Errorf("node c says %q", m)
	}
}

func TestLateNodeTakesWhatThereIs(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[0].must(nodes[0].apply("one"))
	have(t, SourceAPI, "one", nodes...)
	w.Add("d")
	late := newLocal("d")
	late.contents[SourceAPI] = Content{Text: "what it had for itself"}
	d := start(t, w, "d", with{local: late})
	have(t, SourceAPI, "one", append(nodes, d)...)
}

// TestWhatANodeBeganWithGivesWay: a node that finds nobody shares what it has;
// that it is later than what operators have asked for elsewhere does not count.
func TestWhatANodeBeganWithGivesWay(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b", "c")
	w.Part([]string{"a", "b"}, []string{"c"})
	a, b := start(t, w, "a", with{}), start(t, w, "b", with{})
	a.begun()
	a.must(a.apply("asked for"))
	have(t, SourceAPI, "asked for", a, b)
	old := newLocal("c")
	old.contents[SourceAPI] = Content{Text: "old"}
	c := start(t, w, "c", with{local: old})
	c.begun()
	w.Heal()
	have(t, SourceAPI, "asked for", a, b, c)
	within(t, "it stays so", func() bool {
		e, _ := a.cfg.Store.Get("desired/api")
		d, err := decode(e.Value)
		return err == nil && d.Text == "asked for" && !d.Initial
	})
	have(t, SourceAPI, "asked for", a, b, c)
}

func TestFirstNodeSharesWhatItHas(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b")
	had := newLocal("a")
	had.contents[SourceAPI] = Content{Text: "sent before"}
	had.settings["web/198.18.0.1:80"] = []byte("drained")
	a := start(t, w, "a", with{local: had, file: "services"})
	have(t, SourceFile, "services", a)
	b := start(t, w, "b", with{})
	have(t, SourceFile, "services", b)
	have(t, SourceAPI, "sent before", b)
	within(t, "b has the setting", func() bool { return string(b.Settings()["web/198.18.0.1:80"]) == "drained" })
}
