package compile

import (
	"errors"
	"math/bits"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/maglev"
)

// ErrFull says that a change cannot be made to what is compiled: it has to be
// compiled anew.
var ErrFull = errors.New("compile: the change needs a full compilation")

// space hands out places in one section of an image: runs of records. A place
// that becomes free is given to the next who wants one of its size.
type space struct {
	end   uint32 // first record that nobody ever had
	limit uint32 // one more than the last there may be
	free  map[uint32][]uint32
}

func newSpace(used, spare int) space {
	return space{end: uint32(used), limit: uint32(used + spare), free: make(map[uint32][]uint32)}
}

// take is a place of exactly size records.
func (s *space) take(size uint32, t *transaction) (uint32, error) {
	if list := s.free[size]; len(list) > 0 {
		at := list[len(list)-1]
		s.free[size] = list[:len(list)-1]
		t.undo(func() { s.free[size] = append(s.free[size], at) })
		return at, nil
	}
	if uint64(s.end)+uint64(size) > uint64(s.limit) {
		return 0, ErrFull
	}
	at := s.end
	s.end += size
	t.undo(func() { s.end -= size })
	return at, nil
}

// give takes a place back.
func (s *space) give(at, size uint32, t *transaction) {
	if size == 0 {
		return
	}
	s.free[size] = append(s.free[size], at)
	t.undo(func() { s.free[size] = s.free[size][:len(s.free[size])-1] })
}

// roomFor is how large a place for n members is: a power of two, so that a pool
// that grows one by one moves seldom.
func roomFor(n int) uint32 {
	if n <= 4 {
		return 4
	}
	return 1 << bits.Len(uint(n-1))
}

// roomIn is the largest size of roomFor's in a place of n records, 0 when it is
// too small for any.
func roomIn(n uint32) uint32 {
	if n < 4 {
		return 0
	}
	return 1 << (bits.Len32(n) - 1)
}

// transaction is a change that is taken back as a whole unless all of it
// succeeds.
type transaction struct {
	patch *fib.Patch
	undos []func()
	asked []*maglev.Table // of the cache, or given up
}

// undo notes what takes one step back.
func (t *transaction) undo(f func()) { t.undos = append(t.undos, f) }

// set changes a variable for the time of the transaction and, if it succeeds,
// for good.
func set[T any](t *transaction, variable *T, value T) {
	before := *variable
	*variable = value
	t.undo(func() { *variable = before })
}

// setKey is set for an entry of a map.
func setKey[K comparable, V any](t *transaction, m map[K]V, key K, value V) {
	before, there := m[key]
	m[key] = value
	t.undo(func() {
		if there {
			m[key] = before
		} else {
			delete(m, key)
		}
	})
}

// dropKey is setKey for an entry that is taken away.
func dropKey[K comparable, V any](t *transaction, m map[K]V, key K) {
	if before, there := m[key]; there {
		delete(m, key)
		t.undo(func() { m[key] = before })
	}
}

func (t *transaction) rollback() {
	for i := len(t.undos) - 1; i >= 0; i-- {
		t.undos[i]()
	}
}
