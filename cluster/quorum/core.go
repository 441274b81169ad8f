package quorum

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"fairlead/controlplane/model"
)

// core works out verdicts and assignments of all views. It knows neither network
// nor time; one goroutine at a time uses it.
type core struct {
	cfg     rules
	self    *voter
	voters  map[string]*voter // by name, this node among them
	drained map[string]bool
	records map[ID]*record
	keys    map[model.BackendKey]*record // those of this node's desired state

	candidates []*voter // who may check, by name
	mine       []*voter // the same with this node, where its suspicion keeps it out
	changed    bool     // candidates, or whose views count, may be others: every record is to be worked out
	dirty      []*record
	doubts     map[*record]bool // answers about them are awaited
	untallied  bool             // views have changed since they were compared
	revision   uint64           // goes up with every change
	own        []ID             // whose view of this node has changed, for share to tell
	scratch    []*voter
	ableOnes   []*voter
}

// rules are what the operator chooses.
type rules struct {
	checkers, tunnelCheckers int           // of a backend; 0: all nodes
	grace                    time.Duration // for how long a disagreement is none
}

// voter is a node that has views.
type voter struct {
	name  string
	hash  uint64
	live  bool // it is a member that serves, it has said what its views are, and that was not long ago
	tally tally
	suspicion
}

// heeded reports whether the node's views count.
func (v *voter) heeded() bool { return v.live && !v.suspected }

// record is what is known of one backend.
type record struct {
	id     ID
	target *Target // nil: this node's desired state does not have it
	votes  []vote
	state  State // the verdict
	since  time.Time
	up     int // views that count
	down   int
	unable bool // a node that is there cannot check it
	wide   bool // a node finds it down, be it suspected or not, so that more check it
	mine   bool // this node checks it
	dirty  bool
	// doubted is until when answers of those are awaited who look at the backend
	// because one has found it down; zero: nobody says that it is.
	doubted time.Time
}

// vote is one node's view.
type vote struct {
	voter  *voter
	state  State // Up, Down or Unable
	since  time.Time
	reason string
	round  uint32 // in which it was told; see share
}

// effects are what follows from a step.
type effects struct {
	verdicts []Verdict
	begin    []Assignment
	end      []model.BackendKey
}

func newCore(self string, r rules) *core {
	c := &core{cfg: r, voters: map[string]*voter{}, drained: map[string]bool{}, records: map[ID]*record{},
		keys: map[model.BackendKey]*record{}, doubts: map[*record]bool{}}
	c.self = c.voter(self)
	c.self.live, c.changed = true, true
	return c
}

// voter is the node of a name.
func (c *core) voter(name string) *voter {
	v := c.voters[name]
	if v == nil {
		v = &voter{name: name, hash: nodeHash(name)}
		c.voters[name] = v
	}
	return v
}

// setLive says whether a node is there.
func (c *core) setLive(v *voter, live bool) {
	if v.live != live {
		v.live, c.changed, c.untallied = live, true, true
	}
}

// setDrained says which nodes are drained.
func (c *core) setDrained(drained map[string]bool) {
	c.drained, c.changed = drained, true
}

// forget takes all views of a node away.
func (c *core) forget(v *voter) {
	for _, r := range c.records {
		c.retract(r, func(o *vote) bool { return o.voter == v })
	}
}

// sweep takes those views of a node away that were not told in a round.
func (c *core) sweep(v *voter, round uint32) {
	for _, r := range c.records {
		c.retract(r, func(o *vote) bool { return o.voter == v && o.round != round })
	}
}

func (c *core) retract(r *record, which func(*vote) bool) {
	before, own := len(r.votes), r.vote(c.self) != nil
	r.votes = slices.DeleteFunc(r.votes, func(v vote) bool { return which(&v) })
	if len(r.votes) != before {
		c.touch(r)
	}
	if own && r.vote(c.self) == nil {
		c.own = append(c.own, r.id)
	}
	if r.target == nil && len(r.votes) == 0 {
		delete(c.records, r.id)
	}
}

// say takes a view over; of state Unknown: there is none any more.
func (c *core) say(id ID, next vote) {
	r := c.records[id]
	if r == nil {
		if next.state == Unknown {
			return
		}
		r = &record{id: id}
		c.records[id] = r
	}
	if next.voter == c.self {
		c.own = append(c.own, r.id)
	}
	at := slices.IndexFunc(r.votes, func(v vote) bool { return v.voter == next.voter })
	switch {
	case next.state == Unknown:
		c.retract(r, func(v *vote) bool { return v.voter == next.voter })
	case at < 0:
		r.votes = append(r.votes, next)
		slices.SortFunc(r.votes, func(a, b vote) int { return cmp.Compare(a.voter.name, b.voter.name) })
		c.touch(r)
	default:
		if r.votes[at].state != next.state {
			c.touch(r)
		}
		r.votes[at] = next
	}
}

// touch has a record worked out again.
func (c *core) touch(r *record) {
	c.untallied = true
	c.revision++
	if !r.dirty {
		r.dirty = true
		c.dirty = append(c.dirty, r)
	}
}

// setTargets makes these the backends to check. Those that stay keep what is known
// of them; others begin with what begins says. It gives the backends that it has no
// place for.
func (c *core) setTargets(targets []Target, begins map[model.BackendKey]Verdict, now time.Time) (changed bool, end, refused []model.BackendKey) {
	keys := make(map[model.BackendKey]*record, len(targets))
	for i := range targets {
		t := &targets[i]
		id := IDOf(t.Key)
		r := c.records[id]
		if r == nil {
			r = &record{id: id}
			c.records[id] = r
		}
		switch {
		case r.target == nil:
			r.state, r.since = Unknown, now
			if v, ok := begins[t.Key]; ok {
				r.state, r.since = v.State, v.Since
			}
			changed = true
			c.touch(r)
		case r.target.Key != t.Key:
			refused = append(refused, t.Key)
			continue
		case *r.target != *t:
			c.touch(r)
		}
		r.target, keys[t.Key] = t, r
	}
	for key, r := range c.keys {
		if keys[key] != nil {
			continue
		}
		changed = true
		if r.mine {
			end = append(end, key)
		}
		*r = record{id: r.id, votes: r.votes, dirty: r.dirty}
		delete(c.doubts, r)
		c.retract(r, func(v *vote) bool { return v.voter == c.self })
	}
	c.keys = keys
	return changed, end, refused
}

// step works out what has changed.
func (c *core) step(now time.Time) (e effects) {
	if c.changed {
		c.changed = false
		c.elect()
		for _, r := range c.records {
			c.touch(r)
		}
	}
	for r := range c.doubts {
		if !now.Before(r.doubted) {
			c.touch(r)
		}
	}
	for len(c.dirty) > 0 { // a second time for those whose own view was taken away
		dirty := c.dirty
		c.dirty = nil
		for _, r := range dirty {
			r.dirty = false
			if r.target != nil {
				c.work(r, now, &e)
			}
		}
	}
	return e
}

// elect works out who may check backends: nodes that are there, are not drained and
// not suspected; when all are drained, they do all the same.
func (c *core) elect() {
	c.candidates = c.candidates[:0]
	for _, v := range c.voters {
		if v.heeded() && !c.drained[v.name] {
			c.candidates = append(c.candidates, v)
		}
	}
	if len(c.candidates) == 0 {
		for _, v := range c.voters {
			if v.heeded() {
				c.candidates = append(c.candidates, v)
			}
		}
	}
	byName := func(a, b *voter) int { return cmp.Compare(a.name, b.name) }
	slices.SortFunc(c.candidates, byName)
	c.mine = c.candidates
	if c.self.suspected && !c.drained[c.self.name] {
		c.mine = append(slices.Clone(c.candidates), c.self)
		slices.SortFunc(c.mine, byName)
	}
}

// work works one record out.
func (c *core) work(r *record, now time.Time, e *effects) {
	r.up, r.down = r.tally()
	r.wide, r.unable = false, false
	for i := range r.votes {
		v := &r.votes[i]
		r.wide = r.wide || v.state == Down && v.voter.live
		r.unable = r.unable || v.state == Unable && v.voter.live
	}
	wanted := c.cfg.checkers
	if r.target.Tunnel {
		wanted = c.cfg.tunnelCheckers
	}
	k := checkers(wanted, r.wide)
	c.scratch = pick(c.able(r, c.candidates, nil), r.id, k, c.scratch[:0])
	c.verdict(r, c.awaited(r, k != wanted, now), now, e)
	if r.unable || len(c.mine) != len(c.candidates) {
		// This node goes on where it cannot check, or is not heeded, beside those who
		// check in its place: only so can it be seen to be right again.
		c.scratch = pick(c.able(r, c.mine, c.self), r.id, k, c.scratch[:0])
	}
	mine := slices.Contains(c.scratch, c.self)
	switch {
	case mine && !r.mine:
		e.begin = append(e.begin, Assignment{Key: r.target.Key, State: r.state, Since: r.since, Doubted: r.down > 0})
	case !mine && r.mine:
		e.end = append(e.end, r.target.Key)
		c.retract(r, func(v *vote) bool { return v.voter == c.self })
	}
	r.mine = mine
}

// tally counts the views that count.
func (r *record) tally() (up, down int) {
	for i := range r.votes {
		switch v := &r.votes[i]; {
		case !v.voter.heeded():
		case v.state == Up:
			up++
		case v.state == Down:
			down++
		}
	}
	return up, down
}

// able are those of some nodes that can check a backend, and one more that is
// trying.
func (c *core) able(r *record, nodes []*voter, trying *voter) []*voter {
	if !r.unable {
		return nodes
	}
	c.ableOnes = c.ableOnes[:0]
	for _, v := range nodes {
		if o := r.vote(v); o == nil || o.state != Unable || v == trying {
			c.ableOnes = append(c.ableOnes, v)
		}
	}
	return c.ableOnes
}

// awaited is how many of the chosen have been asked, because another finds the
// backend down, and have not answered: for as long as an answer takes. Where as
// many would check it anyway, the views that are there decide.
func (c *core) awaited(r *record, asked bool, now time.Time) (awaited int) {
	if r.down == 0 {
		r.doubted = time.Time{}
		delete(c.doubts, r)
		return 0
	}
	if r.doubted.IsZero() {
		r.doubted = now.Add(r.target.Patience)
	}
	if !asked || !now.Before(r.doubted) {
		delete(c.doubts, r)
		return 0
	}
	for _, v := range c.scratch {
		if r.vote(v) == nil {
			awaited++
		}
	}
	if awaited == 0 {
		delete(c.doubts, r)
	} else {
		c.doubts[r] = true
	}
	return awaited
}

// vote is a node's view, nil when it has none.
func (r *record) vote(of *voter) *vote {
	for i := range r.votes {
		if r.votes[i].voter == of {
			return &r.votes[i]
		}
	}
	return nil
}

func (c *core) verdict(r *record, awaited int, now time.Time, e *effects) {
	state := judge(r.state, r.up, r.down, awaited)
	if state == r.state {
		return
	}
	r.state, r.since = state, now
	if own := r.vote(c.self); own != nil && own.state == state && r.up+r.down == 1 {
		r.since = own.since // nobody else has had a say
	}
	e.verdicts = append(e.verdicts, c.describe(r))
}

// describe is the verdict on a backend with what it follows from.
func (c *core) describe(r *record) Verdict {
	v := Verdict{Key: r.target.Key, State: r.state, Since: r.since, Up: r.up, Down: r.down}
	if r.state != Down {
		return v
	}
	for i := range r.votes {
		o := &r.votes[i]
		if o.state == Down && o.voter.heeded() && (v.Reason == "" || o.voter == c.self) {
			v.Reason = o.reason
			if o.voter != c.self {
				v.Reason = fmt.Sprintf("%s (found by %s)", o.reason, o.voter.name)
			}
		}
	}
	return v
}
