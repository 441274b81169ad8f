package nictest_test

import (
	"errors"
	"testing"

	"fairlead/dataplane/nic"
	"fairlead/dataplane/nic/nictest"
)

const (
	chunks    = 4096
	chunkSize = 2048
	headroom  = 256
	ringSize  = 512
)

func newPool(t testing.TB) *nic.Pool {
	t.Helper()
	pool, err := nic.NewPool(make([]byte, chunks*chunkSize), chunkSize, headroom)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func TestConformance(t *testing.T) {
	nictest.Conformance(t, func(t *testing.T) *nictest.Harness {
		return newHarness(t, nictest.Config{})
	})
}

// The contract holds for a slow device with completions that lag.
func TestConformanceOfASlowDevice(t *testing.T) {
	nictest.Conformance(t, func(t *testing.T) *nictest.Harness {
		return newHarness(t, nictest.Config{KickBudget: 7, Faults: nictest.Faults{CompletionDelay: 3, KickIdle: 0.3}})
	})
}

func newHarness(t *testing.T, cfg nictest.Config) *nictest.Harness {
	pool := newPool(t)
	var queues [2]*nictest.Queue
	for port := range queues {
		cfg.Port = uint16(port)
		cfg.RXSize, cfg.TXSize, cfg.FillSize, cfg.CompletionSize = ringSize, ringSize, ringSize, ringSize
		queues[port] = nictest.New(pool, cfg)
	}
	return &nictest.Harness{
		Pool:     pool,
		Queues:   [2]nic.Queue{queues[0], queues[1]},
		Waiter:   nictest.NewWaiter(queues[:]...),
		RingSize: ringSize,
		Inject: func(port int, frame []byte) error {
			queues[port].Inject(frame)
			return nil
		},
		Sent:    func(port int) [][]byte { return queues[port].Sent() },
		SetDown: func(_ *testing.T, port int, down bool) { queues[port].SetDown(down) },
		Err:     func() error { return errors.Join(queues[0].Err(), queues[1].Err()) },
	}
}
