package member

import (
	"sync/atomic"
	"time"
)

// counters are what this package counts since the start.
type counters struct {
	joined, died, left, suspected, refuted   atomic.Uint64
	conflicts, refused, rotations            atomic.Uint64
	sent, received, repeated, dropped        atomic.Uint64
	unreadable, unknown, undecipherable      atomic.Uint64
	packetsIn, packetsOut, bytesIn, bytesOut atomic.Uint64
	streamsRefused                           atomic.Uint64
	roundTrip                                atomic.Int64 // nanoseconds, smoothed
}

// rtt takes a round trip of a probe.
func (c *counters) rtt(d time.Duration) {
	old := c.roundTrip.Load()
	if old == 0 {
		c.roundTrip.Store(int64(d))
		return
	}
	c.roundTrip.Store(old + (int64(d)-old)/8)
}

// Stats are counters since the start of the process.
type Stats struct {
	Joined, Died, Left uint64 // members that others of the cluster have seen come and go
	Suspected          uint64 // probes of this node that no way had an answer to
	Refuted            uint64 // times that others took this node for dead, and it said that it is not
	Conflicts          uint64 // descriptions of a second node of one name
	Refused            uint64 // descriptions of members that were not taken, for any reason
	Rotations          uint64 // of the gossip key, begun here

	Sent, Received, Repeated uint64 // messages to all: of this node, of others, and those of others again
	Dropped                  uint64 // that waited to be passed on when there were too many
	Unreadable, Unknown      uint64 // that are no messages; of topics that this node does not know
	Undecipherable           uint64 // packets and streams with an unknown key, or none

	PacketsIn, PacketsOut, BytesIn, BytesOut uint64
	StreamsRefused                           uint64 // because there were too many
	Health                                   int    // 0: well; more: this node does not keep up with its probes
	RoundTrip                                time.Duration
}

// Stats are this node's.
func (m *Members) Stats() Stats {
	c := &m.count
	s := Stats{
		Joined: c.joined.Load(), Died: c.died.Load(), Left: c.left.Load(), Suspected: c.suspected.Load(), Refuted: c.refuted.Load(),
		Conflicts: c.conflicts.Load(), Refused: c.refused.Load(), Rotations: c.rotations.Load(),
		Sent: c.sent.Load(), Received: c.received.Load(), Repeated: c.repeated.Load(), Dropped: c.dropped.Load(),
		Unreadable: c.unreadable.Load(), Unknown: c.unknown.Load(), Undecipherable: c.undecipherable.Load(),
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		StreamsRefused: c.streamsRefused.Load(), RoundTrip: time.Duration(c.roundTrip.Load()),
	}
	if m.list != nil {
		s.Health = m.list.GetHealthScore()
	}
	return s
}
