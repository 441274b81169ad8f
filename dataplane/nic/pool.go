package nic

import "fmt"

// Owner says who may touch a chunk of the UMEM.
type Owner uint8

// The owners of a chunk.
const (
	OwnerFree Owner = iota // on the Pool's free list
	OwnerFill              // in a fill ring, or being received into
	OwnerUser              // held by the worker
	OwnerTX                // in a TX ring, or being sent
)

// String names the owner.
func (o Owner) String() string {
	switch o {
	case OwnerFree:
		return "free"
	case OwnerFill:
		return "fill"
	case OwnerUser:
		return "user"
	case OwnerTX:
		return "tx"
	}
	return fmt.Sprintf("owner(%d)", uint8(o))
}

// Pool is one worker's UMEM: memory cut into chunks of equal size, with one
// last-in-first-out free list (the chunk freed last is the one still in the
// cache) and the owner of each chunk. It belongs to one worker and has no
// lock. It keeps to itself on its cache lines, since every frame changes it and
// the next worker's may lie beside it.
type Pool struct {
	_ [cacheLine]byte

	Mem       []byte // the whole UMEM; its length is a multiple of the chunk size
	chunkSize uint64 // a power of two
	headroom  uint64 // bytes kept before a received frame, for outer headers
	shift     uint
	free      []uint64 // chunk base addresses
	owner     []Owner
	count     [OwnerTX + 1]int
	strays    uint64

	_ [cacheLine]byte
}

const cacheLine = 64

// NewPool cuts mem into chunks of chunkSize bytes (a power of two), all free.
// Received frames are to start headroom bytes into their chunk.
func NewPool(mem []byte, chunkSize, headroom int) (*Pool, error) {
	if chunkSize <= 0 || chunkSize&(chunkSize-1) != 0 {
		return nil, fmt.Errorf("chunk size %d is not a power of two", chunkSize)
	}
	if len(mem) == 0 || len(mem)%chunkSize != 0 {
		return nil, fmt.Errorf("memory of %d bytes is not a whole number of %d-byte chunks", len(mem), chunkSize)
	}
	if headroom < 0 || headroom >= chunkSize {
		return nil, fmt.Errorf("headroom %d does not fit a chunk of %d bytes", headroom, chunkSize)
	}
	n := len(mem) / chunkSize
	p := &Pool{Mem: mem, chunkSize: uint64(chunkSize), headroom: uint64(headroom), free: make([]uint64, 0, n), owner: make([]Owner, n)}
	for 1<<p.shift < chunkSize {
		p.shift++
	}
	for i := n - 1; i >= 0; i-- {
		p.free = append(p.free, uint64(i)<<p.shift)
	}
	p.count[OwnerFree] = n
	return p, nil
}

// ChunkSize is the size of a chunk in bytes.
func (p *Pool) ChunkSize() int { return int(p.chunkSize) }

// Headroom is how many bytes lie before a freshly received frame.
func (p *Pool) Headroom() int { return int(p.headroom) }

// Chunks is the number of chunks.
func (p *Pool) Chunks() int { return len(p.owner) }

// Base is the address of the first byte of the chunk that addr lies in.
func (p *Pool) Base(addr uint64) uint64 { return addr &^ (p.chunkSize - 1) }

// Count is how many chunks the owner has now.
func (p *Pool) Count(o Owner) int { return p.count[o] }

// Strays counts completions of chunks that were not being sent. After a crash
// the kernel may complete a chunk that recovery had already declared free;
// such a completion changes nothing.
func (p *Pool) Strays() uint64 { return p.strays }

// Owner tells who owns the chunk that addr lies in.
func (p *Pool) Owner(addr uint64) Owner { return p.owner[addr>>p.shift] }

// Bytes is the frame's memory.
func (p *Pool) Bytes(f Frame) []byte {
	return p.Mem[f.Addr : f.Addr+uint64(f.Len) : p.Base(f.Addr)+p.chunkSize]
}

// Get takes a free chunk for the worker itself (owner user), for a frame it
// makes from nothing. The address is the chunk's base.
func (p *Pool) Get() (addr uint64, ok bool) {
	if len(p.free) == 0 {
		return 0, false
	}
	addr = p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	p.set(addr, OwnerUser)
	return addr, true
}

// Put frees the chunk of a frame the worker holds.
func (p *Pool) Put(addr uint64) {
	p.set(addr, OwnerFree)
	p.free = append(p.free, p.Base(addr))
}

// TakeForFill copies up to len(addrs) free chunks' addresses into addrs, to be
// offered to Queue.Refill. They stay free until Filled says how many were
// accepted.
func (p *Pool) TakeForFill(addrs []uint64) int {
	n := min(len(addrs), len(p.free))
	for i := range n {
		addrs[i] = p.free[len(p.free)-1-i]
	}
	return n
}

// Filled records that the first n addresses of the last TakeForFill were
// accepted by a fill ring.
func (p *Pool) Filled(n int) {
	for range n {
		p.set(p.free[len(p.free)-1], OwnerFill)
		p.free = p.free[:len(p.free)-1]
	}
}

// Received records that the frames came out of an RX ring.
func (p *Pool) Received(frames []Frame) {
	for i := range frames {
		p.set(frames[i].Addr, OwnerUser)
	}
}

// Sent records that the frames went into a TX ring.
func (p *Pool) Sent(frames []Frame) {
	for i := range frames {
		p.set(frames[i].Addr, OwnerTX)
	}
}

// Completed frees the chunks whose frames have been sent.
func (p *Pool) Completed(addrs []uint64) {
	for _, addr := range addrs {
		if p.owner[addr>>p.shift] != OwnerTX {
			p.strays++
			continue
		}
		p.Put(addr)
	}
}

// Claim gives a free chunk to another owner. Recovery after a crash uses it to
// restore what the rings say; it is no part of the hot path.
func (p *Pool) Claim(addr uint64, o Owner) error {
	if have := p.Owner(addr); have != OwnerFree {
		return fmt.Errorf("chunk at %#x is claimed as %s and is already %s", p.Base(addr), o, have)
	}
	base := p.Base(addr)
	for i, a := range p.free {
		if a == base {
			p.free = append(p.free[:i], p.free[i+1:]...)
			p.set(addr, o)
			return nil
		}
	}
	return fmt.Errorf("chunk at %#x is free and not on the free list", base)
}

// Restore gives every chunk the owner that owners says, by chunk number, and
// rebuilds the free list. Recovery after a crash uses it to take over what the
// rings hold: one pass over the chunks, whatever the free list looked like.
// The pool is unchanged when owners does not fit it.
func (p *Pool) Restore(owners []Owner) error {
	if len(owners) != len(p.owner) {
		return fmt.Errorf("%d owners do not fit a pool of %d chunks", len(owners), len(p.owner))
	}
	for i, o := range owners {
		if o > OwnerTX {
			return fmt.Errorf("chunk at %#x: %v is no owner", uint64(i)<<p.shift, o)
		}
	}
	copy(p.owner, owners)
	p.count = [OwnerTX + 1]int{}
	p.free = p.free[:0]
	for i := len(owners) - 1; i >= 0; i-- {
		p.count[owners[i]]++
		if owners[i] == OwnerFree {
			p.free = append(p.free, uint64(i)<<p.shift)
		}
	}
	return nil
}

// Reclaim frees a chunk that a closed queue had taken (owner fill or tx): the
// queue's rings are gone, so neither Receive nor Complete will ever return it.
// It is no part of the hot path.
func (p *Pool) Reclaim(addr uint64) error {
	if addr >= uint64(len(p.Mem)) {
		return fmt.Errorf("address %#x is outside the memory of %d bytes", addr, len(p.Mem))
	}
	if o := p.Owner(addr); o != OwnerFill && o != OwnerTX {
		return fmt.Errorf("chunk at %#x is %s and was in no ring", p.Base(addr), o)
	}
	p.Put(addr)
	return nil
}

// Check verifies that the free list, the owners and the counts agree; tests
// call it after every step.
func (p *Pool) Check() error {
	var count [OwnerTX + 1]int
	for _, o := range p.owner {
		count[o]++
	}
	if count != p.count {
		return fmt.Errorf("owner counts say %v, the chunks %v", p.count, count)
	}
	if len(p.free) != count[OwnerFree] {
		return fmt.Errorf("%d chunks are on the free list, %d are free", len(p.free), count[OwnerFree])
	}
	seen := make(map[uint64]bool, len(p.free))
	for _, a := range p.free {
		if seen[a] {
			return fmt.Errorf("chunk at %#x is on the free list twice", a)
		}
		seen[a] = true
		if p.Owner(a) != OwnerFree {
			return fmt.Errorf("chunk at %#x is on the free list and owned by %s", a, p.Owner(a))
		}
	}
	return nil
}

func (p *Pool) set(addr uint64, o Owner) {
	i := addr >> p.shift
	p.count[p.owner[i]]--
	p.count[o]++
	p.owner[i] = o
}
