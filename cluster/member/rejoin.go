package member

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"fairlead/cluster"
)

const (
	// defaultPace is how often nodes are looked for that are not there. With
	// helloTimeout it bounds how long after a partition has healed the halves are
	// one cluster again.
	defaultPace = 2 * time.Second
	// atOnce is how many of them are asked at a time.
	atOnce = 4
	// firstRoundLimit bounds how long a start waits for answers of seeds.
	firstRoundLimit = 3 * time.Second
	// keepEvery is how often a member is asked whether it has this node as it is,
	// and which keys it has.
	keepEvery = 2 * time.Second
)

// firstRound looks for the others once. Only a name that is taken is an error.
func (m *Members) firstRound(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firstRoundLimit)
	defer cancel()
	targets := m.missing(ctx)
	err := m.reach(ctx, targets)
	if taken, is := errors.AsType[*NameTakenError](err); is {
		select {
		case err := <-m.failed:
			return err
		default:
			m.log.Error("another node has this node's name, and is to stop", "error", taken)
		}
	}
	if n := m.table.serving(); n > 1 {
		m.log.Info("the cluster is joined", "members", n)
	} else if len(targets) > 0 {
		m.log.Warn("no other node of the cluster answers; it is tried again and again", "tried", len(targets), "error", err)
	} else {
		m.log.Info("this node is the first of its cluster: it has no seeds and knows no other node")
	}
	return nil
}

// rejoin looks for members that are not there, for ever: memberlist forgets the
// dead ones, and two halves of a partition would not find each other again.
func (m *Members) rejoin() {
	var missing []netip.AddrPort
	for {
		// Spread, so that the nodes of a cluster do not all ask at once.
		pause := m.cfg.Pace*3/4 + rand.N(m.cfg.Pace/2)
		select {
		case <-m.running.Done():
			return
		case <-time.After(pause):
		}
		m.table.forget()
		m.remember()
		if len(missing) == 0 { // a round is over
			missing = m.missing(m.running)
		}
		now := missing[:min(atOnce, len(missing))]
		missing = missing[len(now):]
		if err := m.reach(m.running, now); err != nil {
			m.log.Debug("other nodes are looked for", "error", err)
		}
	}
}

// keep asks members, one after the other, whether they have this node as it is:
// after a start at another address some may not.
func (m *Members) keep() {
	for {
		select {
		case <-m.running.Done():
			return
		case <-time.After(keepEvery*3/4 + rand.N(keepEvery/2)):
		}
		var names []string
		for _, n := range m.All() {
			if n.State.Serves() && n.Name != m.identity.Name() {
				names = append(names, n.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		found, err := m.ask(m.running, names[rand.IntN(len(names))])
		if err == nil && !found.knows {
			err = m.exchange(found)
		}
		if err != nil {
			m.log.Debug("a member is asked", "error", err)
		}
	}
}

// missing are where nodes may be that are not there now: seeds, members that have
// died, and nodes known before the start.
func (m *Members) missing(ctx context.Context) []netip.AddrPort {
	there := map[netip.AddrPort]bool{m.cfg.Stream: true}
	var list []netip.AddrPort
	for _, n := range m.All() {
		switch {
		case n.State.Serves():
			there[n.Stream] = true
		case n.State == cluster.Dead:
			list = append(list, n.Stream)
		}
	}
	list = append(list, m.resolveSeeds(ctx)...)
	for _, n := range m.saved.notMet() {
		list = append(list, n.Stream)
	}
	seen := map[netip.AddrPort]bool{}
	list = slices.DeleteFunc(list, func(a netip.AddrPort) bool {
		drop := there[a] || seen[a] || m.table.alias(a)
		seen[a] = true
		return drop
	})
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// reach asks nodes at addresses, and joins them to the cluster. The error is that
// of one that could not be reached, if any.
func (m *Members) reach(ctx context.Context, targets []netip.AddrPort) error {
	var ended sync.WaitGroup
	errs := make([]error, len(targets))
	for i, at := range targets {
		ended.Go(func() {
			found, err := m.greet(ctx, at)
			if errors.Is(err, ErrSelf) || err == nil && found.Name == m.identity.Name() {
				m.table.setAlias(at) // this node by another of its addresses
				return
			}
			if err == nil && (!found.knows || !m.knows(found)) {
				err = m.exchange(found)
			}
			errs[i] = err
		})
	}
	ended.Wait()
	for _, err := range errs {
		if _, is := errors.AsType[*NameTakenError](err); is {
			return err
		}
	}
	return errors.Join(errs...)
}

// knows reports whether the other one is a living member as it describes itself.
func (m *Members) knows(other *met) bool {
	r, ok := m.table.get(other.Name)
	return ok && r.state.Serves() && r.said.Epoch == other.Epoch && r.said.Sequence >= other.Sequence
}

// exchange exchanges membership with another node over its gossip port.
func (m *Members) exchange(other *met) error {
	_, err := m.list.Join([]string{other.Name + "/" + other.Gossip.String()})
	return err
}

// remember keeps where the others are for the next start.
func (m *Members) remember() {
	var nodes []savedMember
	left := map[string]bool{m.identity.Name(): true}
	for _, n := range m.All() {
		if left[n.Name] = left[n.Name] || n.State == cluster.Left; !left[n.Name] {
			nodes = append(nodes, savedMember{n.Name, n.Stream})
		}
	}
	m.saved.remember(nodes, func(name string) bool { return left[name] })
}
