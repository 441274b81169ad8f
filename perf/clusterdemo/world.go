package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/lab/router"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// The network, as the scripts have it.
const (
	balancers   = 3
	backends    = 4
	frontNet    = "198.18.0."
	servicePort = 80
)

var vip = netip.MustParseAddr("203.0.113.80")

// world is everything that runs while the demo does.
type world struct {
	o       Options
	lab     *lab.Lab
	router  *machine
	lbs     []*balancer
	servers []*machine
}

// machine is a namespace that was set up by a script.
type machine struct {
	*lab.Host
	dir   string // in place of /etc
	links []*lab.Interface
}

// balancer is one of the nodes.
type balancer struct {
	*machine
	*rig.Node
	number int
	front  netip.Addr
}

// build makes the machines and starts what runs on them.
func build(ctx context.Context, o Options) (w *world, err error) {
	w = &world{o: o}
	if w.lab, err = lab.New(); err != nil {
		return nil, err
	}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, w.lab.Close())
	}
	return w, nil
}

func (w *world) start(ctx context.Context) error {
	front, err := w.lab.AddSwitch("front")
	if err != nil {
		return err
	}
	back, err := w.lab.AddSwitch("back")
	if err != nil {
		return err
	}
	if w.router, err = w.machine("router", front, back); err != nil {
		return err
	}
	for n := 1; n <= backends; n++ {
		m, err := w.machine(fmt.Sprintf("backend%d", n), nil, back)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, m)
	}
	for n := 1; n <= balancers; n++ {
		m, err := w.machine(fmt.Sprintf("lb%d", n), front, back)
		if err != nil {
			return err
		}
		w.lbs = append(w.lbs, &balancer{machine: m, number: n, front: netip.MustParseAddr(fmt.Sprintf("%s%d", frontNet, 10+n))})
	}
	key := filepath.Join(w.o.Dir, "cluster.key")
	if err := makeKey(key); err != nil {
		return err
	}
	if err := w.provision(ctx, w.router, "router.sh"); err != nil {
		return err
	}
	for i, m := range w.servers {
		if err := w.provision(ctx, m, "backend.sh", fmt.Sprint(1+i)); err != nil {
			return err
		}
		if _, err := traffic.ServeStream(m.Host, fmt.Sprintf(":%d", servicePort)); err != nil {
			return err
		}
	}
	for _, b := range w.lbs {
		if err := w.provision(ctx, b.machine, "balancer.sh", fmt.Sprint(b.number), key); err != nil {
			return err
		}
	}
	return nil
}

// machine makes a host that is plugged into the switches.
func (w *world) machine(name string, front, back *lab.Switch) (*machine, error) {
	h, err := w.lab.AddHost(name)
	if err != nil {
		return nil, err
	}
	m := &machine{Host: h, dir: filepath.Join(w.o.Dir, name)}
	for _, arm := range []struct {
		sw   *lab.Switch
		name string
	}{{front, "eth1"}, {back, "eth2"}} {
		if arm.sw == nil {
			continue
		}
		link, err := arm.sw.Plug(h, arm.name, lab.LinkConfig{})
		if err != nil {
			return nil, err
		}
		m.links = append(m.links, link)
	}
	return m, os.MkdirAll(filepath.Join(m.dir, "start"), 0o755)
}

// recorder stands in for systemd: what a script starts is written down, a word a
// line, and then started on the machine by this process.
const recorder = `#!/bin/sh
name=$1
shift
printf '%s\n' "$@" >"$ETC/start/$name"
`

// provision runs a script on a machine and starts what it says.
func (w *world) provision(ctx context.Context, m *machine, script string, args ...string) error {
	start := filepath.Join(m.dir, "start-here")
	if err := os.WriteFile(start, []byte(recorder), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.o.Machines, script), args...)
	cmd.Env = append(os.Environ(), "ETC="+m.dir, "FAIRLEAD="+w.o.Binary, "START="+start, "SERVER=none", "PIN_PATH=")
	p, err := m.Start(cmd)
	if err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("%s on %s: %w\n%s", script, m.Name, err, p.Output())
	}
	names, err := os.ReadDir(filepath.Join(m.dir, "start"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(m.dir, "start", name.Name()))
		if err != nil {
			return err
		}
		words := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if err := w.launch(ctx, m, name.Name(), words); err != nil {
			return fmt.Errorf("%s on %s: %w", name.Name(), m.Name, err)
		}
	}
	return nil
}

func (w *world) launch(ctx context.Context, m *machine, name string, words []string) error {
	if name == "fairlead" {
		i := slices.IndexFunc(w.lbs, func(b *balancer) bool { return b.machine == m })
		text, err := os.ReadFile(words[slices.Index(words, "--config")+1])
		if err != nil {
			return err
		}
		w.lbs[i].Node, err = rig.Start(ctx, w.o.Binary, m.dir, m.Host, string(text))
		return err
	}
	p, err := m.Start(exec.Command(words[0], words[1:]...))
	if err != nil {
		return err
	}
	if name == "backend" {
		return p.WaitOutput(ctx, "backend is ready")
	}
	return nil
}

// makeKey makes the key that all nodes of a cluster have.
func makeKey(path string) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
}

// hops waits until the router sends the VIP to these balancers and no others.
func (w *world) hops(ctx context.Context, want ...*balancer) (took time.Duration, err error) {
	begin := time.Now()
	var addrs []netip.Addr
	for _, b := range want {
		addrs = append(addrs, b.front)
	}
	for {
		got, err := router.NextHops(w.router.Host, netip.PrefixFrom(vip, vip.BitLen()))
		if err != nil {
			return 0, err
		}
		if slices.Equal(got, addrs) {
			return time.Since(begin), nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("the router sends %s to %v, not to %v: %w", vip, got, addrs, context.Cause(ctx))
		}
	}
}
