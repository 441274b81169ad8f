package flows

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"fairlead/cluster"
)

// follower has this node go by what the entries of pools say, and knows how far
// it has come with each.
type follower struct {
	core     *core
	followed map[string]*followed
	dirty    map[string]bool // pools that have to be adopted
	adopting []string
}

// followed is a pool with an entry.
type followed struct {
	want    Base
	version cluster.Version
	gone    bool // the entry is deleted

	adopted Base // what the data path goes by
	at      cluster.Version
	adopts  Base // what it is about to go by
	atNext  cluster.Version
	unread  bool   // flows that differ from adopted have still to be looked for
	fence   uint64 // answered by a peer when it knows of all that were found
}

// entries takes over what the store has of pools.
func (f *follower) entries(list []cluster.Entry) {
	for _, e := range list {
		pool := strings.TrimPrefix(e.Key, cluster.BasePrefix)
		p := f.followed[pool]
		var b Base
		if !e.Deleted {
			var err error
			if b, err = DecodeBase(e.Value); err != nil {
				if errors.Is(err, ErrNewer) {
					f.core.stats.newer.Add(1)
				} else {
					f.core.stats.badBases.Add(1)
				}
				f.core.warn("the base of a pool is not followed", "pool", pool, "writer", e.Writer, "error", err)
				if p != nil {
					p.version, p.gone = e.Version, false
				}
				continue
			}
		}
		if p == nil {
			p = &followed{}
			f.followed[pool] = p
		}
		p.want, p.version, p.gone = b, e.Version, e.Deleted
		f.dirty[pool] = true
	}
	f.adopt()
}

// adopt has the data path go by all that has changed since it was last asked to.
func (f *follower) adopt() {
	if len(f.adopting) > 0 || len(f.dirty) == 0 {
		return
	}
	var list []PoolBase
	for pool := range f.dirty {
		p := f.followed[pool]
		p.adopts, p.atNext = p.want, p.version
		f.adopting = append(f.adopting, pool)
		list = append(list, PoolBase{pool, p.adopts})
	}
	clear(f.dirty)
	slices.SortFunc(list, func(a, b PoolBase) int { return strings.Compare(a.Pool, b.Pool) })
	f.core.stats.adoptions.Add(1)
	f.core.adopt(list)
}

// adoptedAll notes that the data path goes by what it was asked to. After an
// error it is asked again.
func (f *follower) adoptedAll(err error) {
	if err != nil {
		f.core.stats.adoptErrors.Add(1)
		f.core.warn("the bases of pools are not in force", "error", err)
		for _, pool := range f.adopting {
			f.dirty[pool] = true
		}
		f.adopting = nil
		return // the next tick tries again
	}
	for _, pool := range f.adopting {
		p := f.followed[pool]
		if !p.adopted.covers(&p.adopts) {
			p.unread = true
			f.core.teller.look(pool)
		}
		p.adopted, p.at = p.adopts, p.atNext
		if p.gone && !f.dirty[pool] && len(p.adopted.Shares) == 0 {
			delete(f.followed, pool)
		}
	}
	f.adopting = nil
	f.adopt()
}

// scanned notes that the exceptions of pools were looked for, by a scan that
// began after their bases were adopted, and told before this fence.
func (f *follower) scanned(pools map[string]bool, fence uint64) {
	for pool := range pools {
		// What was adopted while the scan ran is looked for by the next.
		if p := f.followed[pool]; p != nil && !f.core.teller.want[pool] {
			p.unread, p.fence = false, fence
		}
	}
}

func (f *follower) tick() { f.adopt() }

// ready reports whether this node has done all that a pool's entry of this
// version asks of it, and which peers have not said that they know of what it
// has told.
func (f *follower) ready(pool string, v cluster.Version) (ready bool, without []string) {
	p := f.followed[pool]
	if p == nil || p.at.Compare(v) < 0 || p.unread {
		return false, nil
	}
	return true, f.core.teller.without(p.fence)
}

// question asks how far a node has come with some pools' entries; reply says
// with which it has not.
type question struct {
	Pools []questionPool `json:"pools"`
}

type questionPool struct {
	Pool    string          `json:"pool"`
	Version cluster.Version `json:"version"`
}

type reply struct {
	Behind  []string            `json:"behind,omitempty"`  // pools
	Without map[string][]string `json:"without,omitempty"` // nodes that do not know all yet, by pool
}

// asked answers a question of a coordinator.
func (f *follower) asked(request []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, errors.New("the question about bases of pools is not understood")
	}
	return json.Marshal(f.reply(q.Pools))
}

func (f *follower) reply(pools []questionPool) reply {
	r := reply{Without: map[string][]string{}}
	for _, p := range pools {
		ready, without := f.ready(p.Pool, p.Version)
		switch {
		case !ready:
			r.Behind = append(r.Behind, p.Pool)
		case len(without) > 0:
			r.Without[p.Pool] = without
		}
	}
	return r
}
