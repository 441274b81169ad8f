package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"fairlead/controlplane/api"
	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
)

// startWait is how long a process may take to come up.
const startWait = 30 * time.Second

// world is everything that runs while the demo does: namespaces, the load
// balancer, the backends' processes and servers.
type world struct {
	topo     *lab.Topology
	services []service
	dir      string // of the load balancer's configuration and socket
	node     *rig.Node
	backends []*lab.Process // `fairlead backend`, in the order of topo.Backends
}

// build makes the world and starts all that runs in it.
func build(ctx context.Context, binary string) (*world, error) {
	topo, err := lab.TwoArm(lab.Config{})
	if err != nil {
		return nil, err
	}
	w := &world{topo: topo, services: services(topo)}
	if err := w.start(ctx, binary); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) start(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for _, b := range w.topo.Backends {
		if err := w.startBackend(ctx, binary, b); err != nil {
			return err
		}
	}
	var err error
	if w.dir, err = os.MkdirTemp("", "fairlead-demo-"); err != nil {
		return err
	}
	if w.node, err = rig.Start(ctx, binary, w.dir, w.topo.LB, configuration(w.topo, w.services)); err != nil {
		return err
	}
	if err := w.node.Until(ctx, allUp); err != nil {
		return fmt.Errorf("the load balancer does not find all backends: %w\n%s", err, w.node.Log())
	}
	return nil
}

// allUp says whether the load balancer knows the way to every backend.
func allUp(s *api.Status) bool {
	for i := range s.Services {
		for _, b := range s.Services[i].Backends {
			if b.State != "up" {
				return false
			}
		}
	}
	return true
}

// backendArgs are the arguments of `fairlead` on every backend.
func (w *world) backendArgs() []string {
	args := []string{"backend", "--interface", w.topo.Backends[0].Interface.Name}
	for _, source := range []netip.Addr{w.topo.Back.IPv4, w.topo.Back.IPv6} {
		args = append(args, "--from", source.String())
	}
	for _, vip := range directVIPs(w.services) {
		args = append(args, "--vip", vip.String())
	}
	return args
}

// startBackend starts what runs on one backend: `fairlead backend`, and the
// servers.
func (w *world) startBackend(ctx context.Context, binary string, b *lab.Node) error {
	cmd := exec.Command(binary, w.backendArgs()...)
	// A terminal's interrupt is for the demo, which ends everything in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := b.Start(cmd)
	if err != nil {
		return err
	}
	w.backends = append(w.backends, p)
	if err := p.WaitOutput(ctx, "backend is ready"); err != nil {
		return err
	}
	for _, port := range []uint16{httpPort, natHTTPPort} {
		if _, err := traffic.ServeHTTP(b.Host, fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
	}
	for _, port := range []uint16{udpPort, natUDPPort} {
		if _, err := traffic.ServeUDP(b.Host, fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
	}
	return nil
}

// decapsulated stops `fairlead backend` everywhere and returns what each said
// of its packets at its end, in the order of the backends.
func (w *world) decapsulated() ([]string, error) {
	var said []string
	for _, p := range w.backends {
		if err := p.Stop(10 * time.Second); err != nil {
			return nil, err
		}
		out := string(p.Output())
		at := strings.LastIndex(out, "msg=packets ")
		if at < 0 {
			return nil, fmt.Errorf("fairlead backend has not told of its packets:\n%s", out)
		}
		line, _, _ := strings.Cut(out[at+len("msg=packets "):], "\n")
		said = append(said, line)
	}
	return said, nil
}

// close ends everything and removes it.
func (w *world) close() error {
	errs := []error{w.topo.Close()}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}
