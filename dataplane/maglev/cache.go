package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Cache remembers tables by what they are built from, so that equal pools
// share one table and an unchanged pool's table is not built again. It is used
// in rounds, one per compilation: EndRound forgets the tables that the round
// did not ask for. It is not safe for concurrent use. The zero Cache is empty
// and ready.
type Cache struct {
	tables map[cacheKey]*cacheEntry
	round  uint64
	built  int
	hash   hash.Hash
	buf    []byte
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	table *Table // nil: no member may be chosen
	round uint64
}

// Table is Build with memory. Pools are equal when they list equal members in
// an equal order: a caller that wants them to share sorts them.
func (c *Cache) Table(members []Member, seed [2]uint64) (*Table, error) {
	key := c.key(members, seed)
	if e, ok := c.tables[key]; ok {
		e.round = c.round
		return e.table, nil
	}
	t, err := Build(members, seed)
	if err != nil {
		return nil, err
	}
	if c.tables == nil {
		c.tables = make(map[cacheKey]*cacheEntry)
	}
	c.tables[key] = &cacheEntry{table: t, round: c.round}
	c.built++
	return t, nil
}

// EndRound forgets every table that was not asked for since the last EndRound.
func (c *Cache) EndRound() {
	for key, e := range c.tables {
		if e.round != c.round {
			delete(c.tables, key)
		}
	}
	c.round++
}

// Len is the number of tables remembered.
func (c *Cache) Len() int { return len(c.tables) }

// Built is how many tables were built and not remembered, since the beginning.
func (c *Cache) Built() int { return c.built }

func (c *Cache) key(members []Member, seed [2]uint64) (key cacheKey) {
	if c.hash == nil {
		c.hash = sha256.New()
	}
	b := c.buf[:0]
	b = binary.LittleEndian.AppendUint64(b, seed[0])
	b = binary.LittleEndian.AppendUint64(b, seed[1])
	for i := range members {
		m := &members[i]
		b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Name)))
		b = append(b, m.Name...)
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Weight))
		if m.Down {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	c.buf = b
	c.hash.Reset()
	c.hash.Write(b)
	c.hash.Sum(key[:0])
	return key
}
