// Package bgp announces VIPs to routers by BGP (RFC 4271), with GoBGP inside.
//
// The speaker says what it is told to say and learns nothing: whatever a peer
// sends is thrown away, within a bound. No peer is spoken to before the first
// routes are set, so that a restarted node never ends its own routes by an
// End-of-RIB marker that comes before them (RFC 4724).
package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/announce/bfd"
	"fairlead/controlplane/model"
)

// Options are what does not come from the configuration.
type Options struct {
	Log *slog.Logger
	// Restarted says that routes of an earlier process of this node are still
	// forwarded by, so that peers may keep them until they hear the new ones
	// (the R and F bits of RFC 4724).
	Restarted bool
}

// Speaker speaks BGP with all peers of a configuration. Its methods may be
// called from any goroutine.
type Speaker struct {
	log      *slog.Logger
	server   *server.BgpServer
	sniffer  context.CancelFunc // ends the watch of session changes
	searches sync.WaitGroup     // for unnumbered peers
	muted    atomic.Bool        // GoBGP's log

	mu        sync.Mutex
	bfd       *bfd.Server // nil while no peer has BFD
	cfg       model.BGP
	restarted bool
	started   bool // peers have been added
	closed    bool
	peers     map[string]*peer
	routes    map[netip.Addr]*route
}

// New makes a speaker. It opens its listener, when there is a passive peer, and
// speaks to nobody before the first Set.
func New(cfg model.BGP, o Options) (*Speaker, error) {
	passwords, err := readPasswords(cfg.Peers)
	if err != nil {
		return nil, err
	}
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug) // the logger itself knows what to leave out
	s := &Speaker{
		log: o.Log, cfg: cfg, restarted: o.Restarted,
		peers: make(map[string]*peer), routes: make(map[netip.Addr]*route),
	}
	s.server = server.NewBgpServer(server.LoggerOption(slog.New(&handler{next: o.Log.Handler(), shared: &shared{failed: s.connectFailed, muted: &s.muted}}), level))
	if err := s.needBFD(cfg.Peers); err != nil {
		return nil, err
	}
	go s.server.Serve()
	if err := s.start(); err != nil {
		s.server.Stop()
		return nil, errors.Join(err, s.endBFD(false))
	}
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		s.peers[p.Name()] = newPeer(s, *p, passwords[i])
	}
	return s, nil
}

// needBFD sees to it that BFD is heard when a peer has it.
func (s *Speaker) needBFD(peers []model.BGPPeer) (err error) {
	if s.bfd == nil && slices.ContainsFunc(peers, func(p model.BGPPeer) bool { return p.BFD.Enabled }) {
		s.bfd, err = bfd.Listen(s.log)
	}
	return err
}

func (s *Speaker) endBFD(graceful bool) error {
	switch {
	case s.bfd == nil:
		return nil
	case graceful && s.cfg.GracefulRestart:
		return s.bfd.Leave(s.cfg.RestartTime)
	}
	return s.bfd.Close()
}

// ownOnly is the policy by which only our own routes enter the table.
var ownOnly = &api.Policy{Name: "own-only", Statements: []*api.Statement{{
	Name:       "own",
	Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
	Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
}}}

// start opens the listener and refuses everything that peers may send.
func (s *Speaker) start() error {
	ctx := context.Background()
	global := &api.Global{Asn: s.cfg.ASN, RouterId: s.cfg.RouterID.String(), ListenPort: -1}
	if slices.ContainsFunc(s.cfg.Peers, func(p model.BGPPeer) bool { return p.Passive }) {
		global.ListenPort = int32(s.cfg.ListenPort)
		for _, a := range s.cfg.Listen {
			global.ListenAddresses = append(global.ListenAddresses, a.String())
		}
	}
	if err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		return fmt.Errorf("BGP: %w", err)
	}
	if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: ownOnly}); err != nil {
		return fmt.Errorf("BGP: refusing all routes of peers: %w", err)
	}
	err := s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT,
		Policies: []*api.Policy{{Name: ownOnly.Name}}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
	}})
	if err != nil {
		return fmt.Errorf("BGP: refusing all routes of peers: %w", err)
	}
	watch, cancel := context.WithCancel(ctx)
	s.sniffer = cancel
	err = s.server.WatchEvent(watch, server.WatchEventMessageCallbacks{
		OnPeerUpdate: s.peerChanged,
	}, server.WatchPeer())
	if err != nil {
		cancel()
		return fmt.Errorf("BGP: watching sessions: %w", err)
	}
	return nil
}

// Set makes the announced VIPs those of a decision, of which those that are
// withheld are not announced. What has not changed is not sent again.
func (s *Speaker) Set(vips []announce.VIP) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	want := make(map[netip.Addr]*announce.VIP, len(vips))
	for i := range vips {
		if vips[i].Withheld == "" {
			want[vips[i].Address] = &vips[i]
		}
	}
	var errs []error
	var add, remove []*apiutil.Path
	for addr, r := range s.routes {
		if want[addr] == nil {
			remove = append(remove, r.path)
			delete(s.routes, addr)
		}
	}
	for addr, v := range want {
		if r := s.routes[addr]; r != nil && r.vip.Equal(v) {
			continue
		}
		path, err := newPath(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("BGP route to %s: %w", addr, err))
			continue
		}
		add = append(add, path)
		s.routes[addr] = &route{vip: *v, path: path}
	}
	if len(remove) > 0 {
		if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: remove}); err != nil {
			errs = append(errs, fmt.Errorf("BGP: withdrawing %d routes: %w", len(remove), err))
		}
	}
	if len(add) > 0 {
		if _, err := s.server.AddPath(apiutil.AddPathRequest{Paths: add}); err != nil {
			errs = append(errs, fmt.Errorf("BGP: announcing %d routes: %w", len(add), err))
		}
	}
	if !s.started {
		s.started = true
		for _, p := range s.peers {
			p.start()
		}
	}
	return errors.Join(errs...)
}

var errClosed = errors.New("the BGP speaker is closed")

// Configure makes another configuration's peers the peers. Sessions with peers
// that stay as they are go on. It reports false, and does nothing, when
// something else has changed that needs a new speaker.
func (s *Speaker) Configure(cfg model.BGP) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errClosed
	}
	if !sameSpeaker(&s.cfg, &cfg) {
		return false, nil
	}
	passwords, err := readPasswords(cfg.Peers)
	if err != nil {
		return true, err
	}
	if err := s.needBFD(cfg.Peers); err != nil {
		return true, err
	}
	keep := make(map[string]bool, len(cfg.Peers))
	var fresh []*peer
	for i := range cfg.Peers {
		next := &cfg.Peers[i]
		name := next.Name()
		if old := s.peers[name]; old != nil && old.cfg.Equal(next) && old.password == passwords[i] {
			keep[name] = true
			continue
		}
		fresh = append(fresh, newPeer(s, *next, passwords[i]))
	}
	for name, p := range s.peers {
		if !keep[name] {
			p.stop()
			delete(s.peers, name)
		}
	}
	for _, p := range fresh {
		s.peers[p.cfg.Name()] = p
		if s.started {
			p.start()
		}
	}
	s.cfg = cfg
	return true, nil
}

// sameSpeaker reports whether one speaker can go from a configuration to
// another. How VIPs are announced and how a node is drained is not its affair.
func sameSpeaker(a, b *model.BGP) bool {
	x, y := *a, *b
	for _, c := range []*model.BGP{&x, &y} {
		c.Communities, c.LocalPreference, c.MED = "", 0, 0
		c.WithdrawAfter, c.DrainDelay, c.DrainWait = 0, 0, 0
	}
	passive := func(b *model.BGP) bool {
		return slices.ContainsFunc(b.Peers, func(p model.BGPPeer) bool { return p.Passive })
	}
	return x.EqualButPeers(&y) && passive(a) == passive(b)
}

// Close ends all sessions in order: routers forget the routes at once.
func (s *Speaker) Close() error { return s.end(false) }

// Leave ends the speaker without a word to peers that support graceful restart,
// which keep its routes for the restart time: for a successor that is about to
// start, or that runs already.
func (s *Speaker) Leave() error { return s.end(true) }

func (s *Speaker) end(graceful bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, p := range s.peers {
		p.stopTimers()
	}
	s.mu.Unlock()
	s.searches.Wait()
	s.sniffer()
	// First: routers are not to take what follows for the death of the node.
	failed := s.endBFD(graceful)
	err := s.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: graceful})
	s.muted.Store(true) // of what follows it says only that BGP has ended already
	s.server.Stop()     // what is left of it
	if err != nil {
		err = fmt.Errorf("BGP: ending: %w", err)
	}
	return errors.Join(err, failed)
}

// route is one announced VIP.
type route struct {
	vip  announce.VIP
	path *apiutil.Path
}

// newPath makes the route to a VIP, whose next hop is the node itself.
func newPath(v *announce.VIP) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(netip.PrefixFrom(v.Address, v.Address.BitLen()))
	if err != nil {
		return nil, err
	}
	attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
	family := bgp.RF_IPv4_UC
	if v.Address.Is4() {
		// Unspecified: GoBGP fills in its own address of each session.
		hop, err := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified())
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, hop)
	} else {
		family = bgp.RF_IPv6_UC
		reach, err := bgp.NewPathAttributeMpReachNLRI(family, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, reach)
	}
	if v.MED != 0 {
		attrs = append(attrs, bgp.NewPathAttributeMultiExitDisc(v.MED))
	}
	if v.HasPreference {
		attrs = append(attrs, bgp.NewPathAttributeLocalPref(v.LocalPreference))
	}
	var standard []uint32
	var large []*bgp.LargeCommunity
	for _, c := range v.Communities.List() {
		if c.Large {
			large = append(large, bgp.NewLargeCommunity(c.A, c.B, c.C))
		} else {
			standard = append(standard, c.A<<16|c.B)
		}
	}
	if standard != nil {
		attrs = append(attrs, bgp.NewPathAttributeCommunities(standard))
	}
	if large != nil {
		attrs = append(attrs, bgp.NewPathAttributeLargeCommunities(large))
	}
	return &apiutil.Path{Family: family, Nlri: nlri, Attrs: attrs}, nil
}
