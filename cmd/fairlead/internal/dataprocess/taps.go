package dataprocess

import (
	"fmt"
	"time"

	"fairlead/dataplane"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/tap"
)

// taps are how the control process looks at packets.
type taps struct {
	mem     []byte
	writers []*tap.Writer
	sweeper *tap.Sweeper
}

// mapTaps maps the memory by which packets are looked at.
func (p *process) mapTaps(fd int) error {
	if want := tap.Size(p.setup.Workers); p.setup.Taps != want {
		return fmt.Errorf("taps: %d bytes for %d workers, %d are right", p.setup.Taps, p.setup.Workers, want)
	}
	var err error
	if p.taps.mem, err = mapShared(fd, p.setup.Taps); err != nil {
		return fmt.Errorf("map taps: %w", err)
	}
	return nil
}

// openTaps goes on where the process before has stopped showing packets.
func (p *process) openTaps() (err error) {
	if p.taps.writers, err = tap.NewWriters(p.taps.mem, p.setup.Workers); err != nil {
		return err
	}
	p.taps.sweeper, err = tap.NewSweeper(p.taps.mem, p.setup.Workers)
	return err
}

// sweepEvery is how often it is looked whether flows are to leave the XDP
// program because somebody wants to see their packets.
const sweepEvery = 20 * time.Millisecond

// sweepForTaps drops the memos by which the XDP program would forward packets
// that somebody wants to see, until the process stops. Workers grant no others
// meanwhile. The flow table is gone through once for each change of what is
// wanted.
func (p *process) sweepForTaps() {
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		ticker := time.NewTicker(sweepEvery)
		defer ticker.Stop()
		for {
			select {
			case <-p.stopping:
				return
			case <-ticker.C:
			}
			wanted, due := p.taps.sweeper.Due()
			if !due {
				continue
			}
			if wanted && p.memos.InKernel() {
				p.dropWanted()
			}
			p.taps.sweeper.Done()
		}
	}()
}

func (p *process) dropWanted() {
	p.flows.Range(func(f *flow.Flow) bool {
		if p.taps.sweeper.Wants(f.ServiceID, f.BackendID, f.Client) {
			dataplane.DropMemos(p.memos, f)
		}
		select {
		case <-p.stopping:
			return false
		default:
			return true
		}
	})
}
