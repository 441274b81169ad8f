// Package nictest has in-memory rings that stand in for AF_XDP sockets: the
// same nic.Queue and nic.Waiter, the same capacities and back-pressure, and
// faults injected on purpose, repeatable by seed. A test plays the network
// with Inject and Sent; a worker cannot tell the difference.
//
// The package also has Conformance, the test body that both these rings and
// real AF_XDP sockets pass.
package nictest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"fairlead/dataplane/nic"
)

// DefaultRingSize is the size of a ring whose size is not configured.
const DefaultRingSize = 2048

// Config describes one in-memory queue. The zero value has rings of
// DefaultRingSize and no faults.
type Config struct {
	Port uint16 // what Receive writes into nic.Frame.Port

	// Ring sizes, powers of two.
	RXSize, TXSize, FillSize, CompletionSize int

	// KickBudget is the most frames one Kick sends; 0 sends all.
	KickBudget int

	// Seed makes the faults repeatable.
	Seed   uint64
	Faults Faults

	// Wire, when set, gets every frame that is sent, in place of Sent. The
	// bytes are valid during the call only. It is called by the goroutine that
	// calls Kick, with no lock held, so that it may Inject into another queue.
	Wire func(frame []byte)
}

// Faults are what goes wrong. Chances are between 0 and 1.
type Faults struct {
	ShortReceive    float64 // Receive returns fewer frames than it could
	TransmitFull    float64 // Transmit accepts fewer frames than it could
	RefillFull      float64 // Refill accepts fewer chunks than it could
	KickIdle        float64 // Kick sends nothing
	CompletionDelay int     // calls of Complete that pass before a sent frame's completion shows
}

// Stats counts what happened at a queue since it was made.
type Stats struct {
	Injected    uint64 // frames that reached the RX ring
	NoBuffer    uint64 // frames dropped on receive: the fill ring was empty
	RXFull      uint64 // frames dropped on receive: the RX ring was full
	Oversize    uint64 // frames dropped on receive: longer than a chunk takes
	ReceiveDown uint64 // frames dropped on receive: the link was down
	Received    uint64 // frames Receive returned
	Accepted    uint64 // frames Transmit accepted
	Refused     uint64 // frames Transmit did not accept
	Sent        uint64 // frames that left
	Completed   uint64 // addresses Complete returned
	Refilled    uint64 // chunks Refill accepted
	Kicks       uint64 // calls of Kick with frames waiting
	KickDown    uint64 // calls of Kick that answered nic.ErrDown
}

// completion is a sent frame's chunk and the count of Complete calls from
// which on it shows.
type completion struct {
	addr uint64
	due  uint64
}

// Queue is one queue of one interface in memory. The worker's side (the
// nic.Queue methods) belongs to one goroutine; the network's side may be used
// from others. Queues share no lock.
//
// Queue watches its user: it records as Err the first chunk that is offered,
// sent or returned while the Pool says it belongs to somebody else.
type Queue struct {
	pool *nic.Pool
	cfg  Config

	mu         sync.Mutex
	rx         fifo[nic.Frame]
	tx         fifo[nic.Frame]
	fill       fifo[uint64]
	completion fifo[completion]
	rng        *rand.Rand
	down       bool
	fullFor    int
	completes  uint64 // calls of Complete so far
	sent       [][]byte
	stats      Stats
	err        error
	arrived    func()

	leaving [nic.BatchSize]nic.Frame // frames on their way out, Kick's own
}

var _ nic.Queue = (*Queue)(nil)

// New makes a queue over the pool's memory. Queues of several ports may share
// one pool, as sockets share a UMEM. It panics on a ring size that is not a
// power of two: that is a mistake in the test.
func New(pool *nic.Pool, cfg Config) *Queue {
	return &Queue{
		pool:       pool,
		cfg:        cfg,
		rx:         newFIFO[nic.Frame](cfg.RXSize),
		tx:         newFIFO[nic.Frame](cfg.TXSize),
		fill:       newFIFO[uint64](cfg.FillSize),
		completion: newFIFO[completion](cfg.CompletionSize),
		rng:        rand.New(rand.NewPCG(cfg.Seed, uint64(cfg.Port))),
	}
}

// Receive implements nic.Queue.
func (q *Queue) Receive(frames []nic.Frame) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.short(min(len(frames), q.rx.len()), q.cfg.Faults.ShortReceive)
	for i := range n {
		frames[i] = q.rx.pop()
		q.expect(frames[i].Addr, nic.OwnerFill, "received")
	}
	q.stats.Received += uint64(n)
	return n
}

// Transmit implements nic.Queue.
func (q *Queue) Transmit(frames []nic.Frame) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.short(min(len(frames), q.tx.room()), q.cfg.Faults.TransmitFull)
	if q.fullFor > 0 && len(frames) > 0 {
		q.fullFor--
		n = 0
	}
	for i := range n {
		if !q.sendable(frames[i]) {
			q.fail(fmt.Errorf("frame at %#x of %d bytes does not lie in one chunk", frames[i].Addr, frames[i].Len))
			n = i
			break
		}
		q.expect(frames[i].Addr, nic.OwnerUser, "transmitted")
		q.tx.push(frames[i])
	}
	q.stats.Accepted += uint64(n)
	q.stats.Refused += uint64(len(frames) - n)
	return n
}

// Kick implements nic.Queue.
func (q *Queue) Kick() error {
	q.mu.Lock()
	if q.tx.len() == 0 {
		q.mu.Unlock()
		return nil
	}
	q.stats.Kicks++
	if q.down {
		q.stats.KickDown++
		q.mu.Unlock()
		return nic.ErrDown
	}
	budget := q.tx.len()
	if q.cfg.KickBudget > 0 {
		budget = min(budget, q.cfg.KickBudget)
	}
	if q.chance(q.cfg.Faults.KickIdle) {
		budget = 0
	}
	q.mu.Unlock()

	for budget > 0 {
		n := q.send(min(budget, len(q.leaving)))
		if n == 0 {
			break
		}
		budget -= n
	}
	return nil
}

// send moves up to limit frames from the TX ring to the wire and their chunks
// to the completion ring; a full completion ring holds sending up.
func (q *Queue) send(limit int) int {
	q.mu.Lock()
	n := min(limit, q.completion.room())
	for i := range n {
		q.leaving[i] = q.tx.pop()
	}
	q.mu.Unlock()

	// The chunks are in no ring now and nobody but this call knows them.
	for _, f := range q.leaving[:n] {
		frame := q.pool.Mem[f.Addr : f.Addr+uint64(f.Len)]
		if q.cfg.Wire != nil {
			q.cfg.Wire(frame)
			continue
		}
		q.mu.Lock()
		q.sent = append(q.sent, append([]byte(nil), frame...))
		q.mu.Unlock()
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range q.leaving[:n] {
		q.completion.push(completion{addr: f.Addr, due: q.completes + uint64(q.cfg.Faults.CompletionDelay)})
	}
	q.stats.Sent += uint64(n)
	return n
}

// Complete implements nic.Queue.
func (q *Queue) Complete(addrs []uint64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(addrs) && q.completion.len() > 0 && q.completion.peek().due <= q.completes {
		addrs[n] = q.completion.pop().addr
		q.expect(addrs[n], nic.OwnerTX, "completed")
		n++
	}
	q.completes++
	q.stats.Completed += uint64(n)
	return n
}

// Refill implements nic.Queue.
func (q *Queue) Refill(addrs []uint64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.short(min(len(addrs), q.fill.room()), q.cfg.Faults.RefillFull)
	for _, addr := range addrs[:n] {
		q.expect(addr, nic.OwnerFree, "offered for receiving")
		q.fill.push(q.pool.Base(addr))
	}
	q.stats.Refilled += uint64(n)
	return n
}

// short makes n smaller with the given chance.
func (q *Queue) short(n int, chance float64) int {
	if n > 0 && q.chance(chance) {
		return q.rng.IntN(n)
	}
	return n
}

func (q *Queue) chance(p float64) bool {
	return p > 0 && q.rng.Float64() < p
}

func (q *Queue) sendable(f nic.Frame) bool {
	return f.Len > 0 && f.Addr+uint64(f.Len) <= uint64(len(q.pool.Mem)) &&
		f.Addr-q.pool.Base(f.Addr)+uint64(f.Len) <= uint64(q.pool.ChunkSize())
}

// expect records an error when the pool does not agree about the chunk.
func (q *Queue) expect(addr uint64, owner nic.Owner, done string) {
	if have := q.pool.Owner(addr); have != owner {
		q.fail(fmt.Errorf("port %d: chunk at %#x is %s and was owned by %s, want %s",
			q.cfg.Port, q.pool.Base(addr), done, have, owner))
	}
}

func (q *Queue) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}
