package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

// proxy is a way of carrying TCP connections that takes part in their contest.
type proxy struct {
	name, what string
	refuse     func() string // why it cannot be run, "" if it can
	// polls says that it waits for frames in a loop, which keeps a CPU busy: the
	// threads that take frames in then have to go elsewhere.
	polls bool
	start func(context.Context, *kit, *connWorld) (*forwarder, error)
}

// proxies are all there are, in the order of the table.
func proxies() []proxy {
	return []proxy{haproxyTCP, nftablesConnections, fairleadConnections("nat"), fairleadConnections("ipip")}
}

// haproxyTCP ends each connection and begins another.
var haproxyTCP = proxy{
	name: "haproxy-tcp",
	what: "HAProxy in mode tcp, one thread: a connection to the client, another to the server",
	refuse: func() string {
		if _, err := exec.LookPath("haproxy"); err != nil {
			return "haproxy is not installed"
		}
		return ""
	},
	start: startHAProxy,
}

func startHAProxy(ctx context.Context, k *kit, w *connWorld) (*forwarder, error) {
	dir, err := os.MkdirTemp(k.dir, "haproxy-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(haproxyConfig(w)), 0o600); err != nil {
		return nil, err
	}
	disown, err := w.own()
	if err != nil {
		return nil, err
	}
	p, err := w.lb.Start(exec.Command("haproxy", "-db", "-f", path))
	if err != nil {
		return nil, errors.Join(err, disown())
	}
	f := &forwarder{pids: []int{p.Pid()}, stop: func() error {
		return errors.Join(p.Kill(), disown(), os.RemoveAll(dir))
	}}
	err = setAffinity(p.Pid(), k.cpus.worker)
	if err == nil {
		err = answers(ctx, w, p)
	}
	if err != nil {
		return nil, errors.Join(err, f.stop())
	}
	return f, nil
}

func haproxyConfig(w *connWorld) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n  nbthread 1\n  maxconn 4000\n")
	fmt.Fprintf(&b, "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n")
	fmt.Fprintf(&b, "frontend vip\n  bind %s:%d\n  default_backend servers\n", vip4, servicePort)
	fmt.Fprintf(&b, "backend servers\n  balance roundrobin\n")
	for i, a := range w.backends {
		fmt.Fprintf(&b, "  server s%d %s:%d\n", i, a, servicePort)
	}
	return b.String()
}

// answers returns when a client gets an answer from the VIP.
func answers(ctx context.Context, w *connWorld, p *lab.Process) error {
	for {
		err := ask(ctx, w)
		if err == nil {
			return nil
		}
		var ended <-chan struct{}
		if p != nil {
			ended = p.Done()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no connection to %s: %w", vip4, err)
		case <-ended:
			return fmt.Errorf("it has ended: %s", p.Output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// askTime bounds one attempt at a connection.
const askTime = 250 * time.Millisecond

// ask makes one connection.
func ask(ctx context.Context, w *connWorld) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c, err := w.client.Dial(ctx, "tcp4", fmt.Sprintf("%s:%d", vip4, servicePort))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTime)); err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, requestLen)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, responseLen))
	return err
}

// nftablesConnections is nftables-dnat once more; replies take the same way back.
var nftablesConnections = proxy{
	name: nftablesDNAT.name,
	what: nftablesDNAT.what,
	refuse: func() string {
		if _, err := exec.LookPath("nft"); err != nil {
			return "nft is not installed"
		}
		return ""
	},
	start: func(ctx context.Context, _ *kit, w *connWorld) (*forwarder, error) {
		rules := nftRules(&addresses{vip: vip4, backends: w.backends}, Case{Protocol: tcp})
		f := &forwarder{stop: func() error {
			return errors.Join(loadRules(context.Background(), w.lb, "flush ruleset\n"), w.forgetConnections())
		}}
		if err := loadRules(ctx, w.lb, rules); err != nil {
			return nil, err
		}
		if err := answers(ctx, w, nil); err != nil {
			return nil, errors.Join(err, f.stop())
		}
		return f, nil
	},
}

// fairleadConnections is the whole of Fairlead with one method. By nat, replies
// come back through it; with a tunnel the server unpacks in XDP, as `fairlead
// backend` has it, and answers the client directly.
func fairleadConnections(method string) proxy {
	what := "`fairlead run`, method " + method
	if method != "nat" {
		what += "; servers answer clients directly"
	}
	return proxy{name: "fairlead-" + method, what: what, polls: true, start: func(ctx context.Context, k *kit, w *connWorld) (*forwarder, error) {
		f, err := startFairlead(ctx, k, w.lb, connConfig(k, w, method))
		if err != nil {
			return nil, err
		}
		if method != "nat" {
			stop := f.stop
			undo, err := w.unpack()
			f.stop = func() error { return errors.Join(undo(), stop()) }
			if err != nil {
				return nil, errors.Join(err, f.stop())
			}
		}
		if err := answers(ctx, w, nil); err != nil {
			return nil, errors.Join(err, f.stop())
		}
		return f, nil
	}}
}

// unpack makes the server one for methods that leave the VIP in the packet. The
// function it returns undoes what was done, also with an error.
func (w *connWorld) unpack() (undo func() error, err error) {
	var d *decap.Decap
	var owned *decap.Host
	direct := func() error { return nil }
	undo = func() error {
		err := direct()
		if owned != nil {
			err = errors.Join(err, w.server.Do(owned.Close))
		}
		if d != nil {
			err = errors.Join(err, d.Close())
		}
		return err
	}
	err = w.server.Do(func() (err error) {
		if d, err = decap.Attach(w.serverIn.Index, w.serverIn.Name, decap.Config{VIPs: vips}); err != nil {
			return err
		}
		owned, err = decap.SetupHost(w.serverIn.Name, vips)
		return err
	})
	if err == nil {
		direct, err = w.answerDirectly()
	}
	return undo, err
}

func connConfig(k *kit, w *connWorld, method string) *rig.Config {
	cfg := &rig.Config{
		Options:    k.dataplane("off", 0),
		Interfaces: []rig.Interface{{Name: w.in.Name}, {Name: w.out.Name}},
		Tunnel4:    host(back4, 1),
		SNAT:       w.snat,
		Services: []rig.Service{{
			Name: "bench", VIP: vip4, Protocol: tcp, Port: servicePort, Pool: "bench", Method: method,
		}},
	}
	pool := rig.Pool{Name: "bench"}
	for _, b := range w.backends {
		pool.Backends = append(pool.Backends, rig.Backend{Address: b, Weight: 1})
		cfg.Neighbors = append(cfg.Neighbors, rig.Neighbor{Address: b, MAC: w.out.Peer.MAC.String(), Interface: w.out.Name})
	}
	cfg.Pools = []rig.Pool{pool}
	return cfg
}
