package xdp

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
)

// Geometry is what the data process must know of a socket besides its
// descriptor.
type Geometry struct {
	Port    uint16 // index in the FIB's interface table, below nic.MaxPorts
	IfIndex int
	Queue   int

	// Ring sizes in entries, powers of two.
	RXSize, TXSize, FillSize, CompletionSize int

	// Admission is the queue's account of new connections; nil: all are admitted.
	Admission *Admission `json:"-"`
}

// Queue is an AF_XDP socket with its rings mapped: the data process's half. It
// belongs to one worker; Counters, Statistics, FD and Port may be called from
// anywhere while it is open.
type Queue struct {
	fill       ring[uint64]
	rx         ring[desc]
	tx         ring[desc]
	completion ring[uint64]

	umem       *UMEM
	holders    []Holder
	record     *portRecord
	shift      uint   // log2 of the chunk size
	chunkMask  uint64 // chunk size - 1
	forReceive Holder
	forSend    Holder
	port       uint16
	maxKicks   int
	zeroCopy   bool
	fd         int
	cookie     uint64
	geometry   Geometry
	counts     counters

	mostWaiting uint32 // chunks that the fill ring ever had, for admit
}

var _ nic.Queue = (*Queue)(nil)

// Attach maps the rings of the socket fd, whose frames lie in u. On success
// the Queue owns fd; on failure fd is closed. It changes nothing that is
// shared: until the queue is used, another process may go on with the rings.
// Before it is used, handover.Adopt must have settled who holds what.
func Attach(fd int, u *UMEM, g Geometry) (*Queue, error) {
	q, err := attach(fd, u, g)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("xdp: attach to socket of interface index %d queue %d: %w", g.IfIndex, g.Queue, err)
	}
	return q, nil
}

func attach(fd int, u *UMEM, g Geometry) (*Queue, error) {
	if g.Port >= nic.MaxPorts {
		return nil, fmt.Errorf("port %d: at most %d interfaces are driven", g.Port, nic.MaxPorts)
	}
	for _, size := range []int{g.RXSize, g.TXSize, g.FillSize, g.CompletionSize} {
		if err := checkRingSize(size); err != nil {
			return nil, err
		}
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return nil, fmt.Errorf("read socket cookie: %w", err)
	}
	zeroCopy, err := isZeroCopy(fd)
	if err != nil {
		return nil, err
	}
	var off unix.XDPMmapOffsets
	if err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), unsafe.Sizeof(off)); err != nil {
		return nil, fmt.Errorf("read ring offsets: %w", err)
	}

	q := &Queue{
		umem:       u,
		holders:    u.custody.holders,
		record:     &u.custody.ports[g.Port],
		shift:      uint(bits.TrailingZeros(uint(u.cfg.ChunkSize))),
		chunkMask:  uint64(u.cfg.ChunkSize - 1),
		forReceive: HeldForReceive(g.Port),
		forSend:    HeldForSend(g.Port),
		port:       g.Port,
		maxKicks:   g.TXSize/copyBatch + maxIdleKicks,
		zeroCopy:   zeroCopy,
		fd:         fd,
		cookie:     cookie,
		geometry:   g,
	}
	var errs [4]error
	q.rx, errs[0] = mapRing[desc](fd, "RX", unix.XDP_PGOFF_RX_RING, g.RXSize, off.Rx)
	q.tx, errs[1] = mapRing[desc](fd, "TX", unix.XDP_PGOFF_TX_RING, g.TXSize, off.Tx)
	q.fill, errs[2] = mapRing[uint64](fd, "fill", unix.XDP_UMEM_PGOFF_FILL_RING, g.FillSize, off.Fr)
	q.completion, errs[3] = mapRing[uint64](fd, "completion", unix.XDP_UMEM_PGOFF_COMPLETION_RING, g.CompletionSize, off.Cr)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, q.unmap())
	}
	q.resume()
	return q, nil
}

// Receive implements nic.Queue.
func (q *Queue) Receive(frames []nic.Frame) int {
	n := q.rx.waiting(len(frames))
	if n == 0 {
		return 0
	}
	entries, holders, mask, first := q.rx.entries, q.holders, q.rx.mask, q.rx.next
	kept := 0
	for i := range n {
		d := &entries[(first+i)&mask]
		chunk := d.addr >> q.shift
		if chunk >= uint64(len(holders)) || holders[chunk] != q.forReceive {
			continue
		}
		holders[chunk] = HeldByWorker
		frames[kept] = nic.Frame{Addr: d.addr, Len: d.len, Port: q.port}
		kept++
	}
	q.rx.release(n)
	q.counts.received.Add(uint64(kept))
	if strays := int(n) - kept; strays > 0 {
		q.counts.stray.Add(uint64(strays))
	}
	return kept
}

// Transmit implements nic.Queue. A frame that does not lie in one chunk is not
// accepted: the kernel would throw it away and never complete it.
func (q *Queue) Transmit(frames []nic.Frame) int {
	n := q.tx.room(len(frames))
	if n < uint32(len(frames)) {
		q.counts.refused.Add(uint64(len(frames)) - uint64(n))
	}
	entries, holders, mask, first := q.tx.entries, q.holders, q.tx.mask, q.tx.next
	for i := range n {
		f := &frames[i]
		if !q.sendable(f) {
			q.counts.invalid.Add(1)
			n = i
			break
		}
		entries[(first+i)&mask] = desc{addr: f.Addr, len: f.Len}
	}
	if n == 0 {
		return 0
	}
	atomic.StoreUint32(&q.record.txIntent, first+n)
	for i := range n {
		holders[frames[i].Addr>>q.shift] = q.forSend
	}
	q.tx.publish(n)
	q.counts.transmitted.Add(uint64(n))
	return int(n)
}

func (q *Queue) sendable(f *nic.Frame) bool {
	return f.Len > 0 && f.Addr&q.chunkMask+uint64(f.Len) <= q.chunkMask+1 && f.Addr>>q.shift < uint64(len(q.holders))
}

// Complete implements nic.Queue.
func (q *Queue) Complete(addrs []uint64) int {
	n := q.completion.waiting(len(addrs))
	if n == 0 {
		return 0
	}
	entries, holders, mask, first := q.completion.entries, q.holders, q.completion.mask, q.completion.next
	kept := 0
	for i := range n {
		addr := entries[(first+i)&mask]
		chunk := addr >> q.shift
		if chunk >= uint64(len(holders)) || holders[chunk] != q.forSend {
			continue
		}
		holders[chunk] = HeldByWorker
		addrs[kept] = addr
		kept++
	}
	q.completion.release(n)
	q.counts.completed.Add(uint64(kept))
	if strays := int(n) - kept; strays > 0 {
		q.counts.stray.Add(uint64(strays))
	}
	return kept
}

// Refill implements nic.Queue.
func (q *Queue) Refill(addrs []uint64) int {
	n := q.fill.room(len(addrs))
	if n == 0 {
		if q.geometry.Admission != nil {
			q.admit()
		}
		return 0
	}
	entries, holders, mask, first := q.fill.entries, q.holders, q.fill.mask, q.fill.next
	for i := range n {
		entries[(first+i)&mask] = addrs[i] &^ q.chunkMask
	}
	atomic.StoreUint32(&q.record.fillIntent, first+n)
	for i := range n {
		holders[addrs[i]>>q.shift] = q.forReceive
	}
	q.fill.publish(n)
	q.counts.refilled.Add(uint64(n))
	if q.geometry.Admission != nil {
		q.admit()
	}
	if q.fill.needsWakeup() {
		q.wakeFill()
	}
	return int(n)
}

// Counters are the queue's own counters.
func (q *Queue) Counters() Counters { return q.counts.snapshot() }

// Taken is how many entries were ever taken out of the socket's RX ring,
// modulo 2^32, by this process and those before it.
func (q *Queue) Taken() uint32 { return q.rx.next }

// Statistics are the kernel's counters of the socket.
func (q *Queue) Statistics() (Statistics, error) { return ReadStatistics(q.fd) }

// FD is the socket's descriptor, for a Waiter; the queue keeps owning it.
func (q *Queue) FD() int { return q.fd }

// Port is the port number that received frames carry.
func (q *Queue) Port() uint16 { return q.port }

// UMEM is the memory that the queue's frames lie in.
func (q *Queue) UMEM() *UMEM { return q.umem }

// Geometry is what the queue was attached with.
func (q *Queue) Geometry() Geometry { return q.geometry }

// ZeroCopy reports whether the driver receives into and sends from the UMEM
// itself.
func (q *Queue) ZeroCopy() bool { return q.zeroCopy }

// Close unmaps the rings and closes the descriptor. The chunks the socket
// holds stay marked as its own: another process may go on with it, or
// handover.Replace takes them back when a new socket stands in for it. No
// method but Counters may be called afterwards; closing again does nothing.
func (q *Queue) Close() error {
	if q.fd < 0 {
		return nil
	}
	fd := q.fd
	q.fd = -1
	return errors.Join(q.unmap(), unix.Close(fd))
}

func (q *Queue) unmap() error {
	return errors.Join(q.fill.unmap(), q.rx.unmap(), q.tx.unmap(), q.completion.unmap())
}
