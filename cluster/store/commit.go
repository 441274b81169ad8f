package store

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"fairlead/cluster"
)

// Whatever is kept on disk goes through one goroutine, which writes what waits in
// one go: a write is in force when it is on the medium. What others have written
// is in force at once; what of it is lost with the power, others still have.

// requestKind is what is asked of the goroutine that writes.
type requestKind int

const (
	requestWrite requestKind = iota // key, value, deleted
	requestTake                     // items of others, which are verified
	requestDrop                     // items: forget them
	requestSync                     // all that came before is to be on the medium
	requestNote                     // node has everything up to seq
	requestAge                      // versions are from a clock that was wrong: see demote
)

type request struct {
	kind    requestKind
	key     string
	value   []byte
	deleted bool
	again   bool // the same once more: only its version and signature change
	items   []*item
	node    string
	store   storeID
	seq     uint64

	refused int        // of items
	err     error      // of the request
	done    chan error // nil: nobody waits
}

// ask has a request done, and waits for it.
func (s *Store) ask(r *request) error {
	r.done = make(chan error, 1)
	select {
	case s.requests <- r:
	case <-s.ctx.Done():
		return ErrClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-s.ctx.Done():
		return ErrClosed
	}
}

// tell has a request done at some time.
func (s *Store) tell(r *request) {
	select {
	case s.requests <- r:
	case <-s.ctx.Done():
	}
}

const (
	batchMost  = 512
	batchBytes = 32 << 20
	syncEvery  = 500 * time.Millisecond // of what nobody waits for
	retryEvery = 2 * time.Second        // when the disk fails
)

// commit is the goroutine that writes.
func (s *Store) commit(d *disk) {
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	var tried time.Time
	for {
		select {
		case r := <-s.requests:
			s.write1(d, s.gather(r))
		case <-ticker.C:
			if err := d.sync(); err != nil {
				s.setUnsaved(err)
			}
		case <-s.ctx.Done():
			s.finish(d)
			return
		}
		bad := s.isUnsaved() || d.file == nil
		if bad && time.Since(tried) >= retryEvery || !bad && d.full() {
			tried = time.Now()
			s.generation(d)
		}
	}
}

// gather takes what else waits.
func (s *Store) gather(r *request) []*request {
	batch, size := []*request{r}, len(r.value)
	for len(batch) < batchMost && size < batchBytes {
		select {
		case r := <-s.requests:
			batch = append(batch, r)
			size += len(r.value)
		default:
			return batch
		}
	}
	return batch
}

// staged is what is about to be in force.
type staged struct {
	by *request
	it *item
}

// write1 does a batch of requests, in their order.
func (s *Store) write1(d *disk, batch []*request) {
	var records []byte
	var todo []staged
	pending := map[string]*item{}
	have := func(key string) *item {
		if it := pending[key]; it != nil {
			return it
		}
		return s.table.get(key)
	}
	wait := false
	s.mu.Lock()
	seq := s.seq
	stage := func(r *request, it *item) {
		seq++
		it.seq = seq
		pending[it.Key] = it
		todo = append(todo, staged{r, it})
		records = appendItemRecord(records, it)
	}
	for _, r := range batch {
		switch r.kind {
		case requestWrite:
			it, err := s.stage(r, have(r.key))
			if r.err = err; it != nil {
				wait = true
				stage(r, it)
			}
		case requestTake:
			for _, it := range r.items {
				ok, err := s.admit(it, have(it.Key))
				if err != nil {
					r.refused++
					s.refused(it.Writer, err)
				}
				if ok {
					stage(r, it)
				}
			}
		case requestDrop:
			for _, it := range r.items {
				if s.table.get(it.Key) == it && pending[it.Key] == nil {
					s.forget(it)
					s.stats.Dropped++
					records = appendDropRecord(records, it)
				}
			}
		case requestSync:
			wait = true
		case requestNote:
			if s.equals.note(r.node, r.store, r.seq) {
				records = appendPeerRecord(records, r.node, s.equals[r.node])
			}
		case requestAge:
			s.demote(&seq)
			s.unsaved = errDemoted
		}
	}
	s.mu.Unlock()

	err := d.append(records)
	if err == nil && wait {
		err = d.sync()
	}
	if err != nil {
		err = s.setUnsaved(err)
	}
	unsaved := s.isUnsaved()

	s.mu.Lock()
	var mine []*item
	for _, t := range todo {
		if t.by.kind == requestWrite {
			if err != nil {
				t.by.err = fmt.Errorf("%w, so that %q was not changed: %w", ErrNotStored, t.it.Key, err)
				continue
			}
			mine = append(mine, t.it)
		}
		s.put(t.it)
	}
	s.seq = seq
	s.mu.Unlock()

	for _, it := range mine {
		s.publish(it)
	}
	for _, r := range batch {
		if r.done == nil {
			continue
		}
		if r.err == nil && r.kind == requestSync && unsaved {
			r.err = ErrNotStored
		}
		r.done <- r.err
	}
}

var errDemoted = errors.New("versions have changed")

// generation puts everything into new files.
func (s *Store) generation(d *disk) {
	s.mu.Lock()
	var items []*item
	s.durable(func(it *item) { items = append(items, it) })
	c := s.contents()
	c.equals = history{}
	for node, e := range s.equals {
		c.equals[node] = e
	}
	s.mu.Unlock()
	err := d.begin(c, func(f func(*item)) {
		for _, it := range items {
			f(it)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.unsaved
	switch {
	case err == nil:
		if s.unsaved = nil; was != nil && was != errDemoted {
			s.cfg.Log.Info("the shared state can be stored again")
		}
	case was != nil || d.file == nil:
		s.unsaved = err
	default:
		d.snapshot = d.size // tried again when the log is twice as long
		s.cfg.Log.Warn("the shared state could not be written anew: its log goes on", "error", err)
	}
}

func (s *Store) isUnsaved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaved != nil
}

// setUnsaved gives the reason that is to be said.
func (s *Store) setUnsaved(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved == nil || s.unsaved == errDemoted {
		s.cfg.Log.Error("the shared state cannot be stored: changes on this node are refused until it can", "error", err)
	} else if errors.Is(err, errNoLog) {
		return s.unsaved
	}
	s.unsaved = err
	return err
}

// finish writes what is left at the end.
func (s *Store) finish(d *disk) {
	last := s.clock.Last()
	err := d.append(appendRecord(nil, recordClock, func(b []byte) []byte {
		return appendUint(appendUint(b, clockWall, protowire.EncodeZigZag(last.Wall)), clockCounter, uint64(last.Counter))
	}))
	if err = errors.Join(err, d.close()); err != nil {
		s.setUnsaved(err)
	}
}

// stage makes the entry that a write asks for. It gives none when there is
// nothing to delete. The caller holds s.mu.
func (s *Store) stage(r *request, have *item) (*item, error) {
	switch {
	case r.again:
		if have != nil && (have.Deleted != r.deleted || !bytes.Equal(have.Value, r.value)) {
			return nil, nil // it has changed
		}
	case r.deleted && (have == nil || have.Deleted):
		return nil, nil
	}
	e := cluster.Entry{Key: r.key, Value: r.value, Writer: s.identity.Name(), Deleted: r.deleted}
	switch {
	case ownerOf(r.key) == "" && r.again:
		// Whatever has been written in the meantime, and is not here yet, is later.
		if have == nil {
			return nil, nil
		}
		e.Version = cluster.Version{Wall: have.Version.Wall, Counter: have.Version.Counter + 1, Writer: e.Writer}
		if e.Version.Counter == 0 {
			e.Version.Wall++
		}
	case ownerOf(r.key) == "":
		v, err := s.clock.Stamp()
		if err != nil {
			return nil, err
		}
		e.Version = v
	default:
		before := s.floor[r.key]
		if have != nil && have.Version.Compare(before) > 0 {
			before = have.Version
		}
		e.Version = s.clock.StampAfter(before)
		s.mine[r.key] = true
	}
	s.stats.Written++
	return newItem(e, s.identity), nil
}

// admit says whether an item of another node, which is verified, is to be in
// force. The caller holds s.mu.
func (s *Store) admit(it, have *item) (bool, error) {
	switch {
	case !it.newer(have):
		if have.hash == it.hash {
			return false, nil
		}
		return false, refuse(Stale, "%q: what is here is newer", it.Key)
	case it.Deleted && s.expired(it) && have == nil:
		return false, nil
	case live(it.Key) && s.gone[it.Writer]:
		return false, refuse(Gone, "%q: its node has been dead for too long", it.Key)
	case it.Writer == s.identity.Name() && s.mine[it.Key]:
		// Written before the start, by a clock that was ahead or a disk that is lost.
		s.floor[it.Key] = it.Version
		s.reclaim[it.Key] = true
		return false, nil
	case have == nil && (s.table.count >= s.cfg.MaxEntries || s.table.bytes+it.bytes() > s.cfg.MaxBytes):
		return false, refuse(Full, "%q: this node keeps %d entries of %d bytes already", it.Key, s.table.count, s.table.bytes)
	}
	return true, nil
}

// put brings an item into force. The caller holds s.mu.
func (s *Store) put(it *item) {
	have := s.table.get(it.Key)
	if !it.newer(have) {
		return
	}
	if ownerOf(it.Key) == "" {
		s.clock.Observe(it.Version)
	}
	s.table.set(it)
	if !it.Deleted || have != nil && !have.Deleted {
		s.watchers.tell(it.Entry)
	}
}

// forget takes an item away without a tombstone. The caller holds s.mu.
func (s *Store) forget(it *item) {
	s.table.remove(it.Key)
	if !it.Deleted {
		e := it.Entry
		e.Value, e.Deleted = nil, true
		s.watchers.tell(e)
	}
}

// expired reports whether a tombstone has been kept for long enough.
func (s *Store) expired(it *item) bool {
	kept := s.cfg.TombstoneKept
	if live(it.Key) {
		kept = liveTombstoneKept
	}
	return s.clock.Now().UnixMilli()-it.Version.Wall > kept.Milliseconds()
}
