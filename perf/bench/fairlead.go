package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"fairlead/perf/lab"
	"fairlead/perf/rig"
)

// stopGrace is how long Fairlead may take to end.
const stopGrace = 5 * time.Second

// flowTableSize is the number of flows that Fairlead's table has room for: twice
// what any case with a fixed number has.
const flowTableSize = 2_000_000

// withMemo ends the names of contestants that forward known flows in the kernel.
const withMemo = "-memo"

// fairleadBy is the whole of Fairlead, started as an operator does, with one
// forwarding method, every packet in user space.
func fairleadBy(method string) contestant {
	return contestant{
		name: "fairlead-" + method,
		what: "`fairlead run`: flow table, Maglev, method " + method,
		start: func(ctx context.Context, k *kit, w *world, c Case) (*forwarder, error) {
			return startFairlead(ctx, k, w.in.Host, fairleadConfig(k, w, c, method, "off"))
		},
	}
}

// fairleadWithMemo is the same with its flow memo: packets of established flows
// are forwarded by the kernel, in the thread that takes them in.
func fairleadWithMemo(method string) contestant {
	return contestant{
		name: "fairlead-" + method + withMemo,
		what: "`fairlead run` with the flow memo: established flows forwarded in XDP, method " + method,
		sink: sinkXDP,
		memo: true,
		start: func(ctx context.Context, k *kit, w *world, c Case) (*forwarder, error) {
			f, err := startFairlead(ctx, k, w.in.Host, fairleadConfig(k, w, c, method, "on"))
			if err != nil {
				return nil, err
			}
			threads, err := threadNAPI(w.in, k.cpus.worker)
			if err != nil {
				return nil, errors.Join(err, f.stop())
			}
			stop := f.stop
			f.pids = append(f.pids, threads.PIDs()...)
			f.stop = func() error { return errors.Join(threads.Close(), stop()) }
			if c.Flows != endless {
				f.settle = func(ctx context.Context) error { return settleMemo(ctx, f.node) }
			}
			return f, nil
		},
	}
}

// How long flows may take to be forwarded by the kernel, nearly all of them, and
// how often that is looked at. When it takes longer, that is what is measured.
const (
	memoTime  = 5 * time.Second
	memoLook  = 50 * time.Millisecond
	memoShare = 0.02 // of frames that still go up
)

// settleMemo waits until nearly all frames are forwarded by the flow memo. A
// thread that takes in all the generator can make leaves the worker on the same
// CPU little time to see to that, the less the busier the machine is.
func settleMemo(ctx context.Context, n *rig.Node) error {
	var memo, up uint64
	for begin := time.Now(); time.Since(begin) < memoTime; {
		s, err := n.Status(ctx)
		if err != nil {
			return err
		}
		byMemo, goneUp := s.Steering["memo"]-memo, s.Steering["redirected"]-up
		if memo+up > 0 && byMemo > 0 && float64(goneUp) <= memoShare*float64(byMemo+goneUp) {
			return nil
		}
		memo, up = s.Steering["memo"], s.Steering["redirected"]
		select {
		case <-time.After(memoLook):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// knowsMemo reports whether a fairlead has the flow memo.
func knowsMemo(binary string) (bool, error) {
	reference, err := exec.Command(binary, "config", "reference").Output()
	if err != nil {
		return false, fmt.Errorf("ask %s for its keys: %w", binary, err)
	}
	return bytes.Contains(reference, []byte("flow_memo")), nil
}

func startFairlead(ctx context.Context, k *kit, h *lab.Host, cfg *rig.Config) (*forwarder, error) {
	dir, err := os.MkdirTemp(k.dir, "node-")
	if err != nil {
		return nil, err
	}
	n, err := rig.Start(ctx, k.binary, dir, h, cfg.Text())
	if err != nil {
		if n != nil && n.Process() != nil {
			_ = n.Process().Kill()
		}
		return nil, err
	}
	f := &forwarder{
		node: n,
		stop: func() error {
			err := n.Process().Stop(stopGrace)
			return errors.Join(err, os.RemoveAll(dir))
		},
		dropped: func(ctx context.Context) (map[string]uint64, error) {
			s, err := n.Status(ctx)
			if err != nil {
				return nil, err
			}
			return s.Ledger.Reasons, nil
		},
	}
	status, err := n.Status(ctx)
	if err != nil {
		return nil, errors.Join(err, f.stop())
	}
	f.pids = []int{n.Process().Pid(), status.Data.PID}
	return f, settled(ctx, status.Data.PID)
}

// settled returns when a process has the memory of its own that it takes at its
// start, some of which it takes while it forwards already: when that has grown no
// more for a while.
func settled(ctx context.Context, pid int) error {
	const look, enough = 50 * time.Millisecond, 5
	for last, same := 0, 0; same < enough; {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return err
		}
		var size, resident, shared int // pages
		if _, err := fmt.Sscan(string(statm), &size, &resident, &shared); err != nil {
			return fmt.Errorf("memory of process %d: %w", pid, err)
		}
		if own := resident - shared; own-last < 256 && last-own < 256 {
			same++
		} else {
			last, same = own, 0
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(look):
		}
	}
	return nil
}

// leastMemos is how many memos Fairlead has room for in any case.
const leastMemos = 16_384

// dataplane is the configuration of the data process for so many flows.
func (k *kit) dataplane(memo string, flows int) string {
	options := fmt.Sprintf("[dataplane]\ncpus = [%d]\nflow_table_size = %d\n", k.cpus.worker, flowTableSize)
	if k.hasMemo {
		// As an operator sizes it who knows his flows: a table that is much too
		// large is spread over as many pages as there are flows.
		options += fmt.Sprintf("flow_memo = %q\nflow_memo_size = %d\n", memo, max(leastMemos, flows))
	}
	return options
}

func fairleadConfig(k *kit, w *world, c Case, method, memo string) *rig.Config {
	cfg := &rig.Config{
		Options: k.dataplane(memo, c.Flows),
		Tunnel4: w.v4.gateway,
		Tunnel6: w.v6.gateway,
		SNAT:    w.of(c).snat,
		Services: []rig.Service{{
			Name: "bench", VIP: w.of(c).vip, Protocol: c.Protocol, Port: servicePort, Pool: "bench", Method: method,
		}},
	}
	for _, name := range distinct(w.in.Name, w.out.Name) {
		// The other end has an XDP program, so a veth sends back as a NIC does.
		cfg.Interfaces = append(cfg.Interfaces, rig.Interface{Name: name, Options: "xdp_tx = \"on\""})
	}
	pool := rig.Pool{Name: "bench"}
	for _, b := range w.of(c).backends {
		pool.Backends = append(pool.Backends, rig.Backend{Address: b, Weight: 1})
		cfg.Neighbors = append(cfg.Neighbors, rig.Neighbor{Address: b, MAC: w.out.Peer.MAC.String(), Interface: w.out.Name})
	}
	cfg.Pools = []rig.Pool{pool}
	return cfg
}
