package flows

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"fairlead/cluster"
)

const (
	answerWithin = 5 * time.Second
	mostAtOnce   = 1024 // pools whose bases are replaced at a time

	// Shares that change all the time are followed all the same after so many
	// windows.
	windowsAtMost = 10
)

// coordinator writes the entries of pools. Every node has one; that of the live
// node with the least name that is not drained is at work. That two are for a
// while, because nodes see different members, does no harm that the other phases
// of a base would not have to stand anyway: see the package.
type coordinator struct {
	core   *core
	known  map[string]*known // pools of this node
	gen    uint64
	looked bool
	synced bool // the store has what others' stores have
	active bool
	acted  time.Time
	lost   time.Time // when a node was last lost, or this one began to know

	round *round // questions that are not all answered
}

// known is what the coordinator knows of a pool.
type known struct {
	pool    Pool
	changed time.Time // its current shares
	differs time.Time // since when they are not those of the base; zero: they are
	gone    time.Time // since when this node has no such pool; zero: it has
}

// round is one set of questions to all nodes.
type round struct {
	began   time.Time
	pools   map[string]cluster.Version
	waiting map[string]bool // nodes
	behind  map[string]bool // pools
	without map[string]map[string]bool
	deaf    map[string]bool // nodes that take no part
}

// leads reports whether this node is the one to coordinate.
func (c *coordinator) leads() bool {
	if c.core.drained[c.core.self] {
		for name := range c.core.members {
			if !c.core.drained[name] {
				return false
			}
		}
	}
	for name := range c.core.members {
		if name < c.core.self && (!c.core.drained[name] || c.core.drained[c.core.self]) {
			return false
		}
	}
	return true
}

func (c *coordinator) tick() {
	now := c.core.now()
	if now.Sub(c.acted) < c.core.coordinate {
		return
	}
	c.acted = now
	c.look(now)
	if c.active = c.synced && c.leads(); !c.active {
		c.round = nil
		return
	}
	if c.round != nil && now.Sub(c.round.began) > answerWithin {
		c.round = nil
	}
	moving := c.replace(now)
	if c.round == nil && len(moving) > 0 {
		c.ask(now, moving)
	}
}

// look keeps an eye on this node's pools, whoever leads, so that a new leader
// knows for how long they have been what they are.
func (c *coordinator) look(now time.Time) {
	pools, gen := c.core.pools()
	if !c.looked || gen != c.gen {
		there := make(map[string]bool, len(pools))
		for _, p := range pools {
			there[p.Name] = true
			sortShares(p.Current)
			k := c.known[p.Name]
			if k == nil {
				k = &known{changed: now}
				c.known[p.Name] = k
			} else if !slices.Equal(k.pool.Current, p.Current) {
				k.changed = now
			}
			k.pool, k.gone = p, time.Time{}
		}
		for name, k := range c.known {
			if !there[name] && k.gone.IsZero() {
				k.gone = now
			}
		}
		c.gen, c.looked = gen, true
	}
	for name, k := range c.known {
		f := c.core.follower.followed[name]
		if f == nil || f.gone || slices.Equal(f.want.Shares, k.pool.Current) {
			k.differs = time.Time{}
		} else if k.differs.IsZero() {
			k.differs = now
		}
		if f == nil && !k.gone.IsZero() {
			delete(c.known, name)
		}
	}
}

// replace begins what is due, and returns the pools whose bases are being
// replaced.
func (c *coordinator) replace(now time.Time) (moving []questionPool) {
	quiet := now.Sub(c.lost) >= c.core.hold
	for name, f := range c.core.follower.followed {
		if f.gone {
			continue
		}
		k := c.known[name]
		if k == nil { // an entry of a pool that this node has never had
			c.known[name] = &known{gone: now}
			continue
		}
		if f.want.Phase == Steady || len(moving) >= mostAtOnce {
			continue
		}
		if f.want.Phase == Prepare && k.gone.IsZero() && slices.Equal(f.want.Shares, k.pool.Current) {
			c.write(name, Base{Phase: Steady, Shares: f.want.Shares}) // it has become what it was
			continue
		}
		if f.want.Phase == Settle || quiet {
			moving = append(moving, questionPool{name, f.version})
		}
	}
	for name, k := range c.known {
		f := c.core.follower.followed[name]
		switch {
		case !k.gone.IsZero():
			if f != nil && !f.gone && now.Sub(k.gone) >= c.core.window {
				c.core.remove(cluster.BasePrefix + name)
			}
		case f == nil || f.gone:
			// What backends are due when all is well: a new pool's have not been
			// checked yet.
			if len(k.pool.Declared) > 0 {
				c.write(name, Base{Phase: Steady, Shares: sortShares(slices.Clone(k.pool.Declared))})
			}
		case f.want.Phase == Steady && quiet && len(moving) < mostAtOnce && c.due(k, now):
			c.write(name, Base{Phase: Prepare, Shares: f.want.Shares, Also: k.pool.Current})
			moving = append(moving, questionPool{name, cluster.Version{}}) // counts; it is asked for when it is there
		}
	}
	return slices.DeleteFunc(moving, func(p questionPool) bool { return p.Version == cluster.Version{} })
}

// due reports whether a pool's base should be replaced.
func (c *coordinator) due(k *known, now time.Time) bool {
	if k.differs.IsZero() || len(k.pool.Current) == 0 {
		return false
	}
	differs := now.Sub(k.differs)
	return differs >= c.core.window && (now.Sub(k.changed) >= c.core.window || differs >= windowsAtMost*c.core.window)
}

// write puts a pool's entry, and counts it as followed from when the store tells
// of it.
func (c *coordinator) write(pool string, b Base) {
	value, err := b.Encode()
	if err != nil {
		c.core.warn("the base of a pool cannot be written", "pool", pool, "error", err)
		return
	}
	c.core.stats.phase(b.Phase).Add(1)
	c.core.put(cluster.BasePrefix+pool, value)
}

// ask asks every node how far it has come with these pools.
func (c *coordinator) ask(now time.Time, pools []questionPool) {
	request, err := json.Marshal(question{pools})
	if err != nil {
		c.core.warn("the question about bases of pools cannot be written", "error", err)
		return
	}
	r := &round{
		began: now, pools: map[string]cluster.Version{}, waiting: map[string]bool{},
		behind: map[string]bool{}, without: map[string]map[string]bool{}, deaf: map[string]bool{},
	}
	for _, p := range pools {
		r.pools[p.Pool] = p.Version
	}
	for name := range c.core.members {
		r.waiting[name] = true
	}
	c.core.stats.rounds.Add(1)
	c.round = r
	r.take(c.core.follower.reply(pools))
	for _, name := range c.core.teller.order {
		c.core.ask(name, request)
	}
	c.end()
}

func (r *round) take(answer reply) {
	for _, pool := range answer.Behind {
		r.behind[pool] = true
	}
	for pool, nodes := range answer.Without {
		if r.without[pool] == nil {
			r.without[pool] = map[string]bool{}
		}
		for _, node := range nodes {
			r.without[pool][node] = true
		}
	}
}

// answered takes a node's answer. A node whose software knows no bases takes no
// part; one that does not answer holds the round up until it is dead.
func (c *coordinator) answered(node string, answer []byte, err error) {
	r := c.round
	if r == nil || !r.waiting[node] {
		return
	}
	var a reply
	switch {
	case errors.Is(err, cluster.ErrNoHandler):
		r.deaf[node] = true
	case err == nil:
		err = json.Unmarshal(answer, &a)
		r.take(a)
		fallthrough
	default:
		if err != nil {
			c.core.stats.askErrors.Add(1)
			c.round = nil
			return
		}
	}
	delete(r.waiting, node)
	c.end()
}

// end makes the next step with the pools for which all nodes are ready, once
// all have answered.
func (c *coordinator) end() {
	r := c.round
	for node := range r.waiting {
		if _, live := c.core.members[node]; live {
			return
		}
	}
	c.round = nil
	quiet := c.core.now().Sub(c.lost) >= c.core.hold
	for pool, version := range r.pools {
		f := c.core.follower.followed[pool]
		if f == nil || f.gone || f.version != version || r.behind[pool] || !r.allKnow(c.core, pool) {
			continue
		}
		switch {
		case f.want.Phase == Prepare && quiet:
			c.write(pool, Base{Phase: Settle, Shares: f.want.Also, Also: f.want.Shares})
		case f.want.Phase == Settle:
			c.write(pool, Base{Phase: Steady, Shares: f.want.Shares})
		}
	}
}

func (r *round) allKnow(c *core, pool string) bool {
	for node := range r.without[pool] {
		if _, live := c.members[node]; (live || node == c.self) && !r.deaf[node] {
			return false
		}
	}
	return true
}
