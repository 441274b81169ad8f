package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"fairlead/perf/rig"
)

// stopGrace is how long Fairlead may take to end.
const stopGrace = 5 * time.Second

// flowTableSize is the number of flows that Fairlead's table has room for: twice
// what any case with a fixed number has.
const flowTableSize = 2_000_000

// fairleadBy is the whole of Fairlead, started as an operator does, with one
// forwarding method.
func fairleadBy(method string) contestant {
	return contestant{
		name: "fairlead-" + method,
		what: "`fairlead run`: flow table, Maglev, method " + method,
		start: func(ctx context.Context, k *kit, w *world, c Case) (*forwarder, error) {
			return startFairlead(ctx, k, w, c, method)
		},
	}
}

func startFairlead(ctx context.Context, k *kit, w *world, c Case, method string) (*forwarder, error) {
	dir, err := os.MkdirTemp(k.dir, "node-")
	if err != nil {
		return nil, err
	}
	n, err := rig.Start(ctx, k.binary, dir, w.in.Host, fairleadConfig(k, w, c, method).Text())
	if err != nil {
		if n != nil && n.Process() != nil {
			_ = n.Process().Kill()
		}
		return nil, err
	}
	f := &forwarder{
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
	return f, nil
}

func fairleadConfig(k *kit, w *world, c Case, method string) *rig.Config {
	cfg := &rig.Config{
		Options: fmt.Sprintf("[dataplane]\ncpus = [%d]\nflow_table_size = %d\n", k.cpus.worker, flowTableSize),
		Tunnel4: w.gateway,
		SNAT:    w.snat,
		Services: []rig.Service{{
			Name: "bench", VIP: vip, Protocol: c.Protocol, Port: servicePort, Pool: "bench", Method: method,
		}},
	}
	for _, name := range distinct(w.in.Name, w.out.Name) {
		cfg.Interfaces = append(cfg.Interfaces, rig.Interface{Name: name})
	}
	pool := rig.Pool{Name: "bench"}
	for _, b := range w.backends {
		pool.Backends = append(pool.Backends, rig.Backend{Address: b, Weight: 1})
		cfg.Neighbors = append(cfg.Neighbors, rig.Neighbor{Address: b, MAC: w.out.Peer.MAC.String(), Interface: w.out.Name})
	}
	cfg.Pools = []rig.Pool{pool}
	return cfg
}
