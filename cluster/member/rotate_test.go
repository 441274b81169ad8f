package member_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/member"
)

// TestRotateKey rotates the key five times, from nodes in turn, while every node
// watches: none is ever taken for anything but alive.
func TestRotateKey(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(5)
	lost := make(chan string, 1000)
	for _, n := range nodes {
		stop := n.Watch(func(all []cluster.Node) {
			for _, o := range all {
				if !o.State.Serves() {
					lost <- n.Self().Name + " has lost " + o.Name
				}
			}
		})
		defer stop()
	}
	first := nodes[0].Keys()
	if first.Version != 0 || first.Phase != "settled" || len(first.Keys) != 1 {
		t.Fatalf("the first keys are %+v", first)
	}
	seen := []string{first.Keys[0]}
	for i, n := range nodes {
		done, err := n.RotateKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done.Before != seen[i] || slices.Contains(seen, done.After) || done.Resumed || len(done.Nodes) != 5 {
			t.Errorf("rotation %d has done %+v", i, done)
		}
		seen = append(seen, done.After)
		for _, o := range nodes {
			if k := o.Keys(); k.Phase != "settled" || len(k.Keys) != 1 || k.Keys[0] != done.After || k.By != n.Self().Name || k.Version != uint64(3*(i+1)) {
				t.Errorf("%v has %+v", o, k)
			}
		}
		wait(t, 3*w.probe) // probes with the new key
	}
	select {
	case text := <-lost:
		t.Error(text)
	default:
	}
	// They still hear each other by the last key alone.
	w.kill(nodes[2])
	for _, n := range []*node{nodes[0], nodes[1], nodes[3], nodes[4]} {
		eventually(t, "they gossip", func() bool { return n.state("n3") == cluster.Dead })
	}
}

// TestRotateWhileOneIsGone rotates the key while a node is down; it gets the new
// one before it joins. One that has never been there does, too.
func TestRotateWhileOneIsGone(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(3)
	cfg, host := w.config(4, "n4")
	cfg.Dir = t.TempDir()
	down, err := w.start("n4", cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are together", func() bool { return nodes[0].count(cluster.Alive) == 4 })
	w.kill(down)
	down.Close()
	eventually(t, "it is dead", func() bool { return nodes[0].state("n4") == cluster.Dead })
	done, err := nodes[0].RotateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Nodes) != 3 {
		t.Errorf("%v have taken part", done.Nodes)
	}
	again, host := w.config(4, "n4")
	again.Dir, again.Identity = cfg.Dir, cfg.Identity
	if down, err = w.start("n4", again, host); err != nil {
		t.Fatal(err)
	}
	fresh := w.add(5)
	for _, n := range append(nodes, down, fresh) {
		eventually(t, "all are together again", func() bool { return n.count(cluster.Alive) == 5 })
		if k := n.Keys(); k.Keys[0] != done.After || len(k.Keys) != 1 {
			t.Errorf("%v has the keys %+v", n, k)
		}
	}
}

// TestRotationInterrupted cuts a node off from streams, but not from gossip, while
// the key is rotated: nothing is lost, and the next rotation goes on.
func TestRotationInterrupted(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(3)
	for refuse := range 3 { // of the three steps
		nodes[2].host.Refuse("member/ring", refuse)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := nodes[0].RotateKey(ctx)
		cancel()
		var missed *member.MissedError
		if !errors.As(err, &missed) || len(missed.Nodes) != 1 || missed.Nodes["n3"] == nil {
			t.Fatalf("with a node that does not answer: %v", err)
		}
		phase := []string{"added", "switched", "settled"}[refuse]
		if want := `not every member has the step "` + phase + `" (n3: the node does not know this kind of request); all keys of before still hold: rotate again to go on`; err.Error() != want {
			t.Errorf("the error is %q, want %q", err, want)
		}
		wait(t, 5*w.probe)
		for _, n := range nodes {
			if n.count(cluster.Alive, cluster.Suspect) != 3 {
				t.Fatalf("%v has lost a member", n)
			}
		}
		nodes[2].host.Refuse("", 0)
		done, err := nodes[1].RotateKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done.Resumed != (refuse < 2) {
			t.Errorf("after %d steps: %+v", refuse, done)
		}
		for _, n := range nodes {
			if k := n.Keys(); k.Phase != "settled" || k.Keys[0] != done.After {
				t.Errorf("%v has %+v, want %s", n, k, done.After)
			}
		}
	}
}

// TestRotateAtOnce rotates from all nodes at the same time: in the end all have one
// key, and nobody is lost.
func TestRotateAtOnce(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(4)
	errs := make(chan error)
	for _, n := range nodes {
		go func() {
			_, err := n.RotateKey(t.Context())
			errs <- err
		}()
	}
	for range nodes {
		if err := <-errs; err != nil && !errors.Is(err, member.ErrRotationElsewhere) {
			t.Error(err)
		}
	}
	// One of them may have been overtaken in the middle; the next one finishes it.
	if _, err := nodes[0].RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if k := n.Keys(); k.Phase != "settled" || k.Keys[0] != nodes[0].Keys().Keys[0] {
			t.Errorf("%v has %+v", n, k)
		}
		if n.count(cluster.Alive, cluster.Suspect) != 4 {
			t.Errorf("%v has lost a member", n)
		}
	}
}
