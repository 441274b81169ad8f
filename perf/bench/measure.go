package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cpus says who works where.
type cpus struct {
	// generator is the CPU of the traffic source. What AF_XDP forwarders
	// receive is also taken in there, as by the interrupt of a real NIC's queue.
	generator int
	// worker is the CPU of the forwarder: its process, or, in the kernel, the
	// thread that takes frames in and sends them on.
	worker int
}

// sample is one reading of all counters.
type sample struct {
	at             time.Time
	sent           uint64
	received       objectCounts
	generator, own cpuTime
	softirqs       cpuTime
	busy, stolen   time.Duration
	delays         *delays
}

// measurement is what one contestant did in one round.
type measurement struct {
	duration time.Duration
	sent     uint64
	received uint64
	// generator is the CPU time of the traffic source's process, softirqs that
	// ran in it included; own that of the forwarder; softirqs that of the
	// kernel's softirq threads.
	generator, own, softirqs cpuTime
	// foreign is the share of all CPUs that neither of these used, and that
	// was not idle: what else ran on the machine.
	foreign float64
	// dropped are frames that the forwarder says it has not forwarded, by reason,
	// since it was started.
	dropped map[string]uint64
	delays  *delays
}

func (m *measurement) mpps() float64 {
	return float64(m.received) / m.duration.Seconds() / 1e6
}

func (m *measurement) offeredMpps() float64 {
	return float64(m.sent) / m.duration.Seconds() / 1e6
}

// run is one contestant with one stream.
type run struct {
	kit    *kit
	world  *world
	who    contestant
	stream *stream

	forwarder *forwarder
	sink      *sink
	generator *generator
	softirqs  []int
}

// measure starts a contestant, lets the stream run until all flows are known
// and the pace is steady, measures for a while, and stops everything.
func (k *kit) measure(ctx context.Context, w *world, who contestant, s *stream) (m *measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.limit(s))
	defer cancel()
	r := &run{kit: k, world: w, who: who, stream: s}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	if err := r.generator.WaitSent(ctx, s.settledFrames()+1); err != nil {
		return nil, err
	}
	if r.forwarder.settle != nil {
		if err := r.forwarder.settle(ctx); err != nil {
			return nil, err
		}
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
	// On a machine that others keep busy the generator may not have run at all.
	if err := r.generator.WaitSent(ctx, before.sent+1); err != nil {
		return nil, err
	}
	after, err := r.sample()
	if err != nil {
		return nil, err
	}
	m = between(before, after)
	if r.forwarder.dropped != nil {
		if m.dropped, err = r.forwarder.dropped(ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (r *run) start(ctx context.Context) (err error) {
	if r.softirqs, err = softirqThreads(r.kit.cpus.generator, r.kit.cpus.worker); err != nil {
		return err
	}
	// The sink comes first: a veth can be sent to from XDP only while there is a
	// program at its other end, which forwarders look at when they start.
	if r.sink, err = openSink(r.world.far, r.who.sink, r.stream.stamped); err != nil {
		return err
	}
	if r.forwarder, err = r.who.start(ctx, r.kit, r.world, r.stream.Case); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.generator, err = startGenerator(r.world.gen, r.stream, r.kit.cpus.generator)
	return err
}

func (r *run) stop() error {
	var errs []error
	if r.generator != nil {
		errs = append(errs, r.generator.Stop())
	}
	if r.forwarder != nil {
		errs = append(errs, r.forwarder.stop())
	}
	if r.sink != nil {
		errs = append(errs, r.sink.Close())
	}
	return errors.Join(errs...)
}

// rest lets time pass in which the generator must not end.
func (r *run) rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.generator.process.Done():
		return fmt.Errorf("the generator has ended: %s", r.generator.process.Output())
	}
}

func (r *run) sample() (*sample, error) {
	s := &sample{}
	var err error
	read := func(into *cpuTime, pids ...int) {
		if err == nil {
			*into, err = processTimes(pids...)
		}
	}
	read(&s.generator, r.generator.PID())
	read(&s.own, r.forwarder.pids...)
	read(&s.softirqs, r.softirqs...)
	if err != nil {
		return nil, err
	}
	if s.busy, s.stolen, err = machineBusy(); err != nil {
		return nil, err
	}
	if r.stream.stamped {
		if s.delays, err = r.sink.Delays(); err != nil {
			return nil, err
		}
	}
	s.at = time.Now()
	if s.sent, err = r.generator.Sent(); err != nil {
		return nil, err
	}
	s.received, err = r.sink.Counts()
	return s, err
}

func between(before, after *sample) *measurement {
	m := &measurement{
		duration:  after.at.Sub(before.at),
		sent:      after.sent - before.sent,
		received:  after.received.Frames - before.received.Frames,
		generator: after.generator.sub(before.generator),
		own:       after.own.sub(before.own),
		softirqs:  after.softirqs.sub(before.softirqs),
	}
	ours := m.generator.total + m.own.total + m.softirqs.total
	all := float64(m.duration) * float64(cpuCount())
	m.foreign = max(0, float64(after.busy-before.busy+after.stolen-before.stolen-ours)/all)
	if after.delays != nil {
		m.delays = after.delays.since(before.delays)
	}
	return m
}
