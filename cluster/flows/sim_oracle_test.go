package flows

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// oracle knows what became of flows.
type oracle struct {
	count, ended, packets int
	messages, bytes       uint64
	classes               map[simClass]int
	violations            []string
}

func newOracle() oracle { return oracle{classes: map[simClass]int{}} }

// simClass is why a flow could break.
type simClass string

// What is not guaranteed. Whatever breaks and is none of these is a violation.
const (
	simGone     simClass = "its own backend has died or was removed"
	simShake    simClass = "it was not established yet"
	simFresh    simClass = "established too short a time before it moved"
	simGlimpse  simClass = "its node had seen one packet of it since it came there"
	simExpired  simClass = "idle for as long as its timeout"
	simCut      simClass = "the nodes were out of step, or not connected, when it moved"
	simSilent   simClass = "silent since its node died, until after a base was replaced"
	simDatagram simClass = "UDP"
)

// broken finds out why a flow broke, when node n sent a packet of it to backend b.
func (s *sim) broken(f *simFlow, n *simNode, b int16, gone bool) {
	class := s.why(f, n, gone)
	if class != "" {
		s.classes[class]++
		return
	}
	o := s.nodes[f.owner]
	s.violations = append(s.violations, fmt.Sprintf("at %s: flow to backend %d, opened at %s, last seen at %s by %s (dead at %v, it had %d packets), went to %d at %s; out of step at %s; base there %d here %d, now %d; record %+v (serial %d)",
		s.now, f.backend, f.opened, f.last, o.name, o.deaths, f.seen, b, n.name, o.bad[n.index], o.base.pick(f.hash), n.base.pick(f.hash), n.current.pick(f.hash), s.before, f.serial))
}

func (s *sim) why(f *simFlow, n *simNode, gone bool) simClass {
	switch {
	case gone, !n.usable(f.backend):
		return simGone
	case f.udp:
		return simDatagram
	case f.state == simOpening:
		return simShake
	}
	o := s.nodes[f.owner]
	moved := s.now // the last moment at which the owner could tell
	died, dead := o.diedAfter(f.last)
	if dead {
		moved = died
	}
	bad, wasBad := o.bad[n.index]
	switch {
	case moved-f.opened <= simTold:
		return simFresh
	case f.seen < 2:
		return simGlimpse
	case s.now-f.last >= simTimeout-simLater-time.Second:
		return simExpired
	case o.core == nil && o.alive, wasBad && bad >= moved-simTold-simResync:
		return simCut
	case moved-f.took <= simTold && s.anyCut(n, moved-time.Minute):
		return simCut
	case dead && s.now-died >= 30*time.Second:
		return simSilent
	}
	return ""
}

// diedAfter is when a node first died after that, and lost what it knew.
func (n *simNode) diedAfter(at time.Duration) (time.Duration, bool) {
	for _, d := range n.deaths {
		if d >= at {
			return d, true
		}
	}
	return 0, false
}

// anyCut reports whether any node was out of step with n since then.
func (s *sim) anyCut(n *simNode, since time.Duration) bool {
	for _, o := range s.nodes {
		if at, ok := o.bad[n.index]; ok && at >= since {
			return true
		}
	}
	return false
}

var (
	simFor   = flag.Duration("sim.time", 3*time.Minute, "how much of its world's time each run of the simulation takes")
	simSeeds = flag.Uint64("sim.runs", 3, "how many runs of the simulation there are")
)

// chaotic is a world in which everything happens.
func chaotic(seed uint64) simRun {
	return simRun{
		seed: seed, duration: *simFor, nodes: 3 + int(seed%3), backends: 5, rate: 20, udp: 0.05,
		changes: 12 * time.Second, flaps: 90 * time.Second, deaths: 70 * time.Second, restarts: 150 * time.Second,
		moves: 20 * time.Second, cuts: 25 * time.Second,
	}
}

// sum is what all nodes have counted.
func (s *sim) sum(f func(*counters) uint64) (total uint64) {
	for _, n := range s.nodes {
		total += n.past(f)
		if n.core != nil {
			total += f(n.core.stats)
		}
	}
	return total
}

func (s *sim) report(t *testing.T) {
	broken := 0
	var lines []string
	for class, n := range s.classes {
		broken += n
		lines = append(lines, fmt.Sprintf("\n  %7d %s", n, class))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(b, a) })
	t.Logf("%d flows and %d packets in %s: %d flows ended well, %d broke for what is not guaranteed, %d for nothing of that; bases were replaced %d times; nodes told of flows %d times, in %d messages of %d bytes together%s",
		s.count, s.packets, s.duration, s.ended, broken, len(s.violations), s.sum(func(c *counters) uint64 { return c.settle.Load() }),
		s.sum(func(c *counters) uint64 { return c.told[Established].Load() }), s.messages, s.bytes, strings.Join(lines, ""))
}

func (s *sim) check(t *testing.T) {
	t.Helper()
	for i, v := range s.violations {
		if i == 10 {
			t.Errorf("and %d more", len(s.violations)-i)
			return
		}
		t.Error(v)
	}
}

// TestSimulation has flows live through all that happens to a cluster. None may
// break but for the reasons that are named.
func TestSimulation(t *testing.T) {
	for seed := range *simSeeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := newSim(chaotic(seed))
			s.run()
			s.report(t)
			s.check(t)
			if s.ended < s.count/4 {
				t.Errorf("only %d of %d flows ended well", s.ended, s.count)
			}
		})
	}
}

// TestSimulationOfDeaths is the case, again and again: pools change and
// nodes die, and nothing else goes wrong. What breaks has lost its backend, or was
// so young, or so long silent, that nobody could know of it.
func TestSimulationOfDeaths(t *testing.T) {
	t.Parallel()
	s := newSim(simRun{
		seed: 7, duration: *simFor, nodes: 3, backends: 5, rate: 20,
		changes: 10 * time.Second, deaths: 40 * time.Second, moves: 30 * time.Second,
	})
	s.run()
	s.report(t)
	s.check(t)
	if got := s.sum(func(c *counters) uint64 { return c.settle.Load() }); got == 0 {
		t.Error("no base was ever replaced")
	}
	if few := s.count / 1000; s.classes[simFresh] > few || s.classes[simShake] > few || s.classes[simGlimpse] > 10*few {
		t.Errorf("too many of %d flows broke: %v", s.count, s.classes)
	}
}

// TestSimulationFinds has parts of the scheme left out, and flows break.
func TestSimulationFinds(t *testing.T) {
	for what, without := range map[string]func(*simRun){
		"nobody is told": func(r *simRun) { r.mute = true },
		"bases are replaced before all are ready": func(r *simRun) { r.hasty = true },
		"bases are replaced after a node is lost": func(r *simRun) { r.forgets = true },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			run := simRun{
				seed: 3, duration: 3 * time.Minute, nodes: 3, backends: 5, rate: 5,
				changes: 10 * time.Second, deaths: 40 * time.Second, moves: 5 * time.Second,
			}
			without(&run)
			s := newSim(run)
			s.run()
			if len(s.violations) == 0 && (!run.forgets || s.classes[simSilent] == 0) {
				t.Errorf("nothing that breaks without it was found: %v", s.classes)
			}
		})
	}
}
