// Package owner decides which node of a cluster answers for a VIP on its segment,
// by ARP and neighbour discovery.
//
// Every node decides for itself, from the same things: who is a member
// (cluster.Members), how each says that it is (live/<node>/fitness), and who is
// drained (drain/<node>). There is no vote: while the network is parted, each side
// gives the VIPs to its own, and afterwards all see the same again. Assign is the
// decision itself; Room keeps what it is made from.
//
// A member that is suspected keeps its VIPs: it may yet answer. One that is dead or
// has left loses them at once. One that comes back has to say how it is before it
// counts, and to be well for the hold-down time before it takes VIPs from others.
package owner

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
)

// DefaultHoldDown is how long a node that comes back is well before it takes VIPs
// from others, unless something else is said.
const DefaultHoldDown = 5 * time.Second

// startWithin is how long a node waits for what the others have to say before it
// decides anyway.
const startWithin = 10 * time.Second

// Config is what a room is made of.
type Config struct {
	Members cluster.Members
	Peers   cluster.Peers
	Store   cluster.Store
	// HoldDown is how long a node is well before it takes VIPs from others; 0: at
	// once.
	HoldDown time.Duration
	// Before says which VIPs the node has answered for before this process; nil:
	// none. It goes on so until the others have been heard.
	Before func(vip netip.Addr) bool
	// Settled says that this process continues another that was settled.
	Settled bool
	// Changed is called, one call at a time, when Owns gives other answers than
	// before. announce says that others may have answered for this node's VIPs in
	// the meantime, so that all are to be announced anew.
	Changed func(announce bool)
	// Drained is told whether this node is drained, whenever that may have
	// changed and once it is known at the start.
	Drained func(drained bool)
	Log     *slog.Logger // nil: no log
}

// Room keeps up who owns which VIP.
type Room struct {
	cfg  Config
	self string
	log  *slog.Logger

	wake    chan struct{}
	running sync.WaitGroup
	stops   []func()
	ctx     context.Context // ends with Close
	end     context.CancelFunc
	turn    chan struct{} // held while decisions are made and told, one at a time

	mu       sync.Mutex // guards what follows
	started  time.Time  // the zero time: it has not
	heard    bool       // the others have been heard, or waited for long enough
	vips     []netip.Addr
	digest   string
	fitness  Fitness
	fit      bool // fitness has been set
	leaving  bool
	settling settling
	others   map[string]*other
	back     time.Time // when the last one came back from a parting
	gather   time.Duration
	drained  map[string]Drain
	drains   map[string]cluster.Version // that drained follows from, with those of tombstones
	told     said                       // what this node has said of itself
	round    uint64
	owners   map[netip.Addr]string
	made     []Candidate // what owners were decided by, of the VIPs with the digest madeOf
	madeOf   string
	decided  bool // owners has been decided once
	renew    bool // VIPs are to be announced anew with the next decision
	drain    drainKnown
	closed   bool
	stats    Stats
}

// Stats are totals since the start.
type Stats struct {
	Taken   uint64 // VIPs that have become this node's
	Yielded uint64 // VIPs that have ceased to be
	Returns uint64 // members that have come back from being taken for dead
}

// New makes a room that receives what others say. It is called before the node
// joins.
func New(cfg Config) (*Room, error) {
	if cfg.HoldDown < 0 {
		return nil, fmt.Errorf("hold-down of %v: want none or a positive duration", cfg.HoldDown)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Room{
		cfg: cfg, self: cfg.Members.Self().Name, log: cfg.Log,
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), round: uint64(time.Now().UnixMilli()),
		others: make(map[string]*other), drained: make(map[string]Drain), drains: make(map[string]cluster.Version),
		gather: min(time.Second, cfg.HoldDown/4), settling: settling{hold: cfg.HoldDown, settled: cfg.Settled, well: cfg.Settled},
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	cfg.Peers.Handle(topicReturned, r.onReturned)
	cfg.Peers.Handle(topicLeave, r.onLeave)
	cfg.Peers.Handle(topicVIPs, r.onVIPs)
	r.stops = append(r.stops,
		cfg.Members.Watch(r.onMembers),
		cfg.Store.Watch(cluster.LivePrefix, r.onSaid),
		cfg.Store.Watch(cluster.DrainPrefix, r.onDrains),
	)
	return r, nil
}

// Start begins to decide, and to say how this node is. It is called when the node
// joins. Nothing is this node's before SetVIPs and SetFitness, and before the
// others have been heard.
func (r *Room) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.started = time.Now()
	r.running.Go(r.run)
}

// Close ends the decisions. Owns goes on to give its last answers.
func (r *Room) Close() {
	for _, stop := range r.stops {
		stop()
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
}

// SetVIPs says which VIPs this node's configuration has and answers for.
func (r *Room) SetVIPs(vips []netip.Addr) {
	list, digest := canonical(vips)
	r.mu.Lock()
	defer r.mu.Unlock()
	if digest == r.digest && r.vips != nil {
		return
	}
	r.vips, r.digest = list, digest
	r.poke()
}

// SetFitness says how this node is.
func (r *Room) SetFitness(f Fitness) {
	f = f.bounded()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fit && r.fitness.Equal(&f) {
		return
	}
	r.fitness, r.fit = f, true
	r.poke()
}

// Owns reports whether a VIP is this node's.
func (r *Room) Owns(vip netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.decided {
		return r.cfg.Before != nil && r.cfg.Before(vip)
	}
	return r.owners[vip.Unmap()] == r.self
}

// Owner is the node that a VIP belongs to, as this node sees it; ok is false when
// it is nobody's, and before the others have been heard.
func (r *Room) Owner(vip netip.Addr) (name string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = r.owners[vip.Unmap()]
	return name, name != ""
}

// Stats are counted since the start.
func (r *Room) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// poke has run look again.
func (r *Room) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run decides whenever something has changed.
func (r *Room) run() {
	timer := time.NewTimer(startWithin)
	defer timer.Stop()
	synced := r.cfg.Store.Synced()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-synced:
			synced = nil
			r.hearOthers()
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(r.decide())
	}
}

// hearOthers takes over what the store has now that it has compared itself with
// another, whether or not that has been told yet.
func (r *Room) hearOthers() {
	r.onSaid(r.cfg.Store.List(cluster.LivePrefix))
	r.onDrains(r.cfg.Store.List(cluster.DrainPrefix))
	r.onMembers(r.cfg.Members.All())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = true
}

// idle is how often it is looked at what nobody tells of.
const idle = time.Second

// decide brings the decision up to date, tells what has become of it, and returns
// when to look again at the latest.
func (r *Room) decide() time.Duration {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-r.ctx.Done():
		return idle
	}
	now := time.Now()
	r.mu.Lock()
	if r.started.IsZero() || r.closed {
		r.mu.Unlock()
		return idle
	}
	if !r.heard && now.Sub(r.started) >= startWithin {
		r.heard = true
		r.log.Warn("nothing was heard of the other nodes; it is decided without them who owns which VIP", "waited", startWithin)
	}
	wait, changed := idle, false
	if r.heard {
		wait = r.settle(now)
	}
	say := r.speak()
	if r.heard && r.fit && r.vips != nil {
		changed = r.assign()
	}
	renew := r.renew && r.decided
	r.renew = false
	drained, tell := r.drain.look(r.heard, r.drained, r.self)
	r.inquire(now)
	r.mu.Unlock()

	if say != nil {
		r.put(say)
	}
	if (changed || renew) && r.cfg.Changed != nil {
		r.cfg.Changed(renew)
	}
	if tell && r.cfg.Drained != nil {
		r.cfg.Drained(drained)
	}
	return wait
}

// settle finds out whether this node may take VIPs from others. The lock is held.
func (r *Room) settle(now time.Time) (wait time.Duration) {
	others := false // who have settled, or may have
	for _, o := range r.others {
		others = others || o.state.Serves() && (!o.has || o.returned || o.candidate() && o.said.Settled)
	}
	was := r.settling.settled
	defer func() {
		if was && !r.settling.settled && !r.leaving {
			r.log.Warn("this node leaves VIPs to others, as long as there are", "forwards", r.fitness.Forwards, "impaired", r.fitness.Impaired)
		}
	}()
	r.settling.look(r.fitness.Forwards && r.fitness.Impaired == "" && !r.leaving, others, now)
	if r.settling.settled && !was {
		r.log.Info("this node has been well for long enough to own VIPs", "hold_down", r.settling.hold, "others", others)
	}
	wait = idle
	if due := r.settling.due(); !due.IsZero() {
		wait = max(min(wait, due.Sub(now)), time.Millisecond)
	}
	return wait
}

// assign decides anew and reports whether Owns gives other answers now. The lock
// is held.
func (r *Room) assign() (changed bool) {
	candidates := r.candidates()
	if r.decided && r.madeOf == r.digest && slices.EqualFunc(candidates, r.made, func(a, b Candidate) bool { return a.same(&b) }) {
		return false
	}
	r.made, r.madeOf = candidates, r.digest
	owners := Assign(r.vips, candidates)
	next := make(map[netip.Addr]string, len(owners))
	var taken, yielded []netip.Addr
	for i, vip := range r.vips {
		next[vip] = owners[i]
		before := r.owners[vip] == r.self
		if !r.decided {
			before = r.cfg.Before != nil && r.cfg.Before(vip)
		}
		switch mine := owners[i] == r.self; {
		case mine && !before:
			taken = append(taken, vip)
		case !mine && before:
			yielded = append(yielded, vip)
		}
	}
	first := !r.decided
	r.report(taken, "VIPs are this node's now")
	r.report(yielded, "VIPs are other nodes' now")
	r.stats.Taken += uint64(len(taken))
	r.stats.Yielded += uint64(len(yielded))
	r.owners, r.decided = next, true
	return first || len(taken)+len(yielded) > 0
}

// report logs which VIPs have moved, the first of them by name.
func (r *Room) report(vips []netip.Addr, text string) {
	const most = 8
	if len(vips) > 0 {
		r.log.Info(text, "count", len(vips), "vips", vips[:min(len(vips), most)])
	}
}

// candidates are the nodes that VIPs may be given to, by name. The lock is held.
func (r *Room) candidates() (list []Candidate) {
	if r.fitness.Forwards && !r.leaving {
		_, drained := r.drained[r.self]
		list = append(list, Candidate{
			Name: r.self, Networks: r.fitness.Networks, Impaired: r.fitness.Impaired != "", Drained: drained, Settled: r.settling.settled,
		})
	}
	for name, o := range r.others {
		if !o.candidate() {
			continue
		}
		_, drained := r.drained[name]
		list = append(list, Candidate{
			Name: name, Networks: o.said.Networks, Impaired: o.said.Impaired != "", Drained: drained,
			Settled: o.said.Settled && !o.returned, Lacks: o.lacks(r.vips, r.digest),
		})
	}
	slices.SortFunc(list, func(a, b Candidate) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// speak is what this node has to say of itself, nil when that is what it has
// said already. The lock is held.
func (r *Room) speak() *said {
	s := said{
		Forwards: r.fitness.Forwards, Impaired: r.fitness.Impaired, Networks: r.fitness.Networks,
		Settled: r.settling.settled, Leaving: r.leaving, VIPs: r.digest, Round: r.round,
	}
	if !r.fit || s.equal(&r.told) {
		return nil
	}
	r.told = s
	return &s
}

// put writes what this node says of itself.
func (r *Room) put(s *said) {
	b, err := s.encode()
	if err == nil {
		err = r.cfg.Store.Put(fitnessKey(r.self), b)
	}
	if err == nil {
		return
	}
	r.log.Error("the others do not learn how this node is; it is tried again", "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = said{}
}

func fitnessKey(node string) string { return cluster.LivePrefix + node + "/fitness" }
