package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"fairlead/xdp/decap"
)

// watchInterval is how often the interfaces are looked at.
const watchInterval = time.Second

// Backend is a machine set up as a backend.
type Backend struct {
	cfg   *Config
	log   *slog.Logger
	ports []*port
	undo  []func() error // in the order in which it was done
}

// port is one interface that packets from load balancers arrive on.
type port struct {
	name   string
	index  int
	decap  *decap.Decap // nil in ModeNone
	logged decap.Counters
}

// Start sets the machine up. Nothing stays behind when it fails.
func Start(cfg *Config, log *slog.Logger) (*Backend, error) {
	b := &Backend{cfg: cfg, log: log}
	if err := b.start(); err != nil {
		return nil, errors.Join(err, b.restore())
	}
	return b, nil
}

// start attaches the programs before it adds a VIP: whoever cannot attach has
// changed nothing that another process may have made.
func (b *Backend) start() error {
	if err := checkPrivileges(b.cfg.Mode); err != nil {
		return err
	}
	l, err := lock()
	if err != nil {
		return err
	}
	b.undo = append(b.undo, l.Close)
	for _, name := range b.cfg.Interfaces {
		device, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, unwrapOp(err))
		}
		if device.Flags&net.FlagUp == 0 {
			b.log.Warn("the interface is down", "interface", name)
		}
		b.ports = append(b.ports, &port{name: name, index: device.Index})
	}
	if b.cfg.Mode != ModeNone {
		for _, p := range b.ports {
			if err := b.attach(p); err != nil {
				return err
			}
		}
	}
	if len(b.cfg.VIPs) > 0 {
		for _, p := range b.ports {
			host, err := decap.SetupHost(p.name, b.cfg.VIPs)
			if err != nil {
				return err
			}
			b.undo = append(b.undo, host.Close)
		}
	}
	b.warn()
	return nil
}

// unwrapOp takes the operation out of an error of package net, whose text
// repeats what is said already.
func unwrapOp(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (b *Backend) attach(p *port) error {
	d, err := decap.Attach(p.index, p.name, decap.Config{
		VIPs: b.cfg.VIPs, LoadBalancers: b.cfg.From, GUEPort: b.cfg.GUEPort, Mode: b.cfg.Mode, PinPath: b.cfg.PinPath,
	})
	if err != nil {
		return err
	}
	p.decap = d
	b.undo = append(b.undo, d.Close)
	a := d.Attached()
	b.log.Info("decapsulation attached", "interface", p.name, "mode", a.Mode, "frags", a.Frags, "adopted", a.Adopted, "reason", a.Reason)
	return nil
}

// warn tells of what is allowed and seldom meant.
func (b *Backend) warn() {
	if b.cfg.Mode == ModeNone {
		return
	}
	if len(b.cfg.From) == 0 {
		b.log.Warn("tunnel packets are accepted from anywhere: name the load balancers with --from")
	}
	if len(b.cfg.VIPs) == 0 {
		b.log.Warn("every tunnel packet to this machine is taken, and no VIP is added to lo: name the VIPs with --vip")
	}
}

// Run returns when ctx ends, or with an error when an interface is gone. It
// logs counters as often as the configuration says.
func (b *Backend) Run(ctx context.Context) error {
	watch := time.NewTicker(watchInterval)
	defer watch.Stop()
	var report <-chan time.Time
	if b.cfg.Report > 0 {
		t := time.NewTicker(b.cfg.Report)
		defer t.Stop()
		report = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-report:
			b.report(false)
		case <-watch.C:
			if err := b.checkInterfaces(); err != nil {
				return err
			}
		}
	}
}

// checkInterfaces fails when an interface is not the one that the program was
// attached to: a new one of the same name has no program. Whoever supervises
// this process starts it again.
func (b *Backend) checkInterfaces() error {
	for _, p := range b.ports {
		if device, err := net.InterfaceByName(p.name); err != nil || device.Index != p.index {
			return fmt.Errorf("interface %s is gone, or another has its name", p.name)
		}
	}
	return nil
}

// report logs the counters that are not zero, of each interface that has
// counted since the last time, or of all.
func (b *Backend) report(all bool) {
	for _, p := range b.ports {
		if p.decap == nil {
			continue
		}
		c, err := p.decap.Counters()
		if err != nil {
			b.log.Error("counters", "error", err)
			continue
		}
		if c == p.logged && !all {
			continue
		}
		p.logged = c
		args := []any{"interface", p.name, "decapsulated", c.Decapsulated()}
		for name, n := range c.Named {
			if n > 0 {
				args = append(args, name, n)
			}
		}
		b.log.Info("packets", args...)
	}
}

// Close logs the counters for the last time and undoes everything: the VIPs go
// first, and the program last, so that no packet of a connection meets a host
// that has no such address and no program.
func (b *Backend) Close() error {
	b.report(true)
	return b.restore()
}

func (b *Backend) restore() error {
	var errs []error
	for len(b.undo) > 0 {
		last := len(b.undo) - 1
		errs = append(errs, b.undo[last]())
		b.undo = b.undo[:last]
	}
	return errors.Join(errs...)
}
