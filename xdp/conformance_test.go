package xdp_test

import (
	"fmt"
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
	"fairlead/xdp"
	"fairlead/xdp/xdptest"
)

const ringSize = 512

// TestConformance runs the body that nictest passes on real sockets over veth.
func TestConformance(t *testing.T) {
	ring := xdp.SocketConfig{RXSize: ringSize, TXSize: ringSize, FillSize: ringSize, CompletionSize: ringSize}
	for _, c := range []struct {
		name       string
		needWakeup bool
		umem       xdp.UMEMConfig
	}{
		{"NeedWakeup", true, xdp.UMEMConfig{Chunks: 4096}},
		{"NoNeedWakeup", false, xdp.UMEMConfig{Chunks: 4096}},
		{"WideHeadroom", true, xdp.UMEMConfig{Chunks: 4096, ChunkSize: 4096, Headroom: 512}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nictest.Conformance(t, func(t *testing.T) *nictest.Harness {
				cfg := ring
				cfg.NeedWakeup = c.needWakeup
				return newHarness(t, c.umem, cfg)
			})
		})
	}
}

func newHarness(t *testing.T, umem xdp.UMEMConfig, cfg xdp.SocketConfig) *nictest.Harness {
	lab := xdptest.New(t, 2, 1)
	r := newRig(t, lab, 2, 0, umem, cfg)
	return &nictest.Harness{
		Pool:     r.pool,
		Queues:   [2]nic.Queue{r.queues[0], r.queues[1]},
		Waiter:   r.waiter,
		RingSize: ringSize,
		Inject:   func(port int, frame []byte) error { return lab.Send(port, frame) },
		Sent:     lab.Sent,
		SetDown:  func(t *testing.T, port int, down bool) { lab.SetUp(t, port, !down) },
		Err: func() error {
			for _, q := range r.queues {
				if n := q.Counters().Stray; n != 0 {
					return fmt.Errorf("port %d: %d stray ring entries", q.Port(), n)
				}
			}
			return nil
		},
	}
}
