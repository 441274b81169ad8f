package member

import (
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// settings are memberlist's. All times follow from the probe interval P, so that
// one number fits a cluster to its network. A dead node is known everywhere after
//
//	the first probe of it     <= P, mostly: some node probes it in each P
//	+ the probe's own time       P: direct, then by three others and over TCP
//	+ suspicion                  3 P * log10(nodes), when a second node's probe
//	                             fails as well; 12 P when none does
//	+ the word going round       P/2 for each of some log4(nodes) hops
//
// that is some 6 P with 10 nodes and some 10 P with 100. A node that is alone in
// finding others dead, as one that is short of CPU time, waits four times as
// long, and probes up to four times more slowly (memberlist's awareness).
func (m *Members) settings() (*memberlist.Config, error) {
	p := m.cfg.ProbeInterval
	c := memberlist.DefaultLANConfig()
	c.Name = m.identity.Name()
	c.Transport = m.guard
	c.AdvertiseAddr = m.guard.address.Addr().String()
	c.AdvertisePort = int(m.guard.address.Port())
	c.BindPort = c.AdvertisePort

	c.ProbeInterval = p
	// Indirect probes take the same time once more before they are given up, and
	// their end has to arrive within the interval: otherwise a node takes itself
	// for a slow one whenever another has died.
	c.ProbeTimeout = p * 3 / 10
	c.IndirectChecks = 3
	c.SuspicionMult = 3
	c.SuspicionMaxTimeoutMult = 4
	c.AwarenessMaxMultiplier = 4
	c.GossipInterval = min(p/2, 200*time.Millisecond)
	c.GossipNodes = 3
	c.RetransmitMult = 4
	c.PushPullInterval = 15 * time.Second
	c.GossipToTheDeadTime = p * gossipToTheDead
	c.DeadNodeReclaimTime = time.Nanosecond // the key says whose a name is, not the address
	c.TCPTimeout = streamTimeout
	c.HandoffQueueDepth = 4096
	c.EnableCompression = false // what is sent is small, and mostly keys and signatures
	c.UDPBufferSize = 1400
	c.RequireNodeNames = true

	c.Keyring = m.keys.live
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true

	c.Delegate, c.Events, c.Alive, c.Conflict, c.Ping = m, events{m}, m, m, m
	c.Logger = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	c.Logger.SetFlags(0)
	c.Logger.SetOutput(&logWriter{m.log, m})
	c.LogOutput = nil
	c.CIDRsAllowed = []net.IPNet(nil)
	return c, nil
}

const (
	// gossipToTheDead is for how many probe intervals a dead node is told what is
	// gossiped: one that is not dead refutes it. After that memberlist has forgotten
	// it.
	gossipToTheDead = 100
	// streamTimeout bounds one exchange of membership over TCP.
	streamTimeout = 3 * time.Second
)
