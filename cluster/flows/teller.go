package flows

import (
	"errors"
	"maps"
	"slices"
	"time"

	"fairlead/cluster"
)

// Times of telling.
const (
	tellEvery   = 10 * time.Millisecond // how long a flow waits for others to be told with it
	resyncPause = time.Second           // before one who did not keep up is told all again
)

// teller tells peers of flows.
//
// A peer is told in order for as long as it is in step. When something could not
// be sent to it, it is not, until it has been told all that this node knows: a
// scan of the flow table. Scans are made one at a time and serve whoever waits.
//
// Fences say how far a peer has got: a fence of number n that is answered says
// that the peer's data path has everything that scans up to the n-th have found,
// and all that was told before.
type teller struct {
	core   *core
	peers  map[string]*peer
	order  []string // names of peers
	common batch
	began  time.Time // when the first flow was put into common

	work      *work           // the scan that runs
	rests     time.Time       // no scan before, after one that failed
	want      map[string]bool // pools that are to be looked through
	refreshed time.Time
	pass      uint64 // of refreshing
	fences    uint64 // scans that have ended
}

// peer is another node.
type peer struct {
	started  time.Time // its process
	inStep   bool
	syncing  bool      // the scan that runs is for it
	down     bool      // there is no connection
	pause    time.Time // it is not told all again before
	complete bool      // this process of its has been told even of flows that this node was told of itself
	answered uint64    // greatest fence
}

// work is what a scan is for.
type work struct {
	pools     map[string]bool // all exceptions of these, to everybody
	refresh   bool            // those that are due, to everybody
	resync    bool            // somebody is to be told all
	newcomers bool            // who knows nothing yet
	own       batch           // exceptions of this node, to those that are to be told all
	others    batch           // exceptions that it was told of, to those that know nothing yet
}

func (t *teller) membership(live map[string]cluster.Node) {
	for name := range t.peers {
		if _, ok := live[name]; !ok {
			delete(t.peers, name)
		}
	}
	for name, n := range live {
		p := t.peers[name]
		if p == nil {
			t.peers[name] = &peer{started: n.Started}
		} else if !p.started.Equal(n.Started) {
			*p = peer{started: n.Started}
		}
	}
	t.order = slices.Sorted(maps.Keys(t.peers))
}

// up notes that there is a connection to a node, and that whatever it was told
// before may not have arrived.
func (t *teller) up(node string) {
	if p := t.peers[node]; p != nil {
		p.inStep, p.syncing, p.down, p.pause = false, false, false, time.Time{}
	}
}

// lostBy notes that a peer has lost something of what it was told.
func (t *teller) lostBy(node string) {
	if p := t.peers[node]; p != nil {
		t.core.stats.asked.Add(1)
		p.inStep, p.syncing, p.pause = false, false, t.core.now().Add(resyncPause)
	}
}

func (t *teller) fenced(node string, number uint64) {
	if p := t.peers[node]; p != nil && number <= t.fences {
		p.answered = max(p.answered, number)
	}
}

// tell tells everybody of a flow of this node's.
func (t *teller) tell(f *Flow) {
	if len(t.peers) == 0 {
		return
	}
	if t.common.flows == 0 {
		t.began = t.core.now()
	}
	t.add(&t.common, f)
	if t.common.full() {
		t.flush()
	}
}

// add puts a flow into a batch. Who is told of it keeps it for longer than this
// node would: until this one has had two occasions to tell of it again.
func (t *teller) add(b *batch, f *Flow) {
	if !f.Told {
		f.Slack = 2 * (t.period(f) + t.core.settings.refresh)
	}
	b.add(f)
	t.core.stats.told[f.Kind].Add(1)
}

// period is how often a flow is told of again.
func (t *teller) period(f *Flow) time.Duration { return max(f.Timeout/4, t.core.settings.refresh) }

// due reports whether a flow is told of again in this pass. Each flow has its
// turn, so that not all are told at once.
func (t *teller) due(f *Flow) bool {
	turns := uint64(t.period(f) / t.core.settings.refresh)
	return (t.pass+f.spread())%turns == 0
}

// observed takes what the data path says of its flows; lost says that there was
// more than it had room for.
func (t *teller) observed(flows []Flow, lost bool) {
	for i := range flows {
		t.tell(&flows[i])
	}
	if !lost {
		return
	}
	t.core.stats.overflows.Add(1)
	for _, p := range t.peers {
		p.inStep, p.syncing = false, false
	}
}

// flush sends what has been put together to all who are in step, or are told
// all at the moment.
func (t *teller) flush() {
	if t.common.flows == 0 {
		return
	}
	t.broadcast(&t.common, func(p *peer) bool { return p.inStep || p.syncing })
}

func (t *teller) broadcast(b *batch, to func(*peer) bool) {
	message := b.message()
	t.core.stats.batches.Add(1)
	b.reset()
	for _, name := range t.order {
		if p := t.peers[name]; to(p) {
			t.send(name, p, message)
		}
	}
}

// send sends a message to a peer, which is out of step when that fails.
func (t *teller) send(name string, p *peer, message []byte) bool {
	err := t.core.send(name, message)
	if err == nil {
		t.core.stats.sentMessages.Add(1)
		t.core.stats.sentBytes.Add(uint64(len(message)))
		return true
	}
	t.core.stats.sendErrors.Add(1)
	p.inStep, p.syncing = false, false
	p.down = errors.Is(err, cluster.ErrUnreachable)
	p.pause = t.core.now().Add(resyncPause)
	return false
}

func (t *teller) tick() {
	now := t.core.now()
	if t.common.flows > 0 && now.Sub(t.began) >= tellEvery {
		t.flush()
	}
	if t.work != nil || now.Before(t.rests) || len(t.peers) == 0 && len(t.want) == 0 {
		return
	}
	behind := false
	for _, p := range t.peers {
		behind = behind || t.behind(p, now)
	}
	refresh := now.Sub(t.refreshed) >= t.core.settings.refresh
	if !behind && !refresh && len(t.want) == 0 {
		return
	}
	t.work = &work{pools: t.want, refresh: refresh, resync: behind}
	t.want = nil
	if refresh {
		t.refreshed = now
		t.pass++
	}
	for _, p := range t.peers {
		p.syncing = t.behind(p, now)
		t.work.newcomers = t.work.newcomers || p.syncing && !p.complete
	}
	if behind {
		t.core.stats.resyncs.Add(1)
	}
	t.core.stats.scans.Add(1)
	t.core.scan()
}

// behind reports whether a peer waits to be told all.
func (t *teller) behind(p *peer, now time.Time) bool {
	return !p.inStep && !p.down && !now.Before(p.pause)
}

// found takes exceptions that a scan has found.
func (t *teller) found(flows []Flow) {
	w := t.work
	for i := range flows {
		f := &flows[i]
		switch {
		case f.Told:
			if w.newcomers {
				t.add(&w.others, f)
			}
		case w.pools[f.Pool] || w.refresh && t.due(f):
			t.tell(f)
			continue
		case w.resync:
			t.add(&w.own, f)
		}
		t.flushWork(false)
	}
	t.flushWork(true)
}

// flushWork sends what a scan has found to those who are told all.
func (t *teller) flushWork(all bool) {
	w := t.work
	if w.own.full() || all && w.own.flows > 0 {
		t.broadcast(&w.own, func(p *peer) bool { return p.syncing })
	}
	if w.others.full() || all && w.others.flows > 0 {
		t.broadcast(&w.others, func(p *peer) bool { return p.syncing && !p.complete })
	}
}

// scanned ends a scan. After an error, what it was for has still to be done.
func (t *teller) scanned(err error) {
	w := t.work
	t.work = nil
	if err != nil {
		t.rests = t.core.now().Add(resyncPause)
		t.core.stats.scanErrors.Add(1)
		t.core.warn("the flow table was not looked through to tell other nodes of it", "error", err)
		for pool := range w.pools {
			t.look(pool)
		}
		for _, p := range t.peers {
			if p.syncing {
				p.syncing, p.pause = false, t.core.now().Add(resyncPause)
			}
		}
		return
	}
	t.flush()
	t.fences++
	for _, name := range t.order {
		p := t.peers[name]
		if !p.inStep && !p.syncing {
			continue
		}
		if p.syncing {
			p.inStep, p.syncing, p.complete = true, false, true
		}
		t.send(name, p, fenceMessage(msgFence, t.fences))
	}
	t.core.follower.scanned(w.pools, t.fences)
}

// look has the flows of a pool told to everybody.
func (t *teller) look(pool string) {
	if t.want == nil {
		t.want = map[string]bool{}
	}
	t.want[pool] = true
}

// without are the peers that have not answered a fence.
func (t *teller) without(fence uint64) (names []string) {
	for _, name := range t.order {
		if t.peers[name].answered < fence {
			names = append(names, name)
		}
	}
	return names
}
