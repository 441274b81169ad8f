package memo

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
)

// Identity is what a route is for. Two flow directions with equal identities
// leave the same way.
type Identity struct {
	Service, Backend fib.ID
	VIP              uint16  // fib.Local ID
	SNAT             uint16  // fib.Local ID, 0 for methods other than NAT
	Reply            bool    // NAT: from the backend to clients
	Port             uint16  // Reply: the interface its clients are behind
	MAC              [6]byte // Reply: and the address of their last hop
}

// Way names a valid route.
type Way struct {
	route uint16
	gen   uint8
}

// ways are a table's routes and who uses which.
type ways struct {
	routes     []Route
	users      []user        // by route
	generation atomic.Uint64 // of the snapshot that all valid routes agree with

	_ [EntrySize]byte // what every packet reads is in other cache lines than what follows

	mu     sync.Mutex
	known  map[Identity]uint16
	retire func(i uint16) // called before a place is given to another route
	fresh  int            // routes from here on were never used

	_ [EntrySize]byte
}

// user is what a route is used for; its Identity is known while it is valid.
type user struct {
	id      Identity
	granted atomic.Uint32 // flow.Time of the last memo granted by it
}

// restTime is how many milliseconds a place for a route rests after its last memo was
// granted: until no lease is left. The generation number is for the rest.
const restTime = 2 * MaxLease

// A place rests for longer than a lease after the last grant, however late that
// was noted.
var _ [restTime - MaxLease - usedStep]struct{}

func (w *ways) init(routes []Route) {
	w.routes, w.users, w.known = routes, make([]user, len(routes)), make(map[Identity]uint16)
	for i := range routes {
		atomic.StoreUint32(&routes[i].State, 0)
	}
}

// Void makes every route in the memory of a table invalid, for a process that
// does not use the table itself and whose user of the table is dead.
func Void(routes []byte) {
	for i := 0; i+RouteSize <= len(routes); i += RouteSize {
		atomic.StoreUint32(&(*Route)(unsafe.Pointer(&routes[i])).State, 0)
	}
}

// route is the valid route that a control word names, nil when there is none.
func (w *ways) route(control uint64) *Route {
	gen := uint32(control >> genAt & genMask)
	i := control >> routeAt & 0xffff
	if gen == 0 || i >= uint64(len(w.routes)) || atomic.LoadUint32(&w.routes[i].State) != gen {
		return nil
	}
	return &w.routes[i]
}

// Valid reports whether the way still leads somewhere.
func (w *ways) Valid(way Way) bool {
	return way.gen != 0 && atomic.LoadUint32(&w.routes[way.route].State) == uint32(way.gen)
}

// InForce reports whether routes are those of this snapshot generation. A
// worker that decides by an older one grants nothing: it looks before it takes
// a way and again before it uses it.
func (w *ways) InForce(generation uint64) bool { return w.generation.Load() == generation }

// Used notes that a memo is granted by the way, so that its place is not given
// to another. All workers say so of the same ways: to keep them from taking the
// cache line from each other, what is known already, as of a second ago, is not
// written again.
func (w *ways) Used(way Way, at flow.Time) {
	granted := &w.users[way.route].granted
	if int32(at-flow.Time(granted.Load())) >= usedStep {
		granted.Store(uint32(at))
	}
}

// usedStep is by how many milliseconds what Used has noted may lag behind.
const usedStep = 1000

// Way finds or makes the route of an identity. It is false when the snapshot
// is not the one in force, when it forwards no such packets, or when there is
// no place left. It is not for the hot path.
func (w *ways) Way(s *fib.Snapshot, id *Identity, at flow.Time) (Way, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.InForce(s.Generation()) {
		return Way{}, false
	}
	if i, ok := w.known[*id]; ok {
		w.Used(Way{route: i}, at)
		return Way{i, uint8(w.routes[i].State)}, true
	}
	next, ok := Build(s, id)
	if !ok {
		return Way{}, false
	}
	i, ok := w.vacancy(at)
	if !ok {
		return Way{}, false
	}
	r := &w.routes[i]
	gen := r.Last%genMask + 1
	next.Last = gen
	if w.retire != nil {
		w.retire(i)
	}
	*r = next
	atomic.StoreUint32(&r.State, uint32(gen))
	w.users[i].id = *id
	w.known[*id] = i
	w.users[i].granted.Store(uint32(at))
	return Way{i, gen}, true
}

// vacancy is a place for a route: one that was never used, or one whose last
// memo's lease is long over.
func (w *ways) vacancy(at flow.Time) (uint16, bool) {
	if w.fresh < len(w.routes) {
		w.fresh++
		return uint16(w.fresh - 1), true
	}
	for i := range w.users {
		if (flow.Time(w.users[i].granted.Load()) + restTime).Before(at) {
			w.invalidate(uint16(i))
			return uint16(i), true
		}
	}
	return 0, false
}

func (w *ways) invalidate(i uint16) {
	if atomic.SwapUint32(&w.routes[i].State, 0) != 0 {
		delete(w.known, w.users[i].id)
	}
}

// Adopt invalidates every route that is another by the snapshot next than by
// the one in force, prev. It is called before next is in force, and from then
// on routes are made by next alone: no packet that comes after next is in
// force goes by what prev said.
func (w *ways) Adopt(prev, next *fib.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.generation.Store(next.Generation())
	for id, i := range w.known {
		r, ok := Build(next, &id)
		r.State, r.Last = w.routes[i].State, w.routes[i].Last
		if !ok || r != w.routes[i] || !sameSources(prev, next, id.Service) {
			w.invalidate(i)
		}
	}
}

// sameSources reports whether a service lets the same clients in by both
// snapshots.
func sameSources(prev, next *fib.Snapshot, id fib.ID) bool {
	if prev == nil {
		return false
	}
	a, b := prev.ServiceByID(id), next.ServiceByID(id)
	return a != nil && b != nil && slices.Equal(prev.Ranges(a), next.Ranges(b))
}
