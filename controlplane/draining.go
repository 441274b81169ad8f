package controlplane

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"fairlead/controlplane/compile"
	"fairlead/controlplane/model"
)

// draining is a backend that was removed from its pool and whose flows live on
// until the deadline.
type draining struct {
	model.Backend
	deadline time.Time
}

// leaving is which backends of a pool drain once its backends change from
// before to after: those that drained already and those removed now, without
// any that is there again or whose time is up. Of one that was removed more
// than once the last deadline holds.
func leaving(already []draining, before, after []model.Backend, timeout time.Duration, now time.Time) []draining {
	if len(already) == 0 && slices.Equal(before, after) {
		return nil
	}
	there := make(map[netip.AddrPort]bool, len(after))
	for i := range after {
		there[after[i].Endpoint()] = true
	}
	var gone []draining
	if timeout >= time.Millisecond { // else model.NoDrain
		for i := range before {
			if e := before[i].Endpoint(); !there[e] {
				there[e] = true
				gone = append(gone, draining{before[i], now.Add(timeout)})
			}
		}
	}
	var left []draining
	for _, d := range already {
		if d.deadline.After(now) && !there[d.Endpoint()] {
			left = append(left, d)
		}
	}
	return append(left, gone...)
}

func backendsOf(list []draining) []model.Backend {
	var out []model.Backend
	for i := range list {
		out = append(out, list[i].Backend)
	}
	return out
}

// drainTimeouts are the longest drain timeouts of the services of each pool.
func drainTimeouts(services []model.Service) map[string]time.Duration {
	timeouts := make(map[string]time.Duration, len(services))
	for i := range services {
		d := services[i].DrainTimeout
		if d == 0 {
			d = model.DefaultDrainTimeout
		}
		timeouts[services[i].Pool] = max(timeouts[services[i].Pool], d)
	}
	return timeouts
}

// leavers are all backends that drain, by pool.
type leavers map[string][]draining

// set replaces a pool's.
func (l leavers) set(pool string, list []draining) {
	if len(list) == 0 {
		delete(l, pool)
		return
	}
	l[pool] = list
}

// next is when the first of them is to go, the zero time when there is none.
func (l leavers) next() (first time.Time) {
	for _, list := range l {
		for i := range list {
			if first.IsZero() || list[i].deadline.Before(first) {
				first = list[i].deadline
			}
		}
	}
	return first
}

// forCompile lists them by pool.
func (l leavers) forCompile() []compile.DrainingBackend {
	var out []compile.DrainingBackend
	for _, pool := range slices.Sorted(maps.Keys(l)) {
		for i := range l[pool] {
			out = append(out, compile.DrainingBackend{Pool: pool, Backend: l[pool][i].Backend})
		}
	}
	return out
}
