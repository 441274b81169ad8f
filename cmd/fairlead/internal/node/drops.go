package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	"fairlead/controlplane/api"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/tap"
)

// What drops are watched with: how many bytes of each are shown, and how many
// may watch at a time, so that there are taps left for captures.
const (
	sampleBytes  = 128
	mostWatchers = tap.MaxTaps - capturesAtOnce
)

// tooMany says why nobody can look now.
func tooMany(err error) error {
	if err == tap.ErrBusy {
		return api.Errorf(api.TooMany, "%d are looking at packets already", tap.MaxTaps)
	}
	return api.Errorf(api.Unavailable, "%v", err)
}

// Drops implements api.PacketProvider.
func (n *Node) Drops(context.Context) (api.Drops, error) {
	d := api.Drops{Reasons: n.dropCounts()}
	for first, more := 0, true; more; first += servicesAtOnce {
		more = n.lookAt(first, func(v *view, svc *fib.Service) {
			if drops := v.counters.Service(svc.ID.Slot()).Drops; drops > 0 {
				d.Services = append(d.Services, api.ServiceDrops{Service: v.snapshot.Name(svc.Name), Packets: drops})
			}
		})
	}
	slices.SortFunc(d.Services, func(a, b api.ServiceDrops) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Service, b.Service))
	})
	return d, nil
}

// dropCounts are all drops since the node began, by who dropped and why.
func (n *Node) dropCounts() (list []api.DropCount) {
	add := func(where, why string, packets uint64) {
		if packets > 0 {
			list = append(list, api.DropCount{Where: where, Reason: why, Packets: packets})
		}
	}
	n.mu.Lock()
	if n.counters != nil {
		total := n.counters.Total()
		total.Add(&n.past)
		for r, packets := range total.Ended {
			if why := reason.Reason(r); why.Valid() && why.Action() == reason.Drop {
				add("worker", why.String(), packets)
			}
		}
	}
	steering, sockets := n.steering(), n.socketStatistics()
	n.mu.Unlock()
	for _, name := range []string{"denied", "shed", "oversize", "fail_dropped"} {
		add("xdp", name, steering[name])
	}
	for _, name := range []string{"rx_dropped", "rx_ring_full", "rx_invalid", "tx_invalid"} {
		add("socket", name, sockets[name])
	}
	sortDrops(list)
	return list
}

func sortDrops(list []api.DropCount) {
	slices.SortFunc(list, func(a, b api.DropCount) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Reason, b.Reason))
	})
}

// dropRates are the drops since before, in elapsed.
func dropRates(before, now []api.DropCount, elapsed time.Duration) (list []api.DropCount) {
	for _, c := range now {
		i := slices.IndexFunc(before, func(b api.DropCount) bool { return b.Where == c.Where && b.Reason == c.Reason })
		if i >= 0 {
			if c.Packets < before[i].Packets { // the kernel's counters were made anew
				continue
			}
			c.Packets -= before[i].Packets
		}
		if c.Packets > 0 {
			c.Rate = float64(c.Packets) / elapsed.Seconds()
			list = append(list, c)
		}
	}
	sortDrops(list)
	return list
}

// WatchDrops implements api.PacketProvider.
func (n *Node) WatchDrops(ctx context.Context, q api.DropQuery, send func(api.DropReport) error) error {
	filter, err := n.packetFilter(&q.PacketFilter, tap.Ending(reason.Drop), "drop")
	if err != nil {
		return err
	}
	filter.Snap, filter.PerSecond, filter.Flags = sampleBytes, uint32(q.Samples), tap.Received
	give, err := n.taps.take(n.taps.watchers, "%d are watching drops already", mostWatchers)
	if err != nil {
		return err
	}
	defer give()
	samples := make(<-chan struct{}) // none
	var p *packetTap
	if q.Samples > 0 {
		if p, err = n.taps.openTap(filter); err != nil {
			return tooMany(err)
		}
		defer p.close()
		if err := p.inForce(ctx); err != nil {
			return api.Errorf(api.Unavailable, "%v", err)
		}
		samples = p.some
	}
	look, before, at := n.packetLook(), n.dropCounts(), time.Now()
	if err := send(api.DropReport{Time: at, Begun: true}); err != nil {
		return err
	}
	ticker := time.NewTicker(time.Duration(q.Interval))
	defer ticker.Stop()
	lost := uint64(0)
	for {
		report := api.DropReport{}
		select {
		case <-ctx.Done():
			return nil
		case <-samples:
			list, err := p.take()
			if err != nil {
				return api.Errorf(api.Unavailable, "%v", err)
			}
			report.Samples = look.packets(list)
			total := p.total().Lost
			report.Missed, lost = total-lost, total
		case <-ticker.C:
			now, then := n.dropCounts(), at
			at = time.Now()
			report.Reasons = onlyNamed(dropRates(before, now, at.Sub(then)), q.Reasons)
			before = now
		}
		report.Time = time.Now()
		if err := send(report); err != nil {
			return err
		}
	}
}

// onlyNamed leaves the reasons that are asked for; all when none is named.
func onlyNamed(list []api.DropCount, names []string) []api.DropCount {
	if len(names) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(c api.DropCount) bool { return c.Where != "worker" || !slices.Contains(names, c.Reason) })
}
