package api

import (
	"context"
	"time"
)

func (f *fixed) AnnouncedVIPs(context.Context) (Announcements, error) {
	preference := uint32(200)
	return Announcements{Phase: "in_service", VIPs: []VIPRoute{
		{Address: "198.18.0.10", Owned: true, Announced: true, Communities: []string{"65000:100", "no-export"}, LocalPreference: &preference, MED: 5},
		{Address: "198.18.0.11", Reason: "no_backends", Services: []string{"web"}},
	}}, nil
}

func (f *fixed) BGP(context.Context) (BGP, error) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return BGP{Enabled: true, ASN: 65010, RouterID: "198.18.0.1", Peers: []BGPPeer{
		{Name: "198.18.0.254", Address: "198.18.0.254", ASN: 65000, RouterID: "198.18.0.254", State: "established", Since: at, Established: 2,
			LastError: "hold-timer-expired", LastErrorAt: &at, HoldTimeS: 9, GracefulRestart: true, Advertised: map[string]int{"ipv4": 1},
			Received: 3, UpdatesSent: 4, UpdatesReceived: 5, BFD: &BFD{State: "up", Sent: 6, Received: 7}},
		{Name: "eth1", State: "searching", Since: at},
	}}, nil
}

func (f *fixed) DrainState(context.Context) (DrainState, error) {
	return DrainState{Phase: "in_service"}, nil
}

func (f *fixed) StartDrain(context.Context) (DrainState, error) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return DrainState{Phase: "leaving", Since: &at}, nil
}

func (f *fixed) StopDrain(context.Context) (DrainState, error) {
	return DrainState{Phase: "in_service"}, nil
}
