package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"fairlead/perf/rig"
)

// kit is what all measurements of one run share.
type kit struct {
	*profile
	contestants []contestant
	proxies     []proxy
	cpus        cpus
	dir         string // for files, removed by Close
	binary      string // fairlead's
	log         io.Writer
	hasMemo     bool    // the binary knows the flow memo
	foreign     float64 // the largest share of others in any measurement that counts

	cBinary func() (string, error)
	worlds  map[int]*world // by arms
	conns   *connWorld
}

// newKit prepares a run. binary is fairlead's; "" builds one.
func newKit(p *profile, who []contestant, binary string, log io.Writer) (*kit, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the benchmark makes network namespaces and needs root")
	}
	dir, err := os.MkdirTemp("", "fairlead-bench-")
	if err != nil {
		return nil, err
	}
	k := &kit{profile: p, contestants: who, dir: dir, binary: binary, log: log, worlds: make(map[int]*world)}
	k.cBinary = sync.OnceValues(func() (string, error) { return compileC(dir) })
	if k.cpus, err = placement(cpuCount()); err == nil && binary == "" {
		k.binary, err = rig.Build(dir)
	}
	if err == nil {
		k.hasMemo, err = knowsMemo(k.binary)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	if !k.hasMemo {
		k.contestants = slices.DeleteFunc(slices.Clone(who), func(c contestant) bool { return c.memo })
	}
	return k, nil
}

// takesPart reports whether a contestant is wanted in a case.
func (k *kit) takesPart(c Case, who contestant) bool {
	return k.selected == nil || k.selected(c, who.name)
}

// startAndStop is about how long it takes to start and stop a contestant, its
// traffic and its sink.
const startAndStop = 600 * time.Millisecond

// estimate is about how long the run takes on a quiet machine, and how many
// measurements it has.
func (k *kit) estimate() (d time.Duration, measurements int) {
	for _, c := range k.cases {
		for _, who := range k.contestants {
			if k.takesPart(c, who) {
				measurements += k.rounds
				s := &stream{Case: c}
				s.begin(who)
				d += time.Duration(k.rounds) * (startAndStop + s.settleTime() + k.warmUp + k.duration)
			}
		}
	}
	if k.profile.connections {
		n := k.rounds * len(k.proxies)
		measurements += n
		d += time.Duration(n) * (startAndStop + k.warmUp + k.duration)
	}
	return d, measurements
}

// cpuCount is how many CPUs this process may use.
func cpuCount() int { return runtime.NumCPU() }

// placement gives the generator the first CPU and the forwarder the last.
func placement(count int) (cpus, error) {
	if count < 2 {
		return cpus{}, fmt.Errorf("%d CPU: the generator and the forwarder need one each", count)
	}
	return cpus{generator: 0, worker: count - 1}, nil
}

// Close removes the lab and the kit's files.
func (k *kit) Close() error {
	var errs []error
	for _, w := range k.worlds {
		errs = append(errs, w.Close())
	}
	if k.conns != nil {
		errs = append(errs, k.conns.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(k.dir))...)
}

// world is the lab with so many arms. It is made once: contestants take turns.
func (k *kit) world(arms int) (*world, error) {
	if w := k.worlds[arms]; w != nil {
		return w, nil
	}
	w, err := newWorld(arms)
	if err != nil {
		return nil, fmt.Errorf("build the lab: %w", err)
	}
	k.worlds[arms] = w
	return w, nil
}

// limit is how long one measurement may take before it has failed.
func (k *kit) limit(s *stream) time.Duration {
	const startAndStopAtMost = 30 * time.Second
	// The generator may have to share its CPU while flows are begun.
	return startAndStopAtMost + 4*s.settleTime() + k.warmUp + k.duration
}

// Opening passes through the flows of a case. A lost SYN leaves a TCP flow that
// some contestants refuse, so those are begun twice.
const (
	openingUDP = 1
	openingTCP = 2

	// settlingMemo has flows earn the kernel's memory.
	settlingMemo = 12
)

// streamFor is a case's traffic as a contestant needs it.
func (k *kit) streamFor(w *world, c Case, who contestant) *stream {
	s := w.stream(c)
	s.begin(who)
	return s
}

// begin sets how a contestant's flows are begun.
func (s *stream) begin(who contestant) {
	s.opening, s.openWithSYN = openingUDP, !who.midstream
	if s.Protocol == tcp {
		s.opening = openingTCP
	}
	if who.memo {
		s.settling = settlingMemo
	}
}

// run measures a case in rounds in which all contestants take turns. It goes on
// whatever fails, unless ctx ends.
func (k *kit) run(ctx context.Context, c Case) (*CaseResult, error) {
	all := newCollected(c, k)
	w, err := k.world(c.Arms)
	if err != nil {
		all.refuseAll(err)
		return all.result(), nil
	}
	for round := range k.rounds {
		cost, err := k.generatorCost(ctx, w, c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			all.failAll(fmt.Errorf("generator alone: %w", err))
			fmt.Fprintf(k.log, "%v: round %d: generator alone: %v\n", c, round+1, err)
			continue
		}
		all.generatorNS = append(all.generatorNS, cost)
		if err := k.turns(ctx, w, all, round, cost); err != nil {
			return nil, err
		}
	}
	return all.result(), nil
}

// turns has every contestant take its turn in a round. The error is ctx's.
func (k *kit) turns(ctx context.Context, w *world, all *collected, round int, cost float64) error {
	c := all.c
	for i, who := range k.contestants {
		if all.out(i) {
			continue
		}
		m, err := k.undisturbed(ctx, w, who, k.streamFor(w, c, who))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			all.fail(i, err)
			fmt.Fprintf(k.log, "%v: round %d: %s: %v\n", c, round+1, who.name, err)
			continue
		}
		fmt.Fprintf(k.log, "%v: round %d: %-18s %6.2f Mpps of %.2f offered, others took %.0f%% of the CPUs\n",
			c, round+1, who.name, m.mpps(), m.offeredMpps(), 100*m.foreign)
		all.add(i, cost, m)
	}
	return nil
}

// quiet is the share of all CPUs that others may use without a measurement
// being made again.
const quiet = 0.05

// undisturbed measures again, a limited number of times, when something else
// used the machine, and takes the least disturbed measurement.
func (k *kit) undisturbed(ctx context.Context, w *world, who contestant, s *stream) (*measurement, error) {
	var best *measurement
	for range k.attempts {
		m, err := k.measure(ctx, w, who, s)
		if err != nil {
			return nil, err
		}
		if best == nil || m.foreign < best.foreign {
			best = m
		}
		if best.foreign <= quiet {
			break
		}
	}
	return best, nil
}

// generatorCost is how many ns the source takes to make a frame that goes nowhere.
func (k *kit) generatorCost(ctx context.Context, w *world, c Case) (float64, error) {
	s := w.stream(c)
	s.discard, s.stamped, s.Rate = true, false, 0
	g, err := startGenerator(w.gen, s, k.cpus.generator)
	if err != nil {
		return 0, err
	}
	cost, err := k.costOf(ctx, g)
	return cost, errors.Join(err, g.Stop())
}

func (k *kit) costOf(ctx context.Context, g *generator) (float64, error) {
	if err := g.WaitSent(ctx, 1); err != nil {
		return 0, err
	}
	before, err := processTimes(g.PID())
	if err != nil {
		return 0, err
	}
	first, err := g.Sent()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(k.warmUp):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	last, err := g.Sent()
	if err != nil {
		return 0, err
	}
	after, err := processTimes(g.PID())
	if err != nil {
		return 0, err
	}
	if last == first {
		return 0, errors.New("the generator made no frame")
	}
	return float64(after.sub(before).total) / float64(last-first), nil
}
