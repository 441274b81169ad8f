package dataprocess

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"fairlead/dataplane/ipc"
	"fairlead/dataplane/memo"
)

// privateRoutes is how many routes the flow memos of a process have that shares
// them with no XDP program.
const privateRoutes = 16384

// descriptorsOf is how many descriptors a setup comes with.
func descriptorsOf(s *ipc.Setup) int {
	if s.Memo != nil {
		return 7
	}
	return 4
}

// makeMemos makes the table of flow memos: in the XDP program's memory, which
// the descriptors lead to, or, when there is none, in the process's own.
func (p *process) makeMemos(fds []int) error {
	var err error
	if p.setup.Memo == nil {
		var seed [16]byte
		if _, err = rand.Read(seed[:]); err != nil {
			return err
		}
		var fill func(stop <-chan struct{})
		p.memos, fill, err = memo.NewLater(p.setup.Memos, privateRoutes,
			memo.Seed{binary.NativeEndian.Uint64(seed[:]), binary.NativeEndian.Uint64(seed[8:])})
		if err == nil {
			p.running.Add(1)
			go func() {
				defer p.running.Done()
				fill(p.stopping)
			}()
		}
	} else {
		p.memos, err = mapMemos(p.setup.Memo, fds)
	}
	if err != nil {
		return err
	}
	p.snapshots.Memos = p.memos
	p.memos.KeepAccount(p.counters.Kernel)
	return nil
}

func mapMemos(s *ipc.Memo, fds []int) (*memo.Table, error) {
	cfg := memo.Config{Seed: s.Seed}
	for i, part := range []struct {
		to   *[]byte
		size int
	}{{&cfg.Entries, s.Entries}, {&cfg.Routes, s.Routes}, {&cfg.Counts, s.Counts}} {
		var err error
		if *part.to, err = mapShared(fds[i], part.size); err != nil {
			return nil, fmt.Errorf("map flow memos: %w", err)
		}
	}
	return memo.New(cfg)
}

// accountEvery is how often the ledger takes in what the XDP program has
// forwarded by itself.
const accountEvery = 20 * time.Millisecond

// keepAccount takes in what the XDP program forwards, until the process stops.
func (p *process) keepAccount() {
	if !p.memos.InKernel() {
		return
	}
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		ticker := time.NewTicker(accountEvery)
		defer ticker.Stop()
		for {
			p.memos.Account()
			select {
			case <-p.stopping:
				p.memos.Account()
				return
			case <-ticker.C:
			}
		}
	}()
}
