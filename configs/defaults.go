package configs

import (
	"log/slog"
	"time"

	"fairlead/controlplane/model"
)

// Bounds of single values. Those of the desired state are in package model.
const (
	maxInterfaces = 16 // as many as one data process drives
	maxQueues     = 256
	maxCPU        = 4095

	minRing, maxRing     = 64, 32768
	minFrames, maxFrames = 256, 1 << 20
	minFlows, maxFlows   = 1024, 100_000_000
	minHeadroom          = 64
	maxHeadroom          = 2048
	maxBusyPoll          = 10 * time.Millisecond
	maxBusyPollBudget    = 1024
	maxSpin              = time.Second
	minMTU, maxMTU       = 576, 65535

	// kernelHeadroom is what AF_XDP keeps free in each frame besides the
	// headroom it is asked for (XDP_PACKET_HEADROOM).
	kernelHeadroom = 256
	// leastFrame is the frame that must fit: a 1,500-byte packet with an
	// Ethernet header and two VLAN tags.
	leastFrame = 1500 + 14 + 2*4
)

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Node: Node{LogLevel: slog.LevelInfo, LogFormat: LogText, LogRate: 10, LogBurst: 100},
		Dataplane: Dataplane{
			RingSize:       2048,
			Frames:         8192,
			FrameSize:      2048,
			Headroom:       256,
			FlowTableSize:  1_000_000,
			FlowMemo:       FlowMemoAuto,
			BusyPollBudget: 64,
			Spin:           50 * time.Microsecond,
			User:           "nobody",
		},
		XDP:        XDP{PinPath: "/sys/fs/bpf/fairlead"},
		Store:      Store{Directory: DefaultStateDirectory, RemovalGuard: DefaultRemovalGuard},
		API:        API{Socket: DefaultSocket},
		ARP:        defaultARP(),
		Metrics:    defaultMetrics(),
		Lifecycle:  defaultLifecycle(),
		Cluster:    defaultCluster(),
		Kubernetes: defaultKubernetes(),
		BGP:        model.DefaultBGP(),

		State: model.State{
			HashSeed: parseSeed(seedText),
			Tunnel:   model.Tunnel{GUEPort: model.DefaultGUEPort, TTL: model.DefaultTunnelTTL},
			Limits:   model.DefaultLimits(),
		},
	}
}
