package metrics

// fixedTold tells other nodes of flows, and nothing changes.
type fixedTold struct{}

func (fixedTold) ToldFlows() *ToldFlows {
	return &ToldFlows{
		Told: map[string]uint64{"established": 9, "ended": 8}, Received: map[string]uint64{"established": 7}, Taken: 6, Refused: 1, Unresolved: 2, Dropped: 3,
		Waiting: 4, MessagesSent: 5, MessagesReceived: 6, BytesSent: 70, BytesReceived: 80, Bad: 1, Resyncs: 2, Overflows: 3, Scans: 4, Bases: 5, Moving: 2, Behind: 1,
	}
}

// noTold is a node that is alone.
type noTold struct{}

func (noTold) ToldFlows() *ToldFlows { return nil }
