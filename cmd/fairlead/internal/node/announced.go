package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/announce"
	"fairlead/controlplane/announce/bgp"
	"fairlead/controlplane/api"
)

// AnnouncedVIPs implements api.Announcer.
func (n *Node) AnnouncedVIPs(context.Context) (api.Announcements, error) {
	out := api.Announcements{Phase: string(n.DrainStatus().Phase)}
	for _, v := range n.Announcements() {
		route := api.VIPRoute{Address: v.Address.String(), Owned: n.answers(&v), Owner: n.VIPOwner(v.Address), Announced: v.Withheld == "", Reason: string(v.Withheld), Services: v.Starved, MED: v.MED}
		for _, c := range v.Communities.List() {
			route.Communities = append(route.Communities, c.String())
		}
		if v.HasPreference {
			route.LocalPreference = &v.LocalPreference
		}
		out.VIPs = append(out.VIPs, route)
	}
	return out, nil
}

// BGP implements api.Announcer.
func (n *Node) BGP(context.Context) (api.BGP, error) {
	cfg := n.BGPConfig()
	peers, ok := n.BGPPeers()
	if !ok {
		return api.BGP{}, nil
	}
	out := api.BGP{Enabled: true, ASN: cfg.ASN, RouterID: cfg.RouterID.String()}
	for _, p := range peers {
		v := api.BGPPeer{
			Name: p.Name, ASN: p.ASN, State: string(p.State), Since: p.Since, Established: p.Ups, LastError: p.LastError,
			HoldTimeS: int(p.HoldTime / time.Second), GracefulRestart: p.GracefulRestart, Advertised: make(map[string]int),
			Received: p.Received, UpdatesSent: p.UpdatesSent, UpdatesReceived: p.UpdatesReceived,
		}
		if p.Address.IsValid() {
			v.Address = p.Address.String()
		}
		if p.RouterID.IsValid() {
			v.RouterID = p.RouterID.String()
		}
		if !p.ErrorAt.IsZero() {
			v.LastErrorAt = &p.ErrorAt
		}
		for family, count := range p.Advertised {
			v.Advertised[string(family)] = count
		}
		if p.BFD.State != "" {
			v.BFD = &api.BFD{State: p.BFD.State, Sent: p.BFD.Sent, Received: p.BFD.Received}
		}
		out.Peers = append(out.Peers, v)
	}
	return out, nil
}

// DrainState implements api.Announcer.
func (n *Node) DrainState(context.Context) (api.DrainState, error) {
	d := n.DrainStatus()
	out := api.DrainState{Phase: string(d.Phase)}
	if !d.Since.IsZero() {
		out.Since = &d.Since
	}
	return out, nil
}

// StartDrain implements api.Announcer.
func (n *Node) StartDrain(ctx context.Context) (api.DrainState, error) {
	if err := n.Drain(api.CallerOf(ctx).String()); err != nil {
		return api.DrainState{}, err
	}
	return n.moved(ctx, announce.InService)
}

// StopDrain implements api.Announcer.
func (n *Node) StopDrain(ctx context.Context) (api.DrainState, error) {
	before := n.DrainStatus().Phase
	switch err := n.Undrain(api.CallerOf(ctx).String()); {
	case errors.Is(err, errNotDrained):
		return api.DrainState{}, api.Errorf(api.Conflict, "%v", err)
	case err != nil:
		return api.DrainState{}, err
	}
	return n.moved(ctx, before)
}

// moved waits until the announcer has noticed that the phase is to be another.
func (n *Node) moved(ctx context.Context, from announce.Phase) (api.DrainState, error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for n.DrainStatus().Phase == from {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return api.DrainState{}, ctx.Err()
		}
	}
	return n.DrainState(ctx)
}

// conditions are what is not as it is wanted, each with what it is about.
func (a *announcer) conditions() (list [][2]string) {
	a.mu.Lock()
	phase, speaker := a.drain.phase, a.speaker
	a.mu.Unlock()
	if phase != announce.InService {
		list = append(list, [2]string{"node", "it is out of service: " + string(phase)})
	}
	if speaker == nil {
		return list
	}
	for name, state := range speaker.Sessions() {
		if state != bgp.Established {
			list = append(list, [2]string{"BGP peer " + name, "the session is " + string(state)})
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}
