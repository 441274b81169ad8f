package view

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"fairlead/controlplane/api"
)

// tables watches the Maglev tables of this node and compares them with those of
// other members. A packet may come to any node, so all are to choose alike; they
// do when checksums are equal. Changes reach nodes at slightly different moments:
// two tables count as different when each has been what it is for the grace time.
type tables struct {
	cfg *Config
	now func() time.Time

	mu         sync.Mutex
	looked     bool
	generation uint64
	since      time.Time // of the first look
	pools      map[string]pooled
	gone       map[string]time.Time // pools that there are no longer, and when they went
	digest     string
	round      int
	found      map[string]*api.TableMismatch // by the other node
	failed     uint64                        // comparisons without an answer
	done       uint64                        // comparisons
}

// pooled is the table of a pool, and since when it is that one.
type pooled struct {
	checksum uint64
	since    time.Time
}

// somePools is how many pools a mismatch names.
const somePools = 5

func newTables(cfg *Config) *tables {
	return &tables{cfg: cfg, now: time.Now, pools: map[string]pooled{}, gone: map[string]time.Time{}, found: map[string]*api.TableMismatch{}}
}

// run looks and compares until ctx ends.
func (t *tables) run(ctx context.Context) {
	look, compare := time.NewTicker(t.cfg.Timing.Look), time.NewTicker(t.cfg.Timing.Compare)
	defer look.Stop()
	defer compare.Stop()
	t.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			t.look()
		case <-compare.C:
			t.compare(ctx)
		}
	}
}

// look finds out which tables are others than at the last look.
func (t *tables) look() {
	generation := uint64(0)
	if t.cfg.Generation != nil {
		generation = t.cfg.Generation()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	maps.DeleteFunc(t.gone, func(_ string, at time.Time) bool { return now.Sub(at) > 2*t.cfg.Timing.Grace+2*t.cfg.Timing.Compare })
	if t.looked && t.cfg.Generation != nil && generation == t.generation {
		return
	}
	if !t.looked {
		t.looked, t.since = true, now
	}
	t.generation = generation
	seen := make(map[string]bool, len(t.pools))
	changed := t.digest == ""
	t.cfg.Tables(func(pool string, checksum uint64) {
		seen[pool] = true
		if p, there := t.pools[pool]; !there || p.checksum != checksum {
			t.pools[pool], changed = pooled{checksum, now}, true
			delete(t.gone, pool)
		}
	})
	for pool := range t.pools {
		if !seen[pool] {
			delete(t.pools, pool)
			t.gone[pool], changed = now, true
		}
	}
	if changed {
		t.digest = digestOf(t.pools)
	}
}

// digestOf is equal for equal tables of pools of equal names.
func digestOf(pools map[string]pooled) string {
	h := sha256.New()
	var checksum [8]byte
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		h.Write([]byte(name))
		binary.BigEndian.PutUint64(checksum[:], pools[name].checksum)
		h.Write([]byte{0})
		h.Write(checksum[:])
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// facts sums the tables up.
func (t *tables) facts() api.TableFacts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return api.TableFacts{Pools: len(t.pools), Digest: t.digest}
}

// steadySince reports whether what has been so since then has been so for the grace
// time.
func (t *tables) steadySince(now, since time.Time) bool {
	return now.Sub(since) >= t.cfg.Timing.Grace
}
