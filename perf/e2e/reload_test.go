package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// TestPoolChanges changes the pools under long-lived connections in every way
// there is. The connections stay where they are and live; only new ones follow
// the pool.
func TestPoolChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 4}})
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct6)}
	b := w.topo.Backends
	pool := func(m ...member) {
		for _, s := range sites {
			s.members = m
		}
	}
	one := func(n *lab.Node) member { return member{n, 1} }
	pool(one(b[0]), one(b[1]), one(b[2]))
	w.serve()
	w.start()
	p := w.ping(25, sites...)
	held := p.servers()
	if len(held) != 3 {
		t.Fatalf("100 connections went to %v, want three servers", held)
	}
	for _, step := range []struct {
		name string
		pool []member
	}{
		{"one added", []member{one(b[0]), one(b[1]), one(b[2]), one(b[3])}},
		{"one drained by weight 0", []member{{b[0], 0}, one(b[1]), one(b[2]), one(b[3])}},
		{"one removed", []member{{b[0], 0}, one(b[2]), one(b[3])}},
		{"all replaced", []member{one(b[3])}},
		{"all but the one back, with other weights", []member{{b[0], 5}, {b[1], 5}, {b[2], 3}}},
		{"as it was", []member{one(b[0]), one(b[1]), one(b[2])}},
	} {
		pool(step.pool...)
		w.reload()
		for _, s := range sites {
			w.onlyTo(s, w.http(s, 60), step.name)
		}
		p.await(2)
	}
	p.stop()
	w.balance()
	w.must(w.node.Stop())
}

// onlyTo demands that exactly the members with a weight gave answers.
func (w *world) onlyTo(s *site, tally *traffic.Tally, when string) {
	w.t.Helper()
	want := map[string]bool{}
	for _, m := range s.members {
		if m.weight > 0 {
			want[m.Name] = true
			if tally.ByServer[m.Name] == 0 {
				w.t.Errorf("%s, %s: no new connection went to %s: %v", s.method, when, m.Name, tally.ByServer)
			}
		}
	}
	for server, n := range tally.ByServer {
		if !want[server] {
			w.t.Errorf("%s, %s: %d new connections went to %s", s.method, when, n, server)
		}
	}
}

// shuffled is a random part of the members, one at least, with random weights.
func shuffled(r *rand.Rand, all []member) []member {
	var some []member
	for _, i := range r.Perm(len(all))[:1+r.IntN(len(all))] {
		some = append(some, member{all[i].Node, 1 + r.IntN(3)})
	}
	return some
}

// transferUntil makes transfers one after the other until over is closed.
func (w *world) transferUntil(s *site, over <-chan struct{}) error {
	for n := uint64(0); ; n++ {
		const bytes = 20 << 20
		_, err := traffic.Transfer{Target: s.at(streamPort), Direction: traffic.BothWays, Bytes: bytes, Seed: n}.Run(w.ctx, w.topo.Client.Host)
		if err != nil {
			return fmt.Errorf("%s: transfer %d: %w", s.method, n, err)
		}
		select {
		case <-over:
			return nil
		default:
		}
	}
}

// footprint is what a process that leaks has more and more of.
type footprint struct {
	descriptors [2]int // of the control process and the data process
	mappings    [2]int // of shared memory
}

func (w *world) footprint() (f footprint) {
	w.t.Helper()
	for i, pid := range []int{w.node.Process().Pid(), w.status().Data.PID} {
		n, err := rig.Descriptors(pid)
		w.must(err)
		f.descriptors[i] = n
		f.mappings[i], err = rig.SharedMappings(pid)
		w.must(err)
	}
	return f
}
