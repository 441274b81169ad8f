package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead/perf/lab"
)

// connSample is one reading of all counters.
type connSample struct {
	at                time.Time
	completed, failed uint64
	own, rest         cpuTime
	busy, stolen      time.Duration
}

// connMeasurement is what one proxy did in one round.
type connMeasurement struct {
	duration          time.Duration
	completed, failed uint64
	own               cpuTime // of its processes, and of the threads that take its host's frames in
	foreign           float64 // the share of all CPUs that neither it nor clients and server used
}

func (m *connMeasurement) perSecond() float64 { return float64(m.completed) / m.duration.Seconds() }

// connRun is one proxy with clients and server.
type connRun struct {
	kit       *kit
	world     *connWorld
	who       proxy
	forwarder *forwarder
	server    *lab.Process
	traffic   *connTraffic
	softirqs  []int
}

// connLimit is how long one measurement may take before it has failed, beside
// the time it measures.
const connLimit = 20 * time.Second

// connBegun is how many connections are made before it warms up.
const connBegun = 100

// measureConnections starts a proxy, lets clients connect, measures for a while,
// and stops everything.
func (k *kit) measureConnections(ctx context.Context, w *connWorld, who proxy) (m *connMeasurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, connLimit+k.warmUp+k.duration)
	defer cancel()
	r := &connRun{kit: k, world: w, who: who}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if err := r.traffic.wait(ctx, connBegun); err != nil {
		return nil, err
	}
	if err := r.rest(ctx, k.warmUp); err != nil {
		return nil, err
	}
	before, err := r.sample()
	if err != nil {
		return nil, err
	}
	if err := r.rest(ctx, k.duration); err != nil {
		return nil, err
	}
	if err := r.traffic.wait(ctx, before.completed+1); err != nil {
		return nil, err
	}
	after, err := r.sample()
	if err != nil {
		return nil, err
	}
	m = &connMeasurement{
		duration:  after.at.Sub(before.at),
		completed: after.completed - before.completed,
		failed:    after.failed - before.failed,
		own:       after.own.sub(before.own),
	}
	ours := m.own.total + after.rest.sub(before.rest).total
	all := float64(m.duration) * float64(cpuCount())
	m.foreign = max(0, float64(after.busy-before.busy+after.stolen-before.stolen-ours)/all)
	return m, nil
}

func (r *connRun) start(ctx context.Context) (err error) {
	c := r.kit.cpus
	if r.softirqs, err = softirqThreads(c.generator, c.worker); err != nil {
		return err
	}
	// A thread that takes frames in would wait for a worker that polls.
	takeIn := c.worker
	if r.who.polls {
		takeIn = c.generator
	}
	for _, pid := range r.world.threads {
		if err := setAffinity(pid, takeIn); err != nil {
			return err
		}
	}
	if r.server, err = r.world.startServer(ctx, c.generator); err != nil {
		return err
	}
	if r.forwarder, err = r.who.start(ctx, r.kit, r.world); err != nil {
		return err
	}
	r.traffic, err = r.world.startClients(c.generator)
	return err
}

func (r *connRun) stop() error {
	var errs []error
	if r.traffic != nil {
		errs = append(errs, r.traffic.Stop())
	}
	if r.forwarder != nil {
		errs = append(errs, r.forwarder.stop())
	}
	if r.server != nil {
		errs = append(errs, r.server.Kill())
	}
	return errors.Join(errs...)
}

// rest lets time pass in which the clients must not end.
func (r *connRun) rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.traffic.process.Done():
		return fmt.Errorf("the clients have ended: %s", r.traffic.process.Output())
	}
}

func (r *connRun) sample() (*connSample, error) {
	s := &connSample{}
	var err error
	if s.own, err = processTimes(append(r.world.threads[:len(r.world.threads):len(r.world.threads)], r.forwarder.pids...)...); err != nil {
		return nil, err
	}
	rest := append([]int{r.traffic.process.Pid(), r.server.Pid()}, r.world.others...)
	if s.rest, err = processTimes(append(rest, r.softirqs...)...); err != nil {
		return nil, err
	}
	if s.busy, s.stolen, err = machineBusy(); err != nil {
		return nil, err
	}
	s.at, s.completed, s.failed = time.Now(), r.traffic.completed(), r.traffic.failed()
	return s, nil
}
