package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/perf/rig"
)

const (
	oneSample = 30 * time.Second       // for a change to take effect
	pause     = 100 * time.Millisecond // between samples, and as much again by chance
)

// measure measures changes at rest, and while others are made.
func (w *world) measure(ctx context.Context, out io.Writer) error {
	p, err := startProbes(ctx, w.rack.Client, w.rack.Backends, netip.AddrPortFrom(vip(0), probePort))
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := p.wait(ctx, 0); err != nil {
		return err
	}
	fmt.Fprintf(out, "from a change of an EndpointSlice to the first packet by the new table, %d changes each; probes every %s\n", w.samples, probeEvery)
	changes := 0
	if err := w.sample(ctx, out, p, "at rest", &changes); err != nil {
		return err
	}
	load := w.startLoad(ctx)
	err = w.sample(ctx, out, p, fmt.Sprintf("%d changes/s", w.rate), &changes)
	made, took, failed := load()
	fmt.Fprintf(out, "  %.0f other changes a second were made, %d failed\n", float64(made)/took.Seconds(), failed)
	return err
}

func (p *prober) wait(ctx context.Context, backend int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, oneSample)
	defer cancel()
	return p.answered(ctx, backend)
}

// sample measures changes. Two times are taken of each: from when the request was
// sent, and from when the API server had answered.
func (w *world) sample(ctx context.Context, out io.Writer, p *prober, what string, changes *int) error {
	var sent, answered []time.Duration
	for range w.samples {
		*changes++
		began := p.reset()
		if err := w.change(ctx, 0, *changes); err != nil {
			return err
		}
		ended := time.Now()
		at, err := p.wait(ctx, *changes%2)
		if err != nil {
			return fmt.Errorf("change %d: %w", *changes, err)
		}
		sent, answered = append(sent, at.Sub(began)), append(answered, max(at.Sub(ended), 0))
		time.Sleep(pause + rand.N(pause))
	}
	fmt.Fprintf(out, "  %-16s from the request:            %s\n", what, spread(sent))
	fmt.Fprintf(out, "  %-16s from the API server's answer: %s\n", "", spread(answered))
	return nil
}

// spread is how a list of times is spread.
func spread(list []time.Duration) string {
	slices.Sort(list)
	at := func(part float64) time.Duration {
		return list[min(len(list)-1, int(part*float64(len(list))))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, max %v", at(0.5), at(0.9), at(0.99), list[len(list)-1].Round(10*time.Microsecond))
}

// startLoad changes the endpoints of other Services until stop.
func (w *world) startLoad(ctx context.Context) (stop func() (made int64, took time.Duration, failed int64)) {
	ctx, cancel := context.WithCancel(ctx)
	began := time.Now()
	var wg sync.WaitGroup
	var count, failures, turn atomic.Int64
	due := make(chan struct{}, makers)
	wg.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(w.rate))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				close(due)
				return
			case <-ticker.C:
				select {
				case due <- struct{}{}:
				default: // the API server does not keep up
				}
			}
		}
	})
	for range makers {
		wg.Go(func() {
			for range due {
				turn := int(turn.Add(1))
				n := 1 + turn%(w.services-1)
				switch err := w.change(ctx, n, 1+turn/(w.services-1)); {
				case err == nil:
					count.Add(1)
				case ctx.Err() == nil:
					failures.Add(1)
				}
			}
		})
	}
	return func() (int64, time.Duration, int64) {
		cancel()
		wg.Wait()
		return count.Load(), time.Since(began), failures.Load()
	}
}

// memory tells how much the node's processes have.
func (w *world) memory(ctx context.Context, out io.Writer) error {
	st, err := w.node.Status(ctx)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		pid  int
	}{{"control process", w.node.Process().Pid()}, {"data process", st.Data.PID}} {
		fields, err := rig.ProcessStatus(p.pid)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "memory of the %s: %s resident (%s of it its own), %s at most\n", p.name, mebi(fields["VmRSS"]), mebi(fields["RssAnon"]), mebi(fields["VmHWM"]))
	}
	return nil
}

// mebi makes "12345 kB" readable.
func mebi(text string) string {
	kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
	if err != nil {
		return text
	}
	return fmt.Sprintf("%.0f MiB", float64(kb)/1024)
}
