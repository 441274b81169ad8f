package flow

// PortRange is the ports of one SNAT address that flows may leave from.
type PortRange struct {
	Local       uint16 // fib.Local ID of the address
	First, Last uint16 // inclusive; port 0 is never used
}

func (p PortRange) first() uint32 { return max(uint32(p.First), 1) }

func (p PortRange) size() uint32 {
	if uint32(p.Last) < p.first() {
		return 0
	}
	return uint32(p.Last) - p.first() + 1
}

// BindResult is what Bind came to.
type BindResult uint8

// The results of Bind.
const (
	Bound     BindResult = iota // the flow has an outside tuple of its own
	Exhausted                   // every SNAT address and port towards the backend is taken
	Full                        // the table has no room for the flow
	Existing                    // a flow with this forward key exists; it was copied
)

// String names the result.
func (r BindResult) String() string {
	switch r {
	case Bound:
		return "bound"
	case Exhausted:
		return "exhausted"
	case Full:
		return "full"
	case Existing:
		return "existing"
	}
	return "unknown"
}

const (
	// pauseMS is how long no search is made after one found every port taken,
	// for each 65,536 tuples it tried.
	pauseMS = 50

	// checkLimit is how many taken ports a search checks for flows that have
	// timed out and were not swept yet.
	checkLimit = 256

	cursorSets = 1024
	cursorWays = 4
)

// cursor remembers, for one backend address, port and protocol and one set of
// ranges, where the search for a port goes on.
type cursor struct {
	backend uint64 // hash of the backend's address, port and protocol
	shape   uint32 // fingerprint of the ranges it was made for; 0: unused
	next    uint32 // position in the concatenated ranges
	retry   Time   // when paused: not to be searched before
	paused  bool
	batch   uint8  // of TouchAhead, when it was last used
	count   uint16 // flows bound in that batch
	stride  uint16 // and in the one before
}

type cursorSet [cursorWays]cursor

// Bind records the NAT flow f like Insert, after choosing the SNAT address and
// port it leaves from; the caller leaves SNAT and SNATPort to it. ports are
// what may be used, all of the backend's address family.
//
// No two flows have the same outside tuple (SNAT address and port, backend
// address and port, protocol) at a time. Ports are taken in turn for each
// backend, so that one rests as long as possible before it is used again. All
// of them are tried before the answer is Exhausted: one that nobody has a slot
// for in the index is free, and the first few that have one are looked at more
// closely, as their flows may have timed out and wait for the sweep. After an
// exhausted search, none is made for this backend for a short while (pauseMS).
func (w *Worker) Bind(f *Flow, ports []PortRange, now Time, timeout uint32) (Ref, BindResult) {
	w.now = now
	if ref, ok := w.existing(f, now, timeout); ok {
		return ref, Existing
	}
	f.prepare(now, timeout)
	total, shape := measure(ports)
	if total == 0 {
		w.count.exhausted.Add(1)
		return NoRef, Exhausted
	}
	c := w.cursorOf(f, total, shape)
	if c.paused && now.Before(c.retry) {
		w.count.exhausted.Add(1)
		return NoRef, Exhausted
	}
	rec, got := w.bindTuple(f, ports, total, c, now)
	if got != Bound {
		f.SNAT, f.SNATPort = 0, 0
		return NoRef, got
	}
	switch ref, got := w.addForward(rec, f, now); got {
	case keyClaimed:
		return ref, Bound
	case keyTaken:
		return ref, Existing
	default:
		return NoRef, Full
	}
}

// measure gives the number of tuples in the ranges and a fingerprint of them
// that is never 0.
func measure(ports []PortRange) (total, shape uint32) {
	h := uint64(len(ports))
	for _, p := range ports {
		total += p.size()
		h = mix(h^0x9e3779b97f4a7c15, uint64(p.Local)<<32|uint64(p.First)<<16|uint64(p.Last))
	}
	return total, uint32(h) | 1
}

// tuple gives the address and port at a position of the concatenated ranges.
func tuple(ports []PortRange, position uint32) (local, port uint16) {
	for _, p := range ports {
		if n := p.size(); position >= n {
			position -= n
			continue
		}
		return p.Local, uint16(p.first() + position)
	}
	return 0, 0
}

// bindTuple finds a free outside tuple, takes a record, writes the flow with
// the tuple to it and publishes its reply key.
func (w *Worker) bindTuple(f *Flow, ports []PortRange, total uint32, c *cursor, now Time) (uint32, BindResult) {
	checks := checkLimit
	position := c.next % total
	var (
		k Key
		h uint64
	)
	for i := range total {
		snat, port := tuple(ports, position)
		if position++; position == total {
			position = 0
		}
		if i > 0 && snat == k.Local && near(k.LocalPort, port) {
			h = nearHash(h, k.LocalPort, port)
			k.LocalPort = port
		} else {
			k = Key{Peer: f.Backend, Local: snat, PeerPort: f.BackendPort, LocalPort: port, Proto: f.Proto}
			h = w.t.Hash(&k)
		}
		if w.t.tagged(h) {
			if checks == 0 {
				continue
			}
			if checks--; checks == 0 {
				c.next = position // where the next search begins to check
			}
			if _, taken := w.t.holder(&k, h, now, nil, false); taken {
				continue
			}
		}
		f.SNAT, f.SNATPort = snat, port
		rec, ok := w.take(now)
		if !ok {
			w.count.full.Add(1)
			return 0, Full
		}
		w.t.records[rec].write(f)
		switch w.t.claim(&k, h, makeSlot(h, rec, Reply), now, nil, nil) {
		case keyClaimed:
			c.next = position
			c.paused = false
			w.expect(c, k, h)
			return rec, Bound
		case keyNoRoom:
			w.discard(rec)
			w.count.noRoom.Add(1)
			return 0, Full
		}
		w.discard(rec) // another worker was faster
	}
	c.paused = true
	c.retry = now + pauseMS*Time((total+1<<16-1)>>16)
	w.count.exhausted.Add(1)
	return 0, Exhausted
}

// cursorOf finds the cursor of f's backend, or begins one at a random place,
// giving up another backend's if need be.
func (w *Worker) cursorOf(f *Flow, total, shape uint32) *cursor {
	k := Key{Peer: f.Backend, PeerPort: f.BackendPort, Proto: f.Proto}
	h := w.t.Hash(&k)
	set := &w.cursors[h%cursorSets]
	victim := &set[w.next()%cursorWays]
	for i := range set {
		c := &set[i]
		if c.backend == h && c.shape == shape {
			return c
		}
		if c.shape == 0 {
			victim = c
		}
	}
	*victim = cursor{backend: h, shape: shape, next: uint32(w.next() % uint64(total))}
	return victim
}

// TouchAhead reads the lines of the index that the ports which are next in turn
// will be found in, so that their misses overlap. It is called once a batch,
// before the flows of the batch are bound.
func (w *Worker) TouchAhead() {
	for _, hash := range w.ahead {
		w.t.Touch(hash)
	}
	w.ahead = w.ahead[:0]
	w.batch++
}

// expect notes which line of the index the next batch will need after a flow was
// bound with the outside tuple k, whose hash is given: if as many flows go to
// this backend again, that of the port so many ports on.
func (w *Worker) expect(c *cursor, k Key, hash uint64) {
	if c.batch != w.batch {
		c.batch, c.stride, c.count = w.batch, c.count, 0
	}
	c.count++
	if len(w.ahead) == cap(w.ahead) {
		return
	}
	port := k.LocalPort + max(1, c.stride)
	if near(k.LocalPort, port) {
		hash = nearHash(hash, k.LocalPort, port)
	} else {
		k.LocalPort = port
		hash = w.t.Hash(&k)
	}
	w.ahead = append(w.ahead, hash)
}
