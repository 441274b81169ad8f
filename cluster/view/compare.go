package view

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// topicTables compares tables.
const topicTables cluster.Topic = "view/tables"

// tablesRequest asks whether the tables of the one who asks are those of the one
// that is asked. With a list, those are named that are not.
type tablesRequest struct {
	Wire   int    `json:"wire"`
	Digest string `json:"digest"`
	// List has 16 bytes for each pool whose table has been what it is for the
	// grace time: the hash of its name and the checksum. Volatile has the hashes of
	// those that have not, and of those that have gone since.
	List     []byte `json:"list,omitempty"`
	Volatile []byte `json:"volatile,omitempty"`
	// Whole says that pools in neither list are not there, and have not been for
	// the grace time.
	Whole bool `json:"whole,omitempty"`
}

type tablesAnswer struct {
	Wire  int      `json:"wire"`
	Same  bool     `json:"same"`
	Count int      `json:"count"` // pools whose tables differ
	Pools []string `json:"pools"` // some of them
	Alien []byte   `json:"alien"` // some, by the hash of their names, that the one that is asked does not have
}

// hashOf is the hash of a pool's name.
func hashOf(pool string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(pool))
	return h.Sum64()
}

// request makes a request; with list it has all tables.
func (t *tables) request(list bool) *tablesRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := &tablesRequest{Digest: t.digest}
	if !list {
		return q
	}
	now := t.now()
	q.Whole = t.looked && t.steadySince(now, t.since)
	for name, p := range t.pools {
		if t.steadySince(now, p.since) {
			q.List = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(q.List, hashOf(name)), p.checksum)
		} else {
			q.Volatile = binary.BigEndian.AppendUint64(q.Volatile, hashOf(name))
		}
	}
	for name, at := range t.gone {
		if !t.steadySince(now, at) {
			q.Volatile = binary.BigEndian.AppendUint64(q.Volatile, hashOf(name))
		}
	}
	return q
}

// answer answers another member's comparison.
func (t *tables) answer(_ context.Context, from string, request []byte) ([]byte, error) {
	var q tablesRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	if !readable(q.Wire) {
		return nil, unreadable("the request", q.Wire)
	}
	if len(q.List)%16 != 0 || len(q.Volatile)%8 != 0 {
		return nil, fmt.Errorf("the request's lists have %d and %d bytes", len(q.List), len(q.Volatile))
	}
	return json.Marshal(t.against(&q))
}

// against compares the tables of this node with those of a request.
func (t *tables) against(q *tablesRequest) *tablesAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &tablesAnswer{Wire: q.Wire, Same: q.Digest == t.digest}
	if a.Same || !t.looked {
		return a
	}
	theirs := make(map[uint64]uint64, len(q.List)/16)
	for l := q.List; len(l) > 0; l = l[16:] {
		theirs[binary.BigEndian.Uint64(l)] = binary.BigEndian.Uint64(l[8:])
	}
	unsettled := make(map[uint64]bool, len(q.Volatile)/8)
	for l := q.Volatile; len(l) > 0; l = l[8:] {
		unsettled[binary.BigEndian.Uint64(l)] = true
	}
	now := t.now()
	for name, at := range t.gone {
		if !t.steadySince(now, at) {
			unsettled[hashOf(name)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.pools)) {
		p, h := t.pools[name], hashOf(name)
		checksum, there := theirs[h]
		delete(theirs, h)
		if !t.steadySince(now, p.since) || unsettled[h] || there && checksum == p.checksum || !there && !q.Whole {
			continue
		}
		if a.Count++; len(a.Pools) < somePools {
			a.Pools = append(a.Pools, name)
		}
	}
	if !t.steadySince(now, t.since) {
		return a
	}
	for h := range theirs { // pools that are not here
		if unsettled[h] {
			continue
		}
		if a.Count++; len(a.Alien) < 8*somePools {
			a.Alien = binary.BigEndian.AppendUint64(a.Alien, h)
		}
	}
	return a
}

// compare compares tables with one other member, another one each time, and with
// those that differed the last time.
func (t *tables) compare(ctx context.Context) {
	var others []string
	serving := make(map[string]bool)
	for _, n := range t.cfg.Members.All() {
		if n.Name != t.cfg.Name && n.State == cluster.Alive {
			others = append(others, n.Name)
			serving[n.Name] = true
		}
	}
	t.mu.Lock()
	var gone []string
	for name := range t.found {
		if !serving[name] {
			gone = append(gone, name) // nothing is known of it any more
		}
	}
	ask := slices.DeleteFunc(slices.Sorted(maps.Keys(t.found)), func(name string) bool { return !serving[name] })
	if len(others) > 0 {
		if next := others[t.round%len(others)]; !slices.Contains(ask, next) {
			ask = append(ask, next)
		}
		t.round++
	}
	t.mu.Unlock()
	for _, name := range gone {
		t.settle(name, nil)
	}
	for _, name := range ask {
		t.compareWith(ctx, name)
	}
	t.share()
}

// compareWith compares tables with those of one member.
func (t *tables) compareWith(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timing.Compare)
	defer cancel()
	a, err := t.call(ctx, node, t.request(false))
	if err == nil && !a.Same {
		a, err = t.call(ctx, node, t.request(true))
	}
	t.mu.Lock()
	t.done++
	if err != nil {
		t.failed++
	}
	t.mu.Unlock()
	if err != nil {
		t.cfg.Log.Debug("tables cannot be compared", "node", node, "error", err)
		return
	}
	if a.Same || a.Count == 0 {
		t.settle(node, nil)
		return
	}
	t.settle(node, &api.TableMismatch{Node: t.cfg.Name, Other: node, Count: a.Count, Pools: append(a.Pools, t.namesOf(a.Alien)...)})
}

func (t *tables) call(ctx context.Context, node string, q *tablesRequest) (*tablesAnswer, error) {
	var err error
	if q.Wire, err = speak(t.cfg.Members, node); err != nil {
		return nil, err
	}
	request, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	answer, err := t.cfg.Peers.Call(ctx, node, topicTables, request)
	if err != nil {
		return nil, err
	}
	var a tablesAnswer
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, fmt.Errorf("its answer cannot be read: %w", err)
	}
	if !readable(a.Wire) {
		return nil, unreadable("its answer", a.Wire)
	}
	if len(a.Alien)%8 != 0 {
		return nil, fmt.Errorf("its answer has a list of %d bytes", len(a.Alien))
	}
	return &a, nil
}

// namesOf are the names of this node's pools behind hashes.
func (t *tables) namesOf(hashes []byte) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := make(map[uint64]bool, len(hashes)/8)
	for ; len(hashes) > 0; hashes = hashes[8:] {
		wanted[binary.BigEndian.Uint64(hashes)] = true
	}
	for name := range t.pools {
		if wanted[hashOf(name)] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// settle notes what a comparison has come to, nil for tables that are equal.
func (t *tables) settle(node string, m *api.TableMismatch) {
	t.mu.Lock()
	before := t.found[node]
	if m == nil {
		delete(t.found, node)
	} else {
		slices.Sort(m.Pools)
		if len(m.Pools) > somePools {
			m.Pools = m.Pools[:somePools]
		}
		m.Since = t.now().UTC().Round(0)
		if before != nil {
			m.Since = before.Since
		}
		t.found[node] = m
	}
	t.mu.Unlock()
	switch {
	case m != nil && (before == nil || before.Count != m.Count):
		t.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "tables differ from those of another member: the same connection may go to different backends",
			slog.String("node", node), slog.Int("pools", m.Count), slog.Any("some", m.Pools), slog.String("see", "fairlead cluster diff "+node))
	case m == nil && before != nil:
		t.cfg.Log.Info("tables do not differ from those of another member any more", "node", node)
	}
}
