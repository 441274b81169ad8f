package owner

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// other is what this node knows of another.
type other struct {
	state   cluster.State
	started time.Time // of its process, by its own clock

	said    said
	has     bool // it has said how it is
	version cluster.Version

	// returned says that it has come back and not yet said how it is now, which is
	// what it says in round and later; round is 0 while it has not answered. What
	// it said before does not count.
	returned bool
	round    uint64
	back     time.Time // when it last came back from a parting; the zero time: never
	parted   bool      // it was taken for dead, and its process went on
	left     bool      // it has asked to be counted out; until it says otherwise
	leaves   bool      // membership says that it is about to leave

	asking  bool
	asked   time.Time
	differs time.Time // since when its VIPs are others than ours; the zero time: they are not
	listed  string    // digest of list
	list    map[netip.Addr]bool
	lacking map[netip.Addr]bool // of ours, with the digests of both
	lackOf  [2]string
}

// candidate reports whether VIPs may be given to it.
func (o *other) candidate() bool {
	return o.state.Serves() && o.has && o.said.Forwards && !o.said.Leaving && !o.left && !o.leaves
}

// onMembers takes over who is in the cluster.
func (r *Room) onMembers(all []cluster.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.poke()
	now := time.Now()
	known := make(map[string]bool, len(all))
	back := false
	for i := range all {
		n := &all[i]
		known[n.Name] = true
		if n.Name == r.self {
			continue
		}
		o := r.others[n.Name]
		if o == nil {
			o = &other{}
			r.others[n.Name] = o
		}
		was := o.state
		o.state, o.leaves = n.State, n.Leaving
		if was != "" && !was.Serves() && n.State.Serves() {
			o.returned, o.round, o.asked = true, 0, time.Time{}
			o.parted = was == cluster.Dead && o.started.Equal(n.Started)
			r.stats.Returns++
			if o.parted {
				o.back, r.back, back = now, now, true
			}
		}
		o.started = n.Started
	}
	for name, o := range r.others {
		if !known[name] && o.state != "" {
			o.state = cluster.Dead // for too long to be listed
		}
	}
	if back {
		r.yield(now)
	}
}

// window is how long a node counts as one that has come back.
func (r *Room) window() time.Duration { return max(r.cfg.HoldDown, time.Second) }

// yield has this node begin anew if it is of the lesser part of a cluster that
// was parted. The lock is held.
func (r *Room) yield(now time.Time) {
	stayed, returned := []string{r.self}, []string(nil)
	for name, o := range r.others {
		switch {
		case !o.state.Serves() && (o.back.IsZero() || now.Sub(o.back) >= r.gather):
		case !o.back.IsZero() && now.Sub(o.back) < r.window():
			returned = append(returned, name)
		default:
			stayed = append(stayed, name)
		}
	}
	if len(returned) > 0 && minority(stayed, returned) {
		r.log.Info("this node was parted from others, and leaves the VIPs to them for a while", "others", slices.Sorted(slices.Values(returned)), "hold_down", r.cfg.HoldDown)
		r.settling.away(now)
	}
}

// onSaid takes over what others say of themselves.
func (r *Room) onSaid(entries []cluster.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		name, is := strings.CutSuffix(strings.TrimPrefix(e.Key, cluster.LivePrefix), "/fitness")
		if !is || name == r.self || strings.Contains(name, "/") {
			continue
		}
		o := r.others[name]
		if o == nil {
			o = &other{} // membership has yet to say who it is
			r.others[name] = o
		}
		r.hear(name, o, e)
	}
	r.poke()
}

// hear takes over what one node says of itself. The lock is held.
func (r *Room) hear(name string, o *other, e *cluster.Entry) {
	if o.has && e.Version.Compare(o.version) <= 0 {
		return
	}
	o.version, o.has = e.Version, false
	if e.Deleted {
		return
	}
	s, err := decodeSaid(e.Value)
	if err != nil {
		r.log.Warn("what a node says of itself cannot be read; it gets no VIPs", "node", name, "error", err)
		return
	}
	o.said, o.has, o.left = s, true, false
	r.welcome(o)
}

// welcome counts a node that has come back when it has said how it is now. Where
// both sides have answered for the same VIPs, this one's are announced anew. The
// lock is held.
func (r *Room) welcome(o *other) {
	if !o.returned || !o.has || o.round == 0 || o.said.Round < o.round {
		return
	}
	o.returned = false
	r.renew = r.renew || o.parted
	r.poke()
}

// NodeStatus is what this node knows of a member.
type NodeStatus struct {
	Name     string
	State    cluster.State
	Known    bool // it has said how it is; otherwise the rest is meaningless
	Forwards bool
	Impaired string // in words; empty: it is not
	Settled  bool
	Leaving  bool
	Drained  *Drain // nil: it is not
	Networks []netip.Prefix
	VIPs     int // that are its own
}

// Nodes are all members that are known, by name.
func (r *Room) Nodes() []NodeStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	owned := make(map[string]int)
	for _, name := range r.owners {
		owned[name]++
	}
	list := make([]NodeStatus, 0, 1+len(r.others))
	list = append(list, NodeStatus{
		Name: r.self, State: cluster.Alive, Known: r.fit, Forwards: r.fitness.Forwards, Impaired: r.fitness.Impaired,
		Settled: r.settling.settled, Leaving: r.leaving, Networks: slices.Clone(r.fitness.Networks),
	})
	for name, o := range r.others {
		list = append(list, NodeStatus{
			Name: name, State: o.state, Known: o.has, Forwards: o.said.Forwards, Impaired: o.said.Impaired,
			Settled: o.said.Settled && !o.returned, Leaving: o.said.Leaving || o.left || o.leaves, Networks: slices.Clone(o.said.Networks),
		})
	}
	for i := range list {
		list[i].VIPs = owned[list[i].Name]
		if d, ok := r.drained[list[i].Name]; ok {
			list[i].Drained = &d
		}
	}
	slices.SortFunc(list, func(a, b NodeStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Owners are all VIPs with their owners, "" for nobody's; nil before the others
// have been heard.
func (r *Room) Owners() map[netip.Addr]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.owners)
}
