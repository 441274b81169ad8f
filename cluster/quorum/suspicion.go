package quorum

import (
	"cmp"
	"slices"
	"time"
)

// Shares of views, in percent, from which on a node is suspected, and under which
// it is trusted again.
const (
	suspectFrom = 90
	trustUnder  = 50
)

// fewestBlind is how many backends that the others agree are up a node must have
// been compared by to be called blind.
const fewestBlind = 3

// tally compares the views of one node with what the others agree on: backends of
// which at least two other nodes have views, more than two thirds of them the same.
type tally struct {
	compared, differ     int
	comparedUp, differUp int // of these, backends that the others find up
}

// agreed is what the others find a backend to be, of whom so many find it up and
// so many down; Unknown when they do not agree.
func agreed(up, down int) State {
	switch {
	case up+down < 2:
		return Unknown
	case 3*up > 2*(up+down):
		return Up
	case 3*down > 2*(up+down):
		return Down
	}
	return Unknown
}

func (t *tally) add(view, others State) {
	if others == Unknown {
		return
	}
	t.compared++
	if others == Up {
		t.comparedUp++
	}
	if view != others {
		t.differ++
		if others == Up {
			t.differUp++
		}
	}
}

// share is how much the node is at odds with the others, in percent: of all its
// views, or of those of backends that the others find up, whichever is more. So a
// node that finds everything down stands out where much is down indeed.
func (t *tally) share() int {
	share := 0
	if t.compared > 0 {
		share = 100 * t.differ / t.compared
	}
	if t.comparedUp >= fewestBlind {
		share = max(share, 100*t.differUp/t.comparedUp)
	}
	return share
}

// suspicion is whether a node is suspected: it is when its views have been at odds
// with the others' for some time, and no longer when they have not been for as
// long. Nodes find the same thing a few seconds apart, which is no disagreement.
type suspicion struct {
	suspected bool
	since     time.Time // of suspected
	turned    time.Time // since when the tally speaks for a change; zero: it does not
}

// due reports whether it is time to change, by the latest tally.
func (s *suspicion) due(t *tally, grace time.Duration, now time.Time) bool {
	share := t.share()
	if !s.suspected && share < suspectFrom || s.suspected && share >= trustUnder {
		s.turned = time.Time{}
		return false
	}
	if s.turned.IsZero() {
		s.turned = now
	}
	return now.Sub(s.turned) >= grace
}

func (s *suspicion) turn(now time.Time) {
	*s = suspicion{suspected: !s.suspected, since: now}
}

// compare compares the nodes' views, and has nodes be suspected or trusted again.
// It is called from time to time.
func (c *core) compare(now time.Time) (turned []*voter) {
	if c.untallied {
		c.untallied = false
		c.count()
	}
	suspected, total := 0, 0
	var due []*voter
	for _, v := range c.voters {
		if !v.live {
			v.turned = time.Time{}
			continue
		}
		total++
		if v.suspected {
			suspected++
		}
		if v.due(&v.tally, c.cfg.grace, now) {
			due = append(due, v)
		}
	}
	slices.SortFunc(due, func(a, b *voter) int { return cmp.Compare(a.name, b.name) })
	doubted := 0 // that would be suspected from now on
	for _, v := range due {
		if !v.suspected {
			doubted++
		}
	}
	for _, v := range due {
		if !v.suspected && 2*(suspected+doubted) >= total {
			continue // who of them is right cannot be told
		}
		v.turn(now)
		c.changed, c.untallied = true, true
		turned = append(turned, v)
	}
	return turned
}

// count fills the tallies.
func (c *core) count() {
	for _, v := range c.voters {
		v.tally = tally{}
	}
	for _, r := range c.records {
		if r.target == nil || len(r.votes) < 2 {
			continue
		}
		up, down := r.tally()
		for i := range r.votes {
			v := &r.votes[i]
			if !v.voter.live || v.state == Unable {
				continue
			}
			u, d := up, down
			switch {
			case v.voter.suspected:
			case v.state == Up:
				u--
			default:
				d--
			}
			v.voter.tally.add(v.state, agreed(u, d))
		}
	}
}
