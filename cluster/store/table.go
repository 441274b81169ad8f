package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"
)

// buckets is how many parts keys are divided into, by their hash. It is part of
// the format: nodes compare digests of buckets.
const buckets = 1024

// table is what a node has. It is not safe for concurrent use.
type table struct {
	parts  [buckets]part
	groups map[string]map[string]*item // by the first part of the key
	count  int
	live   int // those that are no tombstones
	bytes  int
}

type part struct {
	items map[string]*item
	sum   uint64 // of the hashes of its items, modulo 2^64
}

func newTable() *table { return &table{groups: map[string]map[string]*item{}} }

func bucketOf(key string) int {
	h := fnv.New64a()
	h.Write([]byte(key))
	v := h.Sum64()
	return int((v ^ v>>32) % buckets)
}

func groupOf(key string) string {
	group, _, _ := strings.Cut(key, "/")
	return group
}

func (t *table) get(key string) *item { return t.parts[bucketOf(key)].items[key] }

// newer reports whether an item replaces another, nil being none. All nodes come
// to the same answer, even when a writer has written two things with one version.
func (it *item) newer(have *item) bool {
	if have == nil {
		return true
	}
	if c := it.Version.Compare(have.Version); c != 0 {
		return c > 0
	}
	return bytes.Compare(it.hash[:], have.hash[:]) > 0
}

func (it *item) sum() uint64 { return binary.BigEndian.Uint64(it.hash[:]) }

// set puts an item in the place of what is under its key.
func (t *table) set(it *item) {
	t.remove(it.Key)
	p := &t.parts[bucketOf(it.Key)]
	if p.items == nil {
		p.items = map[string]*item{}
	}
	p.items[it.Key] = it
	p.sum += it.sum()
	g := groupOf(it.Key)
	if t.groups[g] == nil {
		t.groups[g] = map[string]*item{}
	}
	t.groups[g][it.Key] = it
	t.count++
	t.bytes += it.bytes()
	if !it.Deleted {
		t.live++
	}
}

// remove forgets what is under a key, without a tombstone.
func (t *table) remove(key string) {
	p := &t.parts[bucketOf(key)]
	it := p.items[key]
	if it == nil {
		return
	}
	delete(p.items, key)
	p.sum -= it.sum()
	g := groupOf(key)
	if delete(t.groups[g], key); len(t.groups[g]) == 0 {
		delete(t.groups, g)
	}
	t.count--
	t.bytes -= it.bytes()
	if !it.Deleted {
		t.live--
	}
}

// each calls f with all items, in no order. f may remove the item it is given.
func (t *table) each(f func(*item)) {
	for i := range t.parts {
		for _, it := range t.parts[i].items {
			f(it)
		}
	}
}

// list are the items below a prefix that are no tombstones, by key.
func (t *table) list(prefix string) []*item {
	var out []*item
	take := func(items map[string]*item) {
		for _, it := range items {
			if !it.Deleted && strings.HasPrefix(it.Key, prefix) {
				out = append(out, it)
			}
		}
	}
	if group, _, whole := strings.Cut(prefix, "/"); whole {
		take(t.groups[group])
	} else {
		for _, items := range t.groups {
			take(items)
		}
	}
	slices.SortFunc(out, func(a, b *item) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// root is the digest of everything, and sums those of the buckets.
func (t *table) digest() (root [sha256.Size]byte, sums []byte) {
	sums = make([]byte, 0, 8*buckets)
	for i := range t.parts {
		sums = binary.BigEndian.AppendUint64(sums, t.parts[i].sum)
	}
	return sha256.Sum256(sums), sums
}
