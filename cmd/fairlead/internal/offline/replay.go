package offline

import (
	"fairlead/configs"
	"fairlead/dataplane/fib"
	"fairlead/dataplane/replay"
)

// ReplayConfig is the worker of a configuration, without its network.
func ReplayConfig(cfg *configs.Config, s *fib.Snapshot) replay.Config {
	d := &cfg.Dataplane
	return replay.Config{Snapshot: s, Flows: d.FlowTableSize, ChunkSize: d.FrameSize, Headroom: d.Headroom}
}
