package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"fairlead/cluster/owner"
	"fairlead/configs"
	"fairlead/controlplane/announce"
)

// quietFor is how long nothing must have come for a node that has withdrawn its
// VIPs to be taken for drained.
const quietFor = time.Second

// drain takes a node out of service, step by step: see announce.Phase.
type drain struct {
	wanted    bool
	clustered bool   // all nodes of the cluster know of it
	marker    string // file that remembers a drain that an operator asked for; "": none does
	phase     announce.Phase
	since     time.Time // of the phase
	packets   uint64    // that had come when last looked
	quiet     time.Time // since when no packet has come
}

// drainMarker is the file that remembers a drain.
func drainMarker(cfg *configs.Config) string {
	if cfg.Store.Directory == "" {
		return ""
	}
	return filepath.Join(cfg.Store.Directory, "drained")
}

func (d *drain) marked() bool {
	if d.marker == "" {
		return false
	}
	_, err := os.Stat(d.marker)
	return err == nil
}

func (d *drain) mark() error {
	if d.marker == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(d.marker), 0o750); err != nil {
		return err
	}
	text := "drained by its operator; `fairlead undrain` ends this\n"
	if d.clustered {
		text = sharedMarker
	}
	return os.WriteFile(d.marker, []byte(text), 0o640)
}

// shared reports whether the file was written when all nodes of a cluster knew of
// the drain.
func (d *drain) shared() bool {
	if d.marker == "" {
		return true
	}
	text, err := os.ReadFile(d.marker)
	return err == nil && string(text) == sharedMarker
}

func (d *drain) unmark() error {
	if d.marker == "" {
		return nil
	}
	if err := os.Remove(d.marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *drain) enter(p announce.Phase, now time.Time) { d.phase, d.since, d.quiet = p, now, now }

// advance takes a drain its next step when its time has come. The announcer's
// lock is held.
func (a *announcer) advance(now time.Time) {
	d := &a.drain
	switch {
	case d.wanted && d.phase == announce.InService:
		d.enter(announce.Leaving, now)
		a.log.Info("the node leaves: routers are asked for other ways", "for", a.cfg.DrainDelay)
	case !d.wanted && d.phase != announce.InService:
		d.enter(announce.InService, now)
		a.log.Info("the node is in service again")
		return
	}
	if d.phase == announce.Leaving && (now.Sub(d.since) >= a.cfg.DrainDelay || !a.heardByRouters()) {
		d.enter(announce.Withdrawn, now)
		d.packets = a.node.packets()
		a.log.Info("the node's VIPs are withdrawn; what comes still is served", "at_most", a.cfg.DrainWait)
	}
	if d.phase != announce.Withdrawn {
		return
	}
	if packets := a.node.packets(); packets != d.packets {
		d.packets, d.quiet = packets, now
	}
	if now.Sub(d.quiet) >= quietFor || now.Sub(d.since) >= a.cfg.DrainWait {
		a.log.Info("the node is drained", "quiet_for", now.Sub(d.quiet).Round(time.Millisecond))
		d.enter(announce.Drained, now)
	}
}

// heardByRouters reports whether there is a router that could look for other
// ways.
func (a *announcer) heardByRouters() bool { return a.speaker != nil && a.speaker.Established() > 0 }

// packets is how many packets for VIPs and SNAT addresses have come.
func (n *Node) packets() uint64 {
	s := n.steering()
	return s["redirected"] + s["memo"]
}

// DrainStatus is how far a node is out of service.
type DrainStatus struct {
	Phase announce.Phase
	Since time.Time // of the phase; the zero time from the start
}

// Drain takes the node out of service: routers are asked for other ways, the
// VIPs are withdrawn, what comes still is served. It returns at once. The node
// stays drained over restarts until Undrain. by is the user who wants it.
func (n *Node) Drain(by string) error {
	if n.cluster != nil {
		if err := n.DrainNode(n.cluster.Members.Self().Name, by); err != nil {
			return fmt.Errorf("the node is not drained: %w", err)
		}
	}
	err := n.announce.want(true, true)
	if err != nil {
		return errMarker(err)
	}
	return nil
}

// Undrain puts the node back in service.
func (n *Node) Undrain(by string) error {
	a := n.announce
	a.mu.Lock()
	wanted := a.drain.wanted
	a.mu.Unlock()
	if n.cluster != nil {
		err := n.UndrainNode(n.cluster.Members.Self().Name, by)
		if err != nil && !errors.Is(err, owner.ErrNotDrained) {
			return fmt.Errorf("the node stays drained: %w", err)
		}
		wanted = wanted || err == nil
	}
	if !wanted {
		return errNotDrained
	}
	return a.want(false, true)
}

// DrainStatus is how far the node is out of service.
func (n *Node) DrainStatus() DrainStatus {
	n.announce.mu.Lock()
	defer n.announce.mu.Unlock()
	return DrainStatus{Phase: n.announce.drain.phase, Since: n.announce.drain.since}
}

func (a *announcer) want(drained, remember bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drain.wanted = drained
	a.poke()
	switch {
	case !remember:
		return nil
	case drained:
		return a.drain.mark()
	}
	return a.drain.unmark()
}

// Linger is a context that ends some time after stop: when the node has drained,
// if there are routers that send it traffic, or when a second signal comes.
func (n *Node) Linger(stop context.Context) (ctx context.Context, cancel func()) {
	ctx, end := context.WithCancel(context.WithoutCancel(stop))
	forget := context.AfterFunc(stop, func() {
		defer end()
		n.drainToStop(ctx)
	})
	return ctx, func() { forget(); end() }
}

// drainToStop returns when the node is drained.
func (n *Node) drainToStop(ctx context.Context) {
	a := n.announce
	others := n.handOver(ctx)
	a.mu.Lock()
	routers := a.heardByRouters()
	needed := a.drain.phase != announce.Drained && (others || routers)
	a.mu.Unlock()
	if !needed {
		return
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(again)
	if err := a.want(true, false); err != nil {
		a.log.Error("draining", "error", err)
	}
	ticker := time.NewTicker(announceEvery)
	defer ticker.Stop()
	var late <-chan time.Time
	if others && !routers {
		timer := time.NewTimer(afterHandOver)
		defer timer.Stop()
		late = timer.C
	}
	for n.DrainStatus().Phase != announce.Drained {
		select {
		case <-late:
			a.log.Warn("packets come still, though other nodes have announced this node's VIPs: the node stops", "waited", afterHandOver)
			return
		case <-ticker.C:
		case <-again:
			a.log.Warn("a second signal: the node stops without having drained")
			return
		case <-ctx.Done():
			return
		}
	}
}

// outlived reports whether the data process has gone on forwarding without a
// control process, so that routers were right to keep the routes.
func (n *Node) outlived() bool { return n.adopted }
