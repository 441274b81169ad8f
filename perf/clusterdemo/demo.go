package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab/traffic"
)

// How long the demo may take, how long one step may, and how long what has changed
// is watched before it is summed up.
const (
	limit     = 3 * time.Minute
	stepLimit = 30 * time.Second
	watch     = 2 * time.Second
)

// Options are what the demo can be told.
type Options struct {
	Out         io.Writer
	Binary      string // the fairlead to show
	Machines    string // directory of the scripts that set machines up
	Dir         string // for everybody's files
	Connections int    // that are kept alive
}

// Run shows what survives, and cleans up. It is an error when a connection broke
// that need not have.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin := time.Now()
	w, err := build(ctx, o)
	if err != nil {
		return err
	}
	broken, err := w.show(ctx)
	if err != nil {
		for _, b := range w.lbs {
			if b.Node != nil {
				fmt.Fprintf(o.Out, "\n%s's log:\n%s", b.Name, b.Log())
			}
		}
	}
	if err := errors.Join(err, w.lab.Close()); err != nil {
		return err
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d connections broke", broken, o.Connections)
	}
	fmt.Fprintf(o.Out, "\nAll %d connections lived through all of it: %.0f seconds, everything is removed.\n", o.Connections, time.Since(begin).Seconds())
	return nil
}

// step is one thing that happens.
type step struct {
	title string
	do    func(ctx context.Context) (string, error)
}

func (w *world) show(ctx context.Context) (broken int, err error) {
	out := w.o.Out
	fmt.Fprintf(out, `
   clients on the router ── ECMP ──┬── lb1 ──┬── backend1 … backend4
             (BIRD, BGP + BFD)     ├── lb2 ──┤   (replies go straight back)
                                   └── lb3 ──┘
The first node's file has the service; the others were given a key and a seed.

`)
	if _, err := w.hops(ctx, w.lbs...); err != nil {
		return 0, err
	}
	if err := w.until(ctx, "every node has the service and four backends", w.agreed); err != nil {
		return 0, err
	}
	p, err := w.open(ctx)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%d connections, a message every 50 ms on each.  by backend: %s\n\n", len(p.all), p.byServer())
	lb1, lb2, lb3 := w.lbs[0], w.lbs[1], w.lbs[2]
	steps := []step{
		{"lb2 dies (kill -9 of all of it, cables out) and backend1 drains in the same moment", func(ctx context.Context) (string, error) {
			drained := make(chan error, 1)
			go func() { drained <- w.fairlead(ctx, lb1, "backend", "drain", "web", "backend1") }()
			if err := lb2.die(); err != nil {
				return "", err
			}
			took, err := w.hops(ctx, lb1, lb3)
			return fmt.Sprintf("the router noticed after %d ms", took.Milliseconds()), errors.Join(err, <-drained)
		}},
		{"lb2 comes back, knows what the others know, and is sent connections again", func(ctx context.Context) (string, error) {
			if err := lb2.comeBack(ctx); err != nil {
				return "", err
			}
			took, err := w.hops(ctx, w.lbs...)
			return fmt.Sprintf("after %.1f s", took.Seconds()), err
		}},
		{"lb3 is drained, by a word to lb1", func(ctx context.Context) (string, error) {
			if err := w.fairlead(ctx, lb1, "drain", lb3.Name); err != nil {
				return "", err
			}
			took, err := w.hops(ctx, lb1, lb2)
			return fmt.Sprintf("the router had let go of it after %d ms", took.Milliseconds()), err
		}},
		{"backend2's traffic is taken over by a backend that comes back: backend1", func(ctx context.Context) (string, error) {
			return "", errors.Join(w.fairlead(ctx, lb2, "backend", "drain", "web", "backend2"), w.fairlead(ctx, lb2, "backend", "enable", "web", "backend1"))
		}},
		{"lb3 is undrained, by a word to lb2; lb1 dies", func(ctx context.Context) (string, error) {
			if err := w.fairlead(ctx, lb2, "undrain", lb3.Name); err != nil {
				return "", err
			}
			if _, err := w.hops(ctx, w.lbs...); err != nil {
				return "", err
			}
			if err := lb1.die(); err != nil {
				return "", err
			}
			took, err := w.hops(ctx, lb2, lb3)
			return fmt.Sprintf("the router noticed after %d ms", took.Milliseconds()), err
		}},
	}
	for _, s := range steps {
		if err := w.take(ctx, s, p); err != nil {
			return 0, fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return p.stop(ctx, out), nil
}

// take does a step and prints what became of the connections.
func (w *world) take(ctx context.Context, s step, p *pingers) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	said, err := s.do(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(watch):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.everyOneHears(ctx)
	fmt.Fprintf(w.o.Out, "%s\n", s.title)
	if said != "" {
		said = ", " + said
	}
	fmt.Fprintf(w.o.Out, "    broken: %d of %d%s\n", p.broken(), len(p.all), said)
	return nil
}

// fairlead runs a command against a node.
func (w *world) fairlead(ctx context.Context, b *balancer, args ...string) error {
	out, err := exec.CommandContext(ctx, w.o.Binary, append(args, "--socket", b.Socket)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fairlead %s on %s: %w: %s", strings.Join(args, " "), b.Name, err, out)
	}
	return nil
}

// until waits for something to be so of every node.
func (w *world) until(ctx context.Context, what string, ok func(*api.Status) bool) error {
	for _, b := range w.lbs {
		if err := b.Until(ctx, ok); err != nil {
			return fmt.Errorf("%s: not on %s: %w", what, b.Name, err)
		}
	}
	return nil
}

func (w *world) agreed(s *api.Status) bool {
	if len(s.Services) != 1 || len(s.Services[0].Backends) != backends {
		return false
	}
	return !slices.ContainsFunc(s.Services[0].Backends, func(b api.Backend) bool { return b.State != "up" })
}

// die ends a node as a power failure does: its cables are dead first, so that
// nothing is sent in its name by a dying process.
func (b *balancer) die() error {
	var errs []error
	for _, l := range b.links {
		errs = append(errs, l.SetDown())
	}
	return errors.Join(append(errs, b.KillAll())...)
}

func (b *balancer) comeBack(ctx context.Context) error {
	for _, l := range b.links {
		if err := l.SetUp(); err != nil {
			return err
		}
	}
	if err := b.AddRoute(netip.MustParsePrefix("203.0.113.0/24"), netip.MustParseAddr(frontNet+"254")); err != nil {
		return err
	}
	return b.Launch(ctx)
}

// pingers are long-lived connections on which something is always said.
type pingers struct{ all []*traffic.Pinger }

func (w *world) open(ctx context.Context) (*pingers, error) {
	p := &pingers{}
	for range w.o.Connections {
		one, err := traffic.StartPinger(ctx, w.router.Host, traffic.PingerConfig{Target: netip.AddrPortFrom(vip, servicePort), Interval: 50 * time.Millisecond})
		if err != nil {
			return nil, err
		}
		p.all = append(p.all, one)
	}
	p.everyOneHears(ctx)
	return p, nil
}

// everyOneHears waits until every connection has had another echo, or is broken.
func (p *pingers) everyOneHears(ctx context.Context) {
	for _, one := range p.all {
		if !oneHears(ctx, one) {
			return
		}
	}
}

// oneHears is false when there is no time left.
func oneHears(ctx context.Context, one *traffic.Pinger) bool {
	for from := one.Received(); one.Received() == from; {
		select {
		case <-one.Broken():
			return true
		case <-ctx.Done():
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

func (p *pingers) broken() (n int) {
	for _, one := range p.all {
		select {
		case <-one.Broken():
			n++
		default:
		}
	}
	return n
}

func (p *pingers) byServer() string {
	counts := map[string]int{}
	for _, one := range p.all {
		counts[one.Server()]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// stop ends all connections and demands every message back. It returns how many
// connections were broken, after saying how.
func (p *pingers) stop(ctx context.Context, out io.Writer) (broken int) {
	var sent, received uint64
	var longest time.Duration
	for _, one := range p.all {
		r, err := one.Stop(ctx)
		sent, received, longest = sent+r.Sent, received+r.Received, max(longest, r.LongestGap)
		if err != nil {
			if broken++; broken <= 10 {
				fmt.Fprintf(out, "BROKEN: %v\n", err)
			}
		}
	}
	fmt.Fprintf(out, "\n%d messages said, %d came back; the longest silence on any connection was %d ms.\n", sent, received, longest.Milliseconds())
	return broken
}
