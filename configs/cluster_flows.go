package configs

import "time"

// ClusterFlows is what nodes tell each other of flows: the table [cluster.flows].
type ClusterFlows struct {
	Enabled bool
	Window  time.Duration // for which a pool is another before its base is replaced
	Hold    time.Duration // after the loss of a node for which none is
}

// Bounds of [cluster.flows].
const (
	minFlowWindow = 5 * time.Second
	maxFlowWindow = 24 * time.Hour
)

func defaultClusterFlows() ClusterFlows {
	return ClusterFlows{Enabled: true, Window: time.Minute, Hold: 5 * time.Minute}
}

func (t *table) clusterFlows(out *ClusterFlows) {
	f := t.sub("flows", "[cluster.flows]")
	out.Enabled = f.flag("enabled", out.Enabled)
	out.Window = f.duration("window", out.Window, minFlowWindow, maxFlowWindow, time.Millisecond)
	out.Hold = f.duration("hold", out.Hold, time.Second, maxFlowWindow, time.Millisecond)
	f.finish()
}
