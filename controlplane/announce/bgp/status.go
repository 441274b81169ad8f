package bgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"fairlead/controlplane/announce/bfd"
	"fairlead/controlplane/model"
)

// State is a session's state as RFC 4271 names them, and the two of ours.
type State string

// The states.
const (
	Idle        State = "idle"
	Connect     State = "connect"
	Active      State = "active"
	OpenSent    State = "open_sent"
	OpenConfirm State = "open_confirm"
	Established State = "established"
	Searching   State = "searching"    // an unnumbered peer that has not been found yet
	OverLimit   State = "prefix_limit" // ended, because the peer sent too many prefixes; tried again later
	Refused     State = "refused"      // ended for good: the peer is not what the configuration says
)

var states = map[bgp.FSMState]State{
	bgp.BGP_FSM_IDLE: Idle, bgp.BGP_FSM_CONNECT: Connect, bgp.BGP_FSM_ACTIVE: Active,
	bgp.BGP_FSM_OPENSENT: OpenSent, bgp.BGP_FSM_OPENCONFIRM: OpenConfirm, bgp.BGP_FSM_ESTABLISHED: Established,
}

// Peer is how a session with a peer is.
type Peer struct {
	Name      string     // address or interface, as configured
	Address   netip.Addr // the zero Addr while an unnumbered peer is not found
	ASN       uint32     // 0 while nobody knows
	RouterID  netip.Addr
	State     State
	Since     time.Time // of the state: established or not
	Ups       int       // sessions that were established
	LastError string    // why the last session or attempt ended; "" when none did
	ErrorAt   time.Time

	HoldTime        time.Duration // negotiated
	GracefulRestart bool          // negotiated
	Advertised      map[model.BGPFamily]int
	Received        int // prefixes that the peer has sent; all are thrown away
	UpdatesSent     uint64
	UpdatesReceived uint64

	BFD BFD
}

// BFD is how a BFD session is; State is empty when there is none.
type BFD struct {
	State    string // down, init, up
	Since    time.Time
	Sent     uint64
	Received uint64
	Detect   time.Duration // without a packet for so long, the router is dead
}

// history is what GoBGP does not remember of a peer.
type history struct {
	state   State
	since   time.Time
	ups     int
	err     string
	errorAt time.Time
}

func (h *history) fail(reason string) { h.err, h.errorAt = reason, time.Now() }

// move notes a state. Only whether a session stands makes an age: the ways to
// it come and go.
func (h *history) move(to State) {
	if (to == Established) != (h.state == Established) {
		h.since = time.Now()
	}
	h.state = to
}

// peerChanged is told of every change of a session's state, in order, on a
// goroutine of GoBGP's.
func (s *Speaker) peerChanged(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	if e.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at(e.Peer.State.NeighborAddress)
	if p == nil || s.closed {
		return
	}
	was, now := p.history.state, states[e.Peer.State.SessionState]
	if now == Idle && (was == OverLimit || was == Refused) {
		return
	}
	reason := e.Peer.State.DisconnectMessage
	p.history.move(now)
	switch {
	case now == Established:
		p.watch(false)
	case was == Established:
		p.unwatch()
	}
	switch {
	case now == Established:
		p.history.ups++
		asn := e.Peer.State.PeerASN
		if p.cfg.External && p.cfg.ASN == 0 && asn == s.cfg.ASN {
			p.refuse(fmt.Sprintf("the peer has our own AS number %d, and asn is \"external\"", asn))
			return
		}
		s.log.Info("BGP session established", "peer", p.cfg.Name(), "address", p.address, "asn", asn)
	case now == Idle && e.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT:
		p.overLimit()
	case was == Established:
		p.history.fail(reason)
		s.log.Warn("BGP session ended", "peer", p.cfg.Name(), "address", p.address, "reason", reason)
	case now == Idle && (was == OpenSent || was == OpenConfirm):
		p.history.fail(reason)
	}
}

// refuse ends a session for good.
func (p *peer) refuse(why string) {
	p.history.fail(why)
	p.history.move(Refused)
	p.speaker.log.Error("BGP peer refused", "peer", p.cfg.Name(), "reason", why)
	err := p.speaker.server.DisablePeer(context.Background(), &api.DisablePeerRequest{Address: p.address.String(), Communication: why})
	if err != nil {
		p.speaker.log.Error("BGP peer cannot be disabled", "peer", p.cfg.Name(), "error", err)
	}
}

// overLimit leaves a peer alone for a while.
func (p *peer) overLimit() {
	s := p.speaker
	why := fmt.Sprintf("the peer sent more than %d prefixes; it is tried again after %s", s.cfg.MaxPrefixes, retryAfterLimit)
	p.history.fail(why)
	p.history.move(OverLimit)
	s.log.Error("BGP session ended", "peer", p.cfg.Name(), "reason", why)
	p.retry = time.AfterFunc(retryAfterLimit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed || s.peers[p.cfg.Name()] != p {
			return
		}
		p.history.move(Idle)
		if err := s.server.EnablePeer(context.Background(), &api.EnablePeerRequest{Address: p.address.String()}); err != nil {
			s.log.Error("BGP peer cannot be enabled", "peer", p.cfg.Name(), "error", err)
		}
	})
}

// connectFailed is told by GoBGP's log why a connection was not made. It must
// not take the speaker's lock: GoBGP may log while it answers a call of ours.
func (s *Speaker) connectFailed(address, reason string) {
	go func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if a, err := netip.ParseAddr(address); err == nil && !s.closed {
			if p := s.at(a); p != nil && p.history.state != Established {
				p.history.fail(reason)
			}
		}
	}()
}

// at is the peer with an address; nil when there is none.
func (s *Speaker) at(a netip.Addr) *peer {
	for _, p := range s.peers {
		if p.address == a {
			return p
		}
	}
	return nil
}

// Peers are the sessions, in the order of their names.
func (s *Speaker) Peers() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Peer, 0, len(s.peers))
	for _, p := range s.peers {
		h := &p.history
		v := Peer{Name: p.cfg.Name(), Address: p.address, ASN: p.cfg.ASN, State: p.state(), Since: h.since, Ups: h.ups, LastError: h.err, ErrorAt: h.errorAt}
		if !s.closed && p.address.IsValid() {
			p.look(&v)
		}
		if p.cfg.BFD.Enabled {
			v.BFD.State = bfd.Down.String()
		}
		if p.bfd != nil {
			b := p.bfd.Status()
			v.BFD = BFD{State: b.State.String(), Since: b.Since, Sent: b.Sent, Received: b.Received, Detect: b.Detect}
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// look asks GoBGP for what it knows of a session.
func (p *peer) look(v *Peer) {
	request := &api.ListPeerRequest{Address: p.address.String(), EnableAdvertised: true}
	err := p.speaker.server.ListPeer(context.Background(), request, func(g *api.Peer) {
		if g.State.GetPeerAsn() != 0 {
			v.ASN = g.State.PeerAsn
		}
		if id, err := netip.ParseAddr(g.State.GetRouterId()); err == nil {
			v.RouterID = id
		}
		v.UpdatesSent = g.State.GetMessages().GetSent().GetUpdate()
		v.UpdatesReceived = g.State.GetMessages().GetReceived().GetUpdate()
		if v.State == Established {
			v.HoldTime = time.Duration(g.Timers.GetState().GetNegotiatedHoldTime()) * time.Second
			v.Advertised = make(map[model.BGPFamily]int)
			for _, a := range g.AfiSafis {
				f := model.IPv4Unicast
				if a.Config.Family.Afi == api.Family_AFI_IP6 {
					f = model.IPv6Unicast
				}
				v.Advertised[f] = int(a.State.GetAdvertised())
				v.Received += int(a.State.GetReceived())
			}
			// A router that never restarts gracefully itself names no family.
			v.GracefulRestart = p.speaker.cfg.GracefulRestart && slices.ContainsFunc(g.State.GetRemoteCap(), func(c *api.Capability) bool {
				return c.GetGracefulRestart() != nil
			})
		}
	})
	if err != nil {
		p.speaker.log.Debug("BGP peer's state", "peer", p.cfg.Name(), "error", err)
	}
}

// Established is how many sessions stand.
func (s *Speaker) Established() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.peers {
		if p.history.state == Established {
			n++
		}
	}
	return n
}

// Sessions are the states of all sessions, by the names of their peers.
func (s *Speaker) Sessions() map[string]State {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]State, len(s.peers))
	for name, p := range s.peers {
		all[name] = p.state()
	}
	return all
}

// state is the session's state.
func (p *peer) state() State {
	if p.cfg.Unnumbered() && !p.address.IsValid() {
		return Searching
	}
	return p.history.state
}
