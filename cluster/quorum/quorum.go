package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/model"
)

// DefaultCheckers is how many nodes check a backend unless the operator says
// otherwise: the least number of which one can be wrong.
const DefaultCheckers = 3

// Times.
const (
	defaultGrace = 10 * time.Second
	gather       = 20 * time.Millisecond  // what a change waits for others to travel with
	look         = 500 * time.Millisecond // between looks at what time alone changes
	beatEvery    = 3 * time.Second
	silentAfter  = 10 * time.Second // without a word of a node its views do not count
	forgetAfter  = 5 * time.Minute  // nor are they kept
	wantEvery    = time.Second
)

// Config is what a Quorum needs of its surroundings.
type Config struct {
	Members cluster.Members
	Peers   cluster.Peers
	Store   cluster.Store // tells which nodes are drained
	// Checkers is how many nodes check a backend, TunnelCheckers how many check one
	// that is reached by a tunnel or by its link-layer address; 0: all of them.
	Checkers, TunnelCheckers int
	// Grace is for how long a node's views may contradict the others' before it is
	// suspected, and how long they must agree until it is trusted again. For half as
	// long it may be unable to reach most backends that others reach, before it is
	// unfit. 0: 10 s.
	Grace time.Duration
	// Assign is told which backends this node begins and ceases to check. It and
	// Report are called by one goroutine, in order, and must not close the Quorum.
	Assign func(begin []Assignment, end []model.BackendKey)
	// Report is told of verdicts that have changed.
	Report func([]Verdict)
	// Fitness is told when this node begins to be unfit to serve, for it can reach
	// fewer than half of the backends that others reach, and when it ceases to be;
	// why is empty then. It may be nil.
	Fitness func(why string)
	Log     *slog.Logger
}

// Quorum is this node's part in checking backends together with others. Its
// methods may be called from any goroutine.
type Quorum struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{}
	stops  []func()

	mu    sync.Mutex // guards what follows
	core  *core
	share *share
	begun bool // targets have been set: this node has something to say
	fit   fitness
	// What has changed by calls of SetTargets, and is to be reported.
	ending []model.BackendKey
}

// New makes a Quorum that has no targets yet. It listens from now on, so it is made
// before the node joins.
func New(cfg Config) (*Quorum, error) {
	if cfg.Members == nil || cfg.Peers == nil || cfg.Store == nil || cfg.Assign == nil || cfg.Report == nil || cfg.Log == nil {
		return nil, errors.New("quorum: Members, Peers, Store, Assign, Report and Log are needed")
	}
	if cfg.Checkers < 0 || cfg.TunnelCheckers < 0 {
		return nil, fmt.Errorf("quorum: %d checkers of a backend, %d through tunnels: want 0 or more", cfg.Checkers, cfg.TunnelCheckers)
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	q := &Quorum{cfg: cfg, wake: make(chan struct{}, 1)}
	q.core = newCore(cfg.Members.Self().Name, rules{cfg.Checkers, cfg.TunnelCheckers, cfg.Grace})
	q.share = newShare(q.core, uint64(time.Now().UnixNano()))
	q.ctx, q.cancel = context.WithCancel(context.Background())
	cfg.Peers.Listen(topic, q.receive)
	cfg.Peers.OnUp(q.up)
	q.stops = append(q.stops, cfg.Members.Watch(q.members), cfg.Store.Watch(cluster.DrainPrefix, q.drains))
	q.done.Go(q.run)
	return q, nil
}

// Close ends it. Neither Assign nor Report is called any more when it returns.
func (q *Quorum) Close() error {
	q.cancel()
	for _, stop := range q.stops {
		stop()
	}
	q.done.Wait()
	return nil
}

// SetTargets makes these the backends to check, and reports whether they are other
// ones than before. Those that stay keep their verdicts; a new one begins with that
// of begins, or with what the other nodes find it to be. Which of them this node is
// to check, Assign is told; of those that it has checked and that are no more, too.
// The error has what cannot be checked.
func (q *Quorum) SetTargets(targets []Target, begins map[model.BackendKey]Verdict) (changed bool, err error) {
	own := make([]Target, len(targets))
	copy(own, targets)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.begun = true
	changed, end, refused := q.core.setTargets(own, begins, time.Now())
	q.ending = append(q.ending, end...)
	q.rouse()
	if len(refused) > 0 {
		return changed, fmt.Errorf("backend %s of pool %q and %d more cannot be told from others by their hashes, and are not checked", refused[0].Endpoint, refused[0].Pool, len(refused)-1)
	}
	return changed, nil
}

// Found takes over what this node's own checks have found. What it has not been
// assigned is ignored.
func (q *Quorum) Found(views []View) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range views {
		v := &views[i]
		if r := q.core.keys[v.Key]; r != nil && r.mine {
			q.core.say(r.id, vote{voter: q.core.self, state: v.State, since: v.Since, reason: shorten(v.Reason)})
		}
	}
	q.rouse()
}

func (q *Quorum) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// receive takes a message of another node.
func (q *Quorum) receive(from string, b []byte) {
	m, err := parse(b)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.share.stats.BytesReceived += uint64(len(b))
	q.share.stats.Received++
	if err != nil {
		q.share.stats.Refused++
		if p := q.share.peer(from); !p.complained {
			p.complained = true
			q.cfg.Log.Warn("messages about health of another node are not understood, and ignored", "node", from, "reason", err)
		}
		return
	}
	q.share.take(from, m, time.Now())
	q.rouse()
}

// up has a node told everything, to which there is a connection now.
func (q *Quorum) up(node string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.share.peer(node).owed = true
	q.rouse()
}

func (q *Quorum) members(all []cluster.Node) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.share.members(all)
	q.rouse()
}

func (q *Quorum) drains(entries []cluster.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		if node := e.Key[len(cluster.DrainPrefix):]; e.Deleted {
			delete(q.core.drained, node)
		} else {
			q.core.drained[node] = true
		}
	}
	q.core.changed = true
	q.rouse()
}

// run does what is to be done until the Quorum is closed.
func (q *Quorum) run() {
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		timer.Reset(q.turn())
		select {
		case <-q.ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// turn works out what has changed, and tells everybody. It says how long nothing
// else is to be done.
func (q *Quorum) turn() time.Duration {
	now := time.Now()
	q.mu.Lock()
	q.share.age(now)
	var turned []*voter
	if q.share.lookDue(now) {
		turned = q.core.compare(now)
	}
	e := q.core.step(now)
	e.end = append(q.ending, e.end...)
	q.ending = nil
	why, fitnessChanged := q.fit.look(q.core, q.cfg.Grace/2, now)
	var letters []letter
	if q.begun {
		letters = q.share.letters(now)
	}
	wait := q.share.wait(now)
	for _, v := range turned {
		q.logSuspicion(v)
	}
	q.mu.Unlock()

	q.send(letters)
	if q.ctx.Err() != nil {
		return wait
	}
	if len(e.begin)+len(e.end) > 0 {
		q.cfg.Assign(e.begin, e.end)
	}
	if len(e.verdicts) > 0 {
		q.cfg.Report(e.verdicts)
	}
	if fitnessChanged {
		q.logFitness(why)
		if q.cfg.Fitness != nil {
			q.cfg.Fitness(why)
		}
	}
	return wait
}

// send sends messages. To whom one cannot be sent everything is told later.
func (q *Quorum) send(letters []letter) {
	for i := range letters {
		l := &letters[i]
		for _, to := range l.to {
			err := q.cfg.Peers.Send(to, topic, l.message)
			q.mu.Lock()
			q.share.sent(to, len(l.message), err)
			q.mu.Unlock()
		}
	}
}

func (q *Quorum) logSuspicion(v *voter) {
	switch {
	case v.suspected && v == q.core.self:
		q.cfg.Log.Warn("nearly all that this node's health checks find contradicts the other nodes; its views do not count until they agree again",
			"differ", v.tally.differ, "of", v.tally.compared)
	case v.suspected:
		q.cfg.Log.Warn("nearly all that a node's health checks find contradicts the other nodes; its views do not count until they agree again",
			"node", v.name, "differ", v.tally.differ, "of", v.tally.compared)
	default:
		q.cfg.Log.Info("what a node's health checks find agrees with the other nodes again; its views count", "node", v.name)
	}
}

func (q *Quorum) logFitness(why string) {
	if why == "" {
		q.cfg.Log.Info("this node can reach the backends again that others reach")
		return
	}
	q.cfg.Log.Warn("this node cannot reach most backends that others reach", "reason", why)
}
