package l2announce

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readLinksEvery bounds how long a change of interfaces that nobody told of
	// stays unnoticed.
	readLinksEvery = 30 * time.Second
	// readLinksApart is how far apart interfaces are read while notifications
	// keep coming, as on a host that starts and stops containers.
	readLinksApart = 50 * time.Millisecond
	// rivalFor is how long a claim by another is believed without being heard
	// again, at least; with refreshes it is three of them.
	rivalFor = 3 * time.Minute
)

// run sends what is due until ctx ends.
func (a *Announcer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var linksRead time.Time
	again := true // interfaces are to be read
	spending := newBudget(a.cfg.Rate, time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			again = true
		case <-timer.C:
		}
		now := time.Now()
		if since := now.Sub(linksRead); since >= readLinksEvery || again && since >= readLinksApart {
			a.readLinks(now)
			linksRead, again = now, false
		}
		wait := a.sendDue(spending)
		if again {
			wait = min(wait, readLinksApart)
		}
		timer.Reset(min(wait, readLinksEvery))
	}
}

// readLinks takes over how the interfaces are now. Where an address is to be
// heard of by others than before, it is announced anew.
func (a *Announcer) readLinks(now time.Time) {
	ports, err := a.links.read()
	if err != nil {
		a.cfg.Log.Warn("interfaces to announce on cannot be read; it is tried again", "error", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := make([]bool, len(ports))
	for i := range ports {
		fresh[i] = len(a.ports) == 0 || !ports[i].sees(&a.ports[i])
	}
	first := len(a.ports) == 0
	a.ports, a.macs = ports, make(map[[6]byte]bool, len(ports))
	for i := range ports {
		a.macs[ports[i].mac] = true
	}
	for _, one := range a.owned {
		before := make(map[int]bool, len(one.ports))
		for _, i := range one.ports {
			before[i] = true
		}
		one.ports = place(a.cfg.Place, ports, one.Address)
		news := false
		for _, i := range one.ports {
			news = news || fresh[i] && ports[i].up || !before[i]
		}
		if news && !first {
			a.again(one, now)
		}
	}
}

// sendDue announces what is due, as far as the rate allows, and returns how
// long there is nothing to do.
func (a *Announcer) sendDue(spending *budget) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		now := time.Now()
		next := a.forgetRivals(now)
		if !a.active {
			return next
		}
		due := a.queues.next()
		if due.IsZero() {
			return next
		}
		if d := due.Sub(now); d > 0 {
			return min(next, d)
		}
		if wait, ok := spending.spend(0, now); !ok {
			return min(next, wait)
		}
		one := a.queues.take(now)
		spending.spend(a.announce(one, now), now)
		a.next(one, now)
	}
}

// next enters an announced address for its next time.
func (a *Announcer) next(one *address, now time.Time) {
	switch {
	case one.announced < a.cfg.Repeat:
		a.queues.put(one, classRepeat, now.Add(a.cfg.RepeatInterval))
	case a.cfg.Refresh > 0:
		a.queues.put(one, classRefresh, now.Add(a.cfg.Refresh))
	}
}

// announce sends one round of announcements of an address and returns how many
// frames that were.
func (a *Announcer) announce(one *address, now time.Time) (frames int) {
	one.announced++
	one.last = now
	for _, i := range one.ports {
		p := &a.ports[i]
		if p.index == 0 || !p.up {
			continue
		}
		list := announcements(one.Addr, p.mac)
		// At first it counts that all addresses are told of soon.
		if a.cfg.Detect && one.announced > 1 {
			list = append(list, probe(one.Addr, p.mac))
		}
		for _, frame := range list {
			frames++
			a.send(p, one, frame)
		}
	}
	return frames
}

func (a *Announcer) send(p *port, one *address, frame []byte) {
	err := a.socket.send(p.index, frame)
	if err == nil {
		a.counters.Sent++
		return
	}
	a.counters.Failed++
	level := slog.LevelWarn
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		level = slog.LevelDebug // it is announced anew when the interface is back
	}
	a.cfg.Log.Log(context.Background(), level, "address could not be announced", "address", one.Addr, "interface", p.Name, "error", err)
}

// heard takes a claim over.
func (a *Announcer) heard(c claim) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.owned[c.addr]
	if one == nil || a.macs[c.mac] || !a.active {
		return
	}
	name := ""
	for i := range a.ports {
		if a.ports[i].index == c.index {
			name = a.ports[i].Name
		}
	}
	if name == "" {
		return // on an interface that is none of ours
	}
	now := time.Now()
	a.counters.Rivals++
	if r := one.rival; r != nil && r.MAC == c.mac {
		r.Last = now
		return
	}
	if one.claim == nil || one.claim.MAC != c.mac || now.Sub(one.claim.Last) > rivalFor {
		one.claim = &Conflict{Interface: name, MAC: c.mac, First: now}
	}
	one.claim.Last = now
	if now.Sub(one.claim.First) < a.cfg.Grace {
		return // the last words of a node that had it before, or the first ones of the next
	}
	one.rival, one.claim = one.claim, nil
	a.rivals[c.addr] = one
	a.cfg.Log.Warn("another host claims an address of this node: some of its traffic goes there",
		"address", c.addr, "interface", name, "mac", net.HardwareAddr(c.mac[:]).String())
	a.poke() // so that its end is waited for
}

// forgetRivals ends conflicts of which nothing was heard for long, and returns
// when to look again.
func (a *Announcer) forgetRivals(now time.Time) (next time.Duration) {
	next = readLinksEvery
	keep := max(rivalFor, 3*a.cfg.Refresh)
	for addr, one := range a.rivals {
		left := keep - now.Sub(one.rival.Last)
		if left > 0 {
			next = min(next, left)
			continue
		}
		a.cfg.Log.Info("nobody else claims the address any more", "address", one.Addr, "mac", net.HardwareAddr(one.rival.MAC[:]).String())
		one.rival = nil
		delete(a.rivals, addr)
	}
	return next
}
