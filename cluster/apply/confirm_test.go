package apply

import (
	"errors"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/clustertest"
)

func TestUnconfirmedChangeIsUndoneEverywhere(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	nodes[0].must(nodes[0].apply("good"))
	have(t, SourceAPI, "good", nodes...)
	nodes[1].must(nodes[1].change(Change{}, SourceAPI, "bad", 6*time.Second))
	have(t, SourceAPI, "bad", nodes...)
	within(t, "the status says until when it waits", func() bool {
		s := nodes[2].Status()
		return len(s.Shared) == 1 && !s.Shared[0].Until.IsZero()
	})
	have(t, SourceAPI, "good", nodes...)
	within(t, "it is an ordinary change again", func() bool {
		s := nodes[0].Status()
		return len(s.Shared) == 1 && s.Shared[0].Until.IsZero() && s.Shared[0].Comment == "the change was not confirmed in time"
	})
	nodes[2].must(nodes[2].apply("next"))
	have(t, SourceAPI, "next", nodes...)
}

// TestItsNodeDiesUnconfirmed: the others undo the change without it.
func TestItsNodeDiesUnconfirmed(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	nodes[0].must(nodes[0].apply("good"))
	have(t, SourceAPI, "good", nodes...)
	nodes[1].must(nodes[1].change(Change{}, SourceAPI, "bad", time.Second))
	have(t, SourceAPI, "bad", nodes...)
	nodes[1].stop()
	w.Kill("b")
	have(t, SourceAPI, "good", nodes[0], nodes[2])
	// One that comes later does not begin with it.
	w.Add("d")
	d := start(t, w, "d", with{})
	have(t, SourceAPI, "good", d)
	nodes[0].must(nodes[0].apply("next"))
	have(t, SourceAPI, "next", nodes[0], nodes[2], d)
	// Nor does the one that was dead.
	w.Start("b")
	b := start(t, w, "b", with{local: nodes[1].local})
	have(t, SourceAPI, "next", b)
}

func TestAnyNodeConfirms(t *testing.T) {
	t.Parallel()
	_, nodes := three(t)
	nodes[1].must(nodes[1].change(Change{}, SourceAPI, "bold", 5*time.Second))
	have(t, SourceAPI, "bold", nodes...)
	err := nodes[2].Confirm("carol", func() error {
		nodes[2].local.mu.Lock()
		defer nodes[2].local.mu.Unlock()
		nodes[2].pending = time.Time{}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "nobody waits any more", func() bool {
		for _, n := range nodes {
			if !n.Pending().IsZero() {
				return false
			}
		}
		return true
	})
	// That nothing follows has no sign to wait for: the deadline, five seconds after
	// the change, has passed for certain then.
	time.Sleep(5 * time.Second)
	have(t, SourceAPI, "bold", nodes...)
	none := errors.New("no change waits to be confirmed")
	if err := nodes[0].Confirm("carol", func() error { return none }); !errors.Is(err, none) {
		t.Errorf("got %v", err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	w, nodes := three(t)
	set := func(n *node, key, value string) {
		t.Helper()
		err := n.Set(func() error {
			n.local.mu.Lock()
			defer n.local.mu.Unlock()
			if value == "" {
				delete(n.settings, key)
			} else {
				n.settings[key] = []byte(value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := func(key, value string) {
		t.Helper()
		for _, n := range nodes {
			within(t, "node "+n.name+" has "+key+" "+value, func() bool { return string(n.Settings()[key]) == value })
		}
	}
	const key = "web/198.18.0.1:80"
	set(nodes[0], key, "drained")
	all(key, "drained")
	set(nodes[2], key, "disabled")
	all(key, "disabled")
	set(nodes[1], key, "")
	all(key, "")
	w.Part([]string{"a"}, []string{"b", "c"})
	within(t, "the halves are apart", func() bool { return !nodes[0].serves("b") && !nodes[1].serves("a") })
	set(nodes[0], key, "drained")
	set(nodes[0], "web/198.18.0.2:80", "weight 3")
	time.Sleep(3 * time.Millisecond) // the clock orders changes by milliseconds
	set(nodes[1], key, "disabled")
	w.Heal()
	all(key, "disabled")
	all("web/198.18.0.2:80", "weight 3")
	none := errors.New("there is no such backend")
	if err := nodes[0].Set(func() error { return none }); !errors.Is(err, none) {
		t.Errorf("got %v", err)
	}
}

// TestFiles: what a node's file declares is shared when its operator has changed
// it, and by no other reason.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b", "c", "d")
	a := start(t, w, "a", with{file: "one"})
	have(t, SourceFile, "one", a)
	b, c, d := start(t, w, "b", with{}), start(t, w, "c", with{file: "one"}), start(t, w, "d", with{file: "other"})
	all := []*node{a, b, c, d}
	have(t, SourceFile, "one", all...)
	within(t, "d says that its file differs", func() bool {
		return d.condition(FileDiffers) == "the services, pools and VIPs of this node's file differ from the cluster's, which are those of node \"a\"; the cluster's are in force, and `fairlead config reload --publish` puts this node's in force on all nodes"
	})
	if m := a.condition(FileDiffers) + b.condition(FileDiffers) + c.condition(FileDiffers); m != "" {
		t.Errorf("another node says %q", m)
	}
	reload := func(n *node, text string, asked bool) bool {
		t.Helper()
		file := Content{Name: n.name, Text: text}
		publishes := n.PublishesFile(file, asked)
		if publishes {
			n.must(n.change(Change{}, SourceFile, text, 0))
		}
		n.FileRead(file, publishes)
		return publishes
	}
	if reload(d, "other", false) {
		t.Error("a file that nobody has changed is published")
	}
	if !reload(a, "two", false) {
		t.Error("a file that was changed is not published")
	}
	have(t, SourceFile, "two", all...)
	within(t, "c's file differs", func() bool { return c.condition(FileDiffers) != "" })
	if reload(c, "two", false) {
		have(t, SourceFile, "two", all...) // it is as good as what there is
	}
	within(t, "c's file does not differ", func() bool { return c.condition(FileDiffers) == "" })
	if reload(a, "", false) {
		t.Error("a file that declares nothing any more is published")
	}
	within(t, "a says so", func() bool {
		return a.condition(FileDiffers) == "this node's file declares no services, pools or VIPs any more; the cluster keeps those that it has, and `fairlead config reload --publish` removes them from all nodes"
	})
	have(t, SourceFile, "two", all...)
	if !reload(d, "other", true) {
		t.Error("what is asked for is not done")
	}
	have(t, SourceFile, "other", all...)
	reload(a, "", true)
	have(t, SourceFile, "", all...)
}

// TestFileIsEditedWhileItsNodeIsStopped: it is published at the start when nobody
// has changed anything meanwhile.
func TestFileIsEditedWhileItsNodeIsStopped(t *testing.T) {
	t.Parallel()
	w := clustertest.New(t, "a", "b")
	publish := func(n *node, over cluster.Version) error {
		_, err := n.change(Change{Over: &over}, SourceFile, n.fileNow(), 0)
		n.FileRead(Content{Text: n.fileNow()}, err == nil)
		return err
	}
	a, b := start(t, w, "a", with{file: "one"}), start(t, w, "b", with{})
	have(t, SourceFile, "one", a, b)
	within(t, "a remembers", func() bool { return a.remembers() })
	a.stop()
	a = start(t, w, "a", with{file: "two", local: a.local, publish: publish})
	have(t, SourceFile, "two", a, b)
	within(t, "a remembers", func() bool { return a.remembers() })
	a.stop()
	b.must(b.change(Change{}, SourceFile, "by b", 0))
	a = start(t, w, "a", with{file: "three", local: a.local, publish: publish})
	have(t, SourceFile, "by b", a, b)
	within(t, "a says that its file differs", func() bool { return a.condition(FileDiffers) != "" })
	have(t, SourceFile, "by b", a, b)
}

func (n *node) fileNow() string {
	n.Apply.mu.Lock()
	defer n.Apply.mu.Unlock()
	return n.file.Text
}

// remembers reports whether the node has noted the last change of what files
// declare.
func (n *node) remembers() bool {
	n.Apply.mu.Lock()
	defer n.Apply.mu.Unlock()
	e, _ := n.cfg.Store.Get("desired/file")
	return n.memory.Digest == n.file.Digest() && n.memory.Entry == e.Version
}
