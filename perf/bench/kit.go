package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"fairlead/perf/rig"
)

// kit is what all measurements of one run share.
type kit struct {
	*profile
	contestants []contestant
	cpus        cpus
	dir         string // for files, removed by Close
	binary      string // fairlead's
	log         io.Writer
	foreign     float64 // the largest share of others in any measurement that counts

	cBinary func() (string, error)
	worlds  map[int]*world // by arms
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
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
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
	const startAndStop = 30 * time.Second
	// The generator may have to share its CPU while flows are begun.
	opening := 4 * time.Duration(s.openingFrames()) * (time.Second / openingRate)
	return startAndStop + opening + k.warmUp + k.duration
}

// Opening passes through the flows of a case. A lost SYN leaves a TCP flow that
// some contestants refuse, so those are begun twice.
const (
	openingUDP = 1
	openingTCP = 2
)

// streamFor is a case's traffic as a contestant needs it.
func (k *kit) streamFor(w *world, c Case, who contestant) *stream {
	s := w.stream(c)
	s.opening, s.openWithSYN = openingUDP, !who.midstream
	if c.Protocol == tcp {
		s.opening = openingTCP
	}
	return s
}

// run measures all cases, each in rounds in which all contestants take turns.
func (k *kit) run(ctx context.Context) ([]CaseResult, error) {
	var results []CaseResult
	for _, c := range k.cases {
		r, err := k.runCase(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
		results = append(results, *r)
	}
	return results, nil
}

func (k *kit) runCase(ctx context.Context, c Case) (*CaseResult, error) {
	w, err := k.world(c.Arms)
	if err != nil {
		return nil, err
	}
	all := newCollected(c, k)
	for round := range k.rounds {
		cost, err := k.generatorCost(ctx, w, c)
		if err != nil {
			return nil, fmt.Errorf("generator alone: %w", err)
		}
		all.generatorNS = append(all.generatorNS, cost)
		for i, who := range k.contestants {
			if all.notRun[i] != "" {
				continue
			}
			m, err := k.undisturbed(ctx, w, who, k.streamFor(w, c, who))
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				all.notRun[i] = err.Error()
				fmt.Fprintf(k.log, "%v: %s: %v\n", c, who.name, err)
				continue
			}
			fmt.Fprintf(k.log, "%v: round %d: %-15s %6.2f Mpps of %.2f offered, others took %.0f%% of the CPUs\n",
				c, round+1, who.name, m.mpps(), m.offeredMpps(), 100*m.foreign)
			all.add(i, cost, m)
		}
	}
	return all.result(), nil
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
