package metrics

// fixedQuorum checks backends together with others, and nothing changes.
type fixedQuorum struct{}

func (fixedQuorum) HealthQuorum() *HealthQuorum {
	return &HealthQuorum{Checked: 7, Unfit: true, Sent: 1, Received: 2, Refused: 3, BytesSent: 4, BytesReceived: 5, Resyncs: 6, Nodes: []NodeViews{
		{Node: "lb1", Up: 5, Down: 2, Missed: 1}, {Node: "lb2", Unable: 1, Suspected: true, Down: 7, Missed: 6},
	}}
}

// noQuorum is a node that is alone.
type noQuorum struct{}

func (noQuorum) HealthQuorum() *HealthQuorum { return nil }
