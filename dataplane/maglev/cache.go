package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache remembers tables by what they are built from, so that equal pools
// share one table and an unchanged pool's table is not built again. It is used
// in rounds, one per compilation: EndRound forgets the tables that the round
// did not ask for, and begins the next. Table may be called from several goroutines at once; a table
// is built once all the same. The zero Cache is empty and ready.
type Cache struct {
	mu       sync.Mutex
	tables   map[cacheKey]*cacheEntry
	round    uint64
	built    int
	builders []*builder // idle
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	once  sync.Once // done: the next two are set
	table *Table    // nil: no member may be chosen
	err   error
	round uint64
}

// Table is Build with memory. Pools are equal when they list equal members in
// an equal order: a caller that wants them to share sorts them.
func (c *Cache) Table(members []Member, seed [2]uint64) (*Table, error) {
	b := c.builder()
	defer c.idle(b)
	key := b.key(members, seed)
	e := c.entry(key)
	e.once.Do(func() {
		if e.table, e.err = b.build(members, seed); e.table != nil {
			e.table.key = key
		}
	})
	return e.table, e.err
}

// Mapped is Table with other entries: mapping says for each member what they are.
// It has that table's checksum.
func (c *Cache) Mapped(members []Member, mapping []uint16, seed [2]uint64) (*Table, error) {
	b := c.builder()
	defer c.idle(b)
	key := b.mappedKey(members, mapping, seed)
	e := c.entry(key)
	e.once.Do(func() {
		if e.table, e.err = b.build(members, seed); e.table == nil {
			return
		}
		e.table.key = key
		for i, member := range e.table.entries {
			e.table.entries[i] = mapping[member]
		}
	})
	return e.table, e.err
}

// mappedKey is another key than that of any table that is not mapped.
func (b *builder) mappedKey(members []Member, mapping []uint16, seed [2]uint64) cacheKey {
	key := b.key(members, seed)
	buf := append(b.sum[:0], key[:]...)
	for _, to := range mapping {
		buf = binary.LittleEndian.AppendUint16(buf, to)
	}
	b.sum = append(buf, "mapped"...)
	return sha256.Sum256(b.sum)
}

// entry is where the table of a key is, or is to be, kept.
func (c *Cache) entry(key cacheKey) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.tables[key]
	if !ok {
		if c.tables == nil {
			c.tables = make(map[cacheKey]*cacheEntry)
		}
		e = &cacheEntry{}
		c.tables[key] = e
		c.built++
	}
	e.round = c.round
	return e
}

func (c *Cache) builder() *builder {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.builders)
	if n == 0 {
		return &builder{}
	}
	b := c.builders[n-1]
	c.builders = c.builders[:n-1]
	return b
}

func (c *Cache) idle(b *builder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.builders = append(c.builders, b)
}

// BeginRound begins a round before the last one was ended: what was asked for
// so far does not count.
func (c *Cache) BeginRound() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
}

// EndRound forgets every table that was not asked for since the round began.
func (c *Cache) EndRound() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.tables {
		if e.round != c.round {
			delete(c.tables, key)
		}
	}
	c.round++
	c.builders = nil
}

// Forget forgets a table before the round is over.
func (c *Cache) Forget(t *Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.tables[t.key]; ok && e.table == t {
		delete(c.tables, t.key)
	}
}

// Len is the number of tables remembered.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tables)
}

// Built is how many tables were built and not remembered, since the beginning.
func (c *Cache) Built() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.built
}

// key is what the members and the seed are known by.
func (b *builder) key(members []Member, seed [2]uint64) cacheKey {
	buf := b.sum[:0]
	buf = binary.LittleEndian.AppendUint64(buf, seed[0])
	buf = binary.LittleEndian.AppendUint64(buf, seed[1])
	common := divisor(members)
	for i := range members {
		m := &members[i]
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(m.Name)))
		buf = append(buf, m.Name...)
		buf = binary.LittleEndian.AppendUint64(buf, uint64(m.Weight/common))
		buf = binary.LittleEndian.AppendUint64(buf, m.due(common))
	}
	b.sum = buf
	return sha256.Sum256(buf)
}
