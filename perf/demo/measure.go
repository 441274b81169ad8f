package main

import (
	"context"
	"fmt"
	"math"
	"net/netip"

	"fairlead/controlplane/api"
	"fairlead/perf/lab/traffic"
)

// The load on each service.
const (
	parallel  = 16   // connections or flows at a time
	bodyBytes = 3000 // of an HTTP request and its answer: more than a packet
	questions = 2    // of a UDP flow
)

// sigmas is how far a backend's connections may be from their expectation, in
// standard deviations of as many independent random choices: by chance, one
// run in ten million goes that far.
const sigmas = 6

// share is one backend's part of a service's connections.
type share struct {
	backend  string
	got      int
	expected float64 // 0 to 1
}

// result is what clients saw of one service.
type result struct {
	service  *service
	requests int // connections or flows that were tried
	failed   int // requests without a right answer; of UDP, questions
	retries  int // datagrams that were sent again
	shares   []share
	problems []string // empty: all is as it should be
}

// measure makes so many connections to a service and compares what comes of
// them with what the load balancer says it should be.
func (w *world) measure(ctx context.Context, s *service, connections int) (*result, error) {
	seen, err := w.status(ctx, s)
	if err != nil {
		return nil, err
	}
	per := 1
	var tally *traffic.Tally
	if s.protocol == "tcp" {
		tally = traffic.HTTPLoad{Target: s.target(), Connections: connections, Parallel: parallel, BodyBytes: bodyBytes}.Run(ctx, w.topo.Client.Host)
	} else {
		per = questions
		tally = traffic.UDPLoad{Target: s.target(), Flows: connections, Parallel: parallel, PerFlow: questions}.Run(ctx, w.topo.Client.Host)
	}
	r := &result{service: s, requests: connections, failed: tally.Failed(), retries: tally.Retries}
	for _, b := range seen.Backends {
		if b.State == "draining" {
			continue // gone from the pool
		}
		r.shares = append(r.shares, share{b.Name, tally.ByServer[b.Name] / per, b.Expected})
	}
	if err := tally.Err(); err != nil {
		r.problems = append(r.problems, err.Error())
	} else {
		r.problems = append(r.problems, imbalance(r.shares)...)
	}
	if tally.Moves > 0 {
		r.problems = append(r.problems, fmt.Sprintf("%d times a flow changed its backend", tally.Moves))
	}
	if problem := w.strangers(s, tally.Clients); problem != "" {
		r.problems = append(r.problems, problem)
	}
	return r, nil
}

// status is what the load balancer says of a service.
func (w *world) status(ctx context.Context, s *service) (*api.Service, error) {
	status, err := w.node.Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range status.Services {
		if status.Services[i].Name == s.serviceName() {
			return &status.Services[i], nil
		}
	}
	return nil, fmt.Errorf("the load balancer has no service %s", s.serviceName())
}

// imbalance finds backends whose part of the connections is not what chance
// makes of their expectation.
func imbalance(shares []share) []string {
	total := 0
	for _, s := range shares {
		total += s.got
	}
	var problems []string
	for _, s := range shares {
		mean := float64(total) * s.expected
		allowed := sigmas * math.Sqrt(mean*(1-s.expected))
		if math.Abs(float64(s.got)-mean) > allowed {
			problems = append(problems, fmt.Sprintf("%s has %d of %d connections; %.0f are expected, give or take %.0f", s.backend, s.got, total, mean, allowed))
		}
	}
	return problems
}

// strangers checks the addresses that the servers saw: nat shows them one of
// the SNAT addresses, all else the client's own.
func (w *world) strangers(s *service, clients map[netip.Addr]int) string {
	for addr, n := range clients {
		own := addr == w.topo.Client.IPv4 || addr == w.topo.Client.IPv6
		if own == (s.method == "nat") {
			return fmt.Sprintf("the servers saw %d requests from %s, with method %s", n, addr, s.method)
		}
	}
	return ""
}
