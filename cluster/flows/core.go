package flows

import (
	"time"

	"fairlead/cluster"
)

// Outcome is what became of a flow that peers have told of.
type Outcome uint8

// The outcomes.
const (
	Taken      Outcome = iota // it is on its way into the flow table
	Unresolved                // this node has no such VIP, service or backend, or not yet
	Refused                   // it cannot be: such as one of a service with NAT
	Full                      // there is no room at the moment
)

// env is what the core asks of its surroundings. No call blocks; what takes
// time is answered by a call of the core's.
type env interface {
	now() time.Time
	send(node string, message []byte) error
	put(key string, value []byte)
	remove(key string)
	// ask sends a request to another coordinator's follower; core.answered.
	ask(node string, request []byte)
	// adopt has the data path go by these bases; core.adopted.
	adopt(bases []PoolBase)
	// scan looks through the flow table for exceptions; core.found, core.scanned.
	scan()
	// imports gives a flow to the data path.
	imports(f *Flow) Outcome
	// progress is how many flows were given to the data path, and how many of
	// these it has taken in.
	progress() (given, taken uint64)
	// pools are the node's pools, and a number that is another when they are.
	pools() ([]Pool, uint64)
	warn(what string, args ...any)
}

// Pool is a pool as this node has it.
type Pool struct {
	Name     string
	Declared []Share // what its backends are due when all is well
	Current  []Share // what they are due now: a backend that is down withholds all
}

// settings are the core's times. All are counted from events that nodes see at
// about the same time, so clocks need not agree.
type settings struct {
	window     time.Duration // after which a base follows its pool
	hold       time.Duration // for which no base is replaced after a node was lost
	refresh    time.Duration // between two looks at the flow table
	coordinate time.Duration // between two looks at the pools
}

// core is all of the room but what has to do with time and concurrency: one
// event at a time, in any order.
type core struct {
	env
	settings
	self    string
	members map[string]cluster.Node // those that serve, without this one
	drained map[string]bool
	stats   *counters

	teller      teller
	receiver    receiver
	follower    follower
	coordinator coordinator
}

func newCore(self string, e env, s settings) *core {
	c := &core{env: e, settings: s, self: self, members: map[string]cluster.Node{}, drained: map[string]bool{}, stats: &counters{}}
	c.teller = teller{core: c, peers: map[string]*peer{}}
	c.receiver = receiver{core: c, pending: map[Key]Flow{}, again: map[string]bool{}, heard: map[string]bool{}}
	c.follower = follower{core: c, followed: map[string]*followed{}, dirty: map[string]bool{}}
	c.coordinator = coordinator{core: c, known: map[string]*known{}, lost: e.now()}
	return c
}

// membership takes over who there is.
func (c *core) membership(all []cluster.Node) {
	now := c.now()
	live := make(map[string]cluster.Node, len(all))
	for _, n := range all {
		if n.Name != c.self && n.State.Serves() {
			live[n.Name] = n
		}
	}
	for name, was := range c.members {
		if is, ok := live[name]; !ok || !is.Started.Equal(was.Started) {
			c.coordinator.lost = now
		}
	}
	c.members = live
	c.teller.membership(live)
}

// drain takes over which nodes are drained.
func (c *core) drain(entries []cluster.Entry) {
	for _, e := range entries {
		name := e.Key[len(cluster.DrainPrefix):]
		if e.Deleted {
			delete(c.drained, name)
		} else {
			c.drained[name] = true
		}
	}
}

// message takes what a peer has sent.
func (c *core) message(from string, raw []byte) {
	m, err := parse(raw)
	if err != nil {
		c.stats.badMessages.Add(1)
		c.warn("a message about flows is not understood", "from", from, "error", err)
		return
	}
	switch m.what {
	case msgBatch:
		c.stats.receivedBatches.Add(1)
		c.stats.receivedBytes.Add(uint64(len(raw)))
		c.stats.unknown.Add(uint64(m.unknown))
		c.receiver.batch(from, m.flows)
	case msgFence:
		c.receiver.fence(from, m.number)
	case msgFenced:
		c.teller.fenced(from, m.number)
	case msgAgain:
		c.teller.lostBy(from)
	}
}

// tick is called every few milliseconds.
func (c *core) tick() {
	c.teller.tick()
	c.receiver.tick()
	c.follower.tick()
	c.coordinator.tick()
}
