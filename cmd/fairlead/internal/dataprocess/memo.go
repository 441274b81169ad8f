package dataprocess

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"fairlead/dataplane/memo"
)

// privateRoutes is how many routes the flow memos of a process have that shares
// them with no XDP program.
const privateRoutes = 16384

// makeMemos makes the table of flow memos: in the XDP program's memory, or, when
// there is none, in the process's own. What a process before has left in it is
// void, so it is made only when that one is no more.
func (p *process) makeMemos() error {
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
		p.memos, err = memo.New(p.memoMemory)
	}
	if err != nil {
		return err
	}
	p.memos.KeepAccount(p.counters.Kernel)
	return nil
}

// mapMemos maps the XDP program's memory for flow memos.
func (p *process) mapMemos(fds []int) error {
	s := p.setup.Memo
	if s == nil {
		return nil
	}
	p.memoMemory.Seed = s.Seed
	for i, part := range []struct {
		to   *[]byte
		size int
	}{{&p.memoMemory.Entries, s.Entries}, {&p.memoMemory.Routes, s.Routes}, {&p.memoMemory.Counts, s.Counts}} {
		var err error
		if *part.to, err = mapShared(fds[i], part.size); err != nil {
			return fmt.Errorf("map flow memos: %w", err)
		}
	}
	return nil
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
