package e2e

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
)

// patches is how many of the node's configurations were put in force by a patch.
func (w *world) patches() int { return bytes.Count(w.node.Log(), []byte("patched=true")) }

// stir changes the pool of one site: backends come and go, with any weight; one
// that goes drains.
func stir(r *rand.Rand, s *site, all []*lab.Node) {
	s.members = nil
	for _, i := range r.Perm(len(all)) {
		if r.IntN(3) > 0 {
			s.members = append(s.members, member{all[i], 1 + r.IntN(3)})
		}
	}
	if len(s.members) == 0 {
		s.members = members(all[r.IntN(len(all))])
	}
}

// TestPatchesUnderTraffic changes the pools hundreds of times while bytes,
// connections and questions flow at a steady rate. Each change is a patch, none
// loses a frame, no connection breaks, and no flow moves.
func TestPatchesUnderTraffic(t *testing.T) {
	t.Parallel()
	const changes = 200
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 4}, limit: 2 * time.Minute})
	sites := []*site{w.addSite(nat4), w.addSite(ipip4), w.addSite(gue6), w.addSite(direct6)}
	w.serve()
	w.start()
	p := w.ping(15, sites...)
	over := make(chan struct{})
	asked := make(chan *traffic.Tally, len(sites))
	for _, s := range sites {
		go func() {
			for {
				// One flow after the other asks its questions while the pool changes.
				tally := traffic.UDPLoad{Target: s.at(namePort), Flows: 5, Parallel: 5, PerFlow: 100}.Run(w.ctx, w.topo.Client.Host)
				select {
				case <-over:
					asked <- tally
					return
				default:
				}
				if tally.Err() != nil || tally.Moves > 0 {
					asked <- tally
					return
				}
			}
		}()
	}
	transfers := make(chan error, 2)
	for _, s := range sites[:2] {
		go func() { transfers <- w.transferUntil(s, over) }()
	}

	r := rand.New(rand.NewPCG(3, 1))
	for n := range changes {
		s := sites[n%len(sites)]
		before := w.text()
		for w.text() == before {
			stir(r, s, w.topo.Backends)
		}
		w.reload()
	}
	close(over)
	for range sites[:2] {
		if err := <-transfers; err != nil {
			t.Error(err)
		}
	}
	for range sites {
		if tally := <-asked; tally.Err() != nil || tally.Moves > 0 {
			t.Errorf("questions: %v, %d answers came from another server than the one before", tally.Err(), tally.Moves)
		}
	}
	p.await(1)
	p.stop()
	if n := w.patches(); n != changes {
		t.Errorf("%d of %d changes were patches", n, changes)
	}
	status := w.balance()
	if n := lost(status); n != 0 {
		t.Errorf("sockets lost %d frames", n)
	}
	for _, s := range sites {
		w.onlyTo(s, w.http(s, 60), "at the end")
	}
	w.must(w.node.Stop())
}

// TestKillBetweenPatches kills the data process between patches, and while one
// is on its way: its successor decides by what is in force, patches go on, and
// no connection breaks.
func TestKillBetweenPatches(t *testing.T) {
	t.Parallel()
	const rounds = 12
	w := newWorld(t, worldConfig{lab: lab.Config{Backends: 4}})
	sites := []*site{w.addSite(nat4), w.addSite(ipip6)}
	w.serve()
	w.start()
	p := w.ping(10, sites...)
	r := rand.New(rand.NewPCG(3, 2))
	for n := range rounds {
		for range 1 + n%3 {
			before := w.text()
			for w.text() == before {
				stir(r, sites[n%2], w.topo.Backends)
			}
			killed := make(chan error, 1)
			if n%2 == 1 {
				go func() { killed <- w.node.KillData(w.ctx) }()
			} else {
				killed <- nil
			}
			w.reload()
			w.must(<-killed)
		}
		if n%2 == 0 {
			w.must(w.node.KillData(w.ctx))
		}
		p.await(1)
		for _, s := range sites {
			w.onlyTo(s, w.http(s, 40), "after a kill")
		}
	}
	p.stop()
	w.balance("restart_lost")
	t.Logf("%d of the changes were patches", w.patches())
	w.must(w.node.Stop())
}
