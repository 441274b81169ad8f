package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/announce/bgp"
	"fairlead/controlplane/model"
)

// announceEvery is how often it is looked at what nobody tells of: whether the
// node forwards, and how far a drain is.
const announceEvery = 100 * time.Millisecond

// announcer keeps the network told which VIPs are here.
type announcer struct {
	node *Node
	log  *slog.Logger
	wake chan struct{}
	// silent says that the node has left the network: it does not answer for its
	// VIPs either.
	silent atomic.Bool

	mu      sync.Mutex
	cfg     model.BGP
	state   *model.State // desired; nil before the first image
	speaker *bgp.Speaker // nil without [bgp]
	vips    []announce.VIP
	heard   []func([]announce.VIP)
	unable  time.Time // since when the node cannot forward; the zero time: it can
	links   links
	drain   drain
}

// newAnnouncer makes an announcer that says nothing before it runs.
func newAnnouncer(n *Node) (*announcer, error) {
	a := &announcer{node: n, log: n.log, wake: make(chan struct{}, 1), cfg: n.cfg.BGP}
	a.drain = drain{phase: announce.InService, marker: drainMarker(n.cfg), clustered: n.cfg.Cluster.Enabled}
	if a.drain.marked() {
		a.log.Warn("this node is drained; it announces nothing until it is undrained")
		a.drain.phase, a.drain.wanted = announce.Drained, true
		a.silent.Store(silentWhenDrained(n.cfg))
	}
	n.OnServing(a.poke)
	var err error
	a.speaker, err = a.speak(a.cfg)
	return a, err
}

// speak makes a speaker; nil when none is wanted.
func (a *announcer) speak(cfg model.BGP) (*bgp.Speaker, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	return bgp.New(cfg, bgp.Options{Log: a.log, Restarted: a.node.outlived()})
}

// poke has the announcer look again, soon.
func (a *announcer) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Announce keeps the network told which VIPs are here, until ctx ends. What was
// announced last stays announced until Close.
func (n *Node) Announce(ctx context.Context) error {
	ticker := time.NewTicker(announceEvery)
	defer ticker.Stop()
	for {
		n.announce.step(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-n.announce.wake:
		case <-ticker.C:
		}
	}
}

// step decides anew and says what has changed.
func (a *announcer) step(now time.Time) {
	a.look(now)
	a.node.tellFitness(now)
	defer a.answer()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == nil {
		return
	}
	switch {
	case a.links.able:
		if !a.unable.IsZero() && now.Sub(a.unable) >= a.cfg.WithdrawAfter {
			a.log.Info("the node forwards again; its VIPs are announced")
		}
		a.unable = time.Time{}
	case a.unable.IsZero():
		a.unable = now
	}
	a.advance(now)
	c := announce.Condition{Forwarding: a.unable.IsZero() || now.Sub(a.unable) < a.cfg.WithdrawAfter, Phase: a.drain.phase, Unfit: a.node.Unfit() != "" || a.node.flowing.waits()}
	next := announce.Decide(a.state, &a.cfg, a.serving, c)
	if slices.EqualFunc(next, a.vips, func(x, y announce.VIP) bool { return x.Equal(&y) }) && a.vips != nil {
		return
	}
	a.report(next)
	a.vips = next
	for _, f := range a.heard {
		f(next)
	}
	if a.speaker != nil {
		if err := a.speaker.Set(next); err != nil {
			a.log.Error("VIPs cannot be announced as they should be", "error", err)
		}
	}
}

// answer has the node answer for its VIPs on its segments, or not, as far as its
// drain is. It is called without the lock.
func (a *announcer) answer() {
	a.mu.Lock()
	silent := a.drain.phase == announce.Withdrawn || a.drain.phase == announce.Drained
	a.mu.Unlock()
	silent = silent && silentWhenDrained(a.node.cfg)
	if a.silent.Swap(silent) == silent {
		return
	}
	if err := a.node.Reown(); err != nil {
		a.log.Error("ARP and neighbour discovery do not follow the drain", "error", err)
	}
}

// report logs which VIPs begin and cease to be announced.
func (a *announcer) report(next []announce.VIP) {
	if a.speaker == nil {
		return
	}
	before := make(map[string]announce.Reason, len(a.vips))
	for i := range a.vips {
		before[a.vips[i].Address.String()] = a.vips[i].Withheld
	}
	const most = 10
	said, silent := 0, 0
	for i := range next {
		v := &next[i]
		was, known := before[v.Address.String()]
		if known && was == v.Withheld || !known && v.Withheld == announce.Off {
			continue
		}
		if said++; said > most {
			silent++
			continue
		}
		if v.Withheld == "" {
			a.log.Info("VIP is announced", "vip", v.Address)
		} else {
			a.log.Warn("VIP is not announced", "vip", v.Address, "reason", string(v.Withheld), "services", v.Starved)
		}
	}
	if silent > 0 {
		a.log.Info("more VIPs have changed", "count", silent)
	}
}

// serving is how many backends of a pool get new flows and can be reached. In a
// pool that panics, only those that are alive count: another node may see more.
func (a *announcer) serving(pool string) int {
	sum, ok := a.node.serving.Pool(pool)
	switch {
	case !ok:
		return 0
	case sum.Panic:
		return sum.Healthy
	case len(a.links.down) == 0:
		return sum.Used
	}
	keys, backends := a.node.serving.Backends(pool)
	n := 0
	for i, b := range backends {
		if b.Used && !slices.Contains(a.links.down, a.links.ways[keys[i].Endpoint.Addr()].Interface) {
			n++
		}
	}
	return n
}

// setState is told what is desired, when it is in force.
func (a *announcer) setState(s *model.State) {
	a.mu.Lock()
	a.state = s
	a.mu.Unlock()
	a.poke()
}

// configure makes another [bgp] the one to go by. On an error nothing has
// changed; undo goes back to the one before.
func (a *announcer) configure(cfg model.BGP) (changed bool, undo func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.cfg
	if err := a.become(cfg); err != nil {
		return false, nil, err
	}
	a.poke()
	return !before.Equal(&cfg), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err := a.become(before); err != nil {
			a.log.Error("[bgp] is not as it was before the change that failed", "error", err)
		}
		a.poke()
	}, nil
}

// become makes another [bgp] the one to go by. The lock is held.
func (a *announcer) become(cfg model.BGP) error {
	if a.speaker != nil && cfg.Enabled {
		ok, err := a.speaker.Configure(cfg)
		if err != nil {
			return err
		}
		if ok {
			a.cfg = cfg
			return nil
		}
	}
	// Ports to listen on may be the same: the old one has to go first.
	before := a.cfg
	if a.speaker != nil {
		if err := a.speaker.Close(); err != nil {
			a.log.Warn("the BGP speaker did not end in order", "error", err)
		}
	}
	next, err := a.speak(cfg)
	if err != nil {
		cfg = before
		var again error
		if next, again = a.speak(before); again != nil {
			a.log.Error("no BGP is spoken: the former [bgp] could not be taken up again", "error", again)
		}
	}
	a.speaker, a.cfg, a.vips = next, cfg, nil
	return err
}

// close ends all sessions in order.
func (a *announcer) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.speaker == nil {
		return nil
	}
	return a.speaker.Close()
}

// LeaveBGP ends the BGP sessions without a word, for a successor of the control
// process: routers that support graceful restart keep the routes.
func (n *Node) LeaveBGP() error {
	a := n.announce
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.speaker == nil {
		return nil
	}
	return a.speaker.Leave()
}

// OnAnnounce has f called with every decision on which VIPs the node has, and
// soon with the present one. It must not wait, nor call the node.
func (n *Node) OnAnnounce(f func([]announce.VIP)) {
	a := n.announce
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = append(a.heard, f)
	a.vips = nil
	a.poke()
}

// Announcements are the VIPs and whether they are announced; nil before the
// first image.
func (n *Node) Announcements() []announce.VIP {
	n.announce.mu.Lock()
	defer n.announce.mu.Unlock()
	return slices.Clone(n.announce.vips)
}

// BGPPeers are the sessions with routers; ok is false without [bgp].
func (n *Node) BGPPeers() (peers []bgp.Peer, ok bool) {
	n.announce.mu.Lock()
	speaker := n.announce.speaker
	n.announce.mu.Unlock()
	if speaker == nil {
		return nil, false
	}
	return speaker.Peers(), true
}

// BGPConfig is [bgp] as it is in force.
func (n *Node) BGPConfig() model.BGP {
	n.announce.mu.Lock()
	defer n.announce.mu.Unlock()
	return n.announce.cfg
}

var errNotDrained = errors.New("the node is not drained")

// errMarker says that a drain does not outlive the control process.
func errMarker(err error) error {
	return fmt.Errorf("the node drains, but does not remember it over a restart: %w", err)
}
