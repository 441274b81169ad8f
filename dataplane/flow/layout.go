package flow

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// The table's memory, in this order: header, index, records, peers. All of it
// is 64-bit words read and written atomically, so that a process killed
// between any two stores leaves only states that the next one understands.
//
//	header   4096 bytes: geometry and hash seed
//	index    buckets of 64 bytes: one control word, seven slots
//	records  64 bytes each: one flow
//	peers    65536 words: learned link-layer return paths
const (
	headerSize      = 4096
	lineSize        = 64
	bucketSlots     = 7
	minBuckets      = maxProbes
	peerSlots       = 1 << 16
	peerSize        = 8
	layoutVersion   = 1
	magic           = 0x66_6c_6f_77_74_61_62_6c // "flowtabl"
	maxWorkers      = 1 << 10
	loadNumerator   = 3 // the index is at most 3/5 full with every flow holding two slots
	loadDenominator = 5
)

// MaxFlows is the most flows a table can be made for.
const MaxFlows = 1 << 28

// Words of the header.
const (
	hdrMagic = iota // written last when formatting
	hdrVersion
	hdrFlows
	hdrBuckets
	hdrSeed0
	hdrSeed1
	hdrAdoptions // how many processes have used the table
	hdrWords
)

// ErrGeometry says that memory holds a flow table of another size or layout.
var ErrGeometry = errors.New("flow table geometry differs")

// Config says how a table is made and used.
type Config struct {
	Flows     int       // most flows at a time
	Workers   int       // workers that share the table; may differ between processes
	Seed      [2]uint64 // key of the hash, used when the memory is formatted
	SNATGuard uint32    // milliseconds that a NAT flow's outside tuple rests after the flow is closed or forgotten
}

// Table is the flow table. Lookups and changes to a known flow may come from
// any goroutine; flows are added through a Worker, each of which belongs to
// one goroutine. Only one process at a time may change a table.
type Table struct {
	key     hashKey
	mask    uint64 // buckets - 1
	index   []bucket
	records []record
	peers   []uint64
	workers []*Worker
	guard   uint32
	locks   [stripes]spinLock
	onEvict func(*Flow)
}

// bucket is one cache line of the index: word 0 counts the keys that passed
// this bucket because it was full, words 1 to 7 are slots.
type bucket [1 + bucketSlots]uint64

func buckets(flows int) int {
	slots := (2*flows*loadDenominator + loadNumerator - 1) / loadNumerator
	n := max((slots+bucketSlots-1)/bucketSlots, minBuckets)
	return 1 << bits.Len(uint(n-1))
}

// Size is the number of bytes that a table for the given number of flows
// needs.
func Size(flows int) int {
	return headerSize + buckets(flows)*lineSize + flows*lineSize + peerSlots*peerSize
}

// New lays a table over mem. Zeroed memory is formatted; memory that already
// holds a table of the same geometry is adopted as it is, with the seed it was
// made with, and so are all flows in it. Neither reads more than the header.
// The error is ErrGeometry when mem holds something else.
func New(mem []byte, cfg Config) (*Table, error) {
	if cfg.Flows < 1 || cfg.Flows > MaxFlows {
		return nil, fmt.Errorf("flow table for %d flows: want 1 to %d", cfg.Flows, MaxFlows)
	}
	if cfg.Workers < 1 || cfg.Workers > min(maxWorkers, cfg.Flows) {
		return nil, fmt.Errorf("flow table of %d flows for %d workers: want 1 to %d", cfg.Flows, cfg.Workers, min(maxWorkers, cfg.Flows))
	}
	if len(mem) < Size(cfg.Flows) {
		return nil, fmt.Errorf("flow table for %d flows needs %d bytes, the memory has %d", cfg.Flows, Size(cfg.Flows), len(mem))
	}
	if uintptr(unsafe.Pointer(&mem[0]))%lineSize != 0 {
		return nil, fmt.Errorf("flow table memory is not aligned to %d bytes", lineSize)
	}
	n := buckets(cfg.Flows)
	hdr := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), hdrWords)
	adopted, err := openHeader(hdr, cfg, n)
	if err != nil {
		return nil, err
	}
	t := &Table{mask: uint64(n - 1), guard: min(cfg.SNATGuard, MaxTimeout)}
	at := headerSize
	t.index = unsafe.Slice((*bucket)(unsafe.Pointer(&mem[at])), n)
	at += n * lineSize
	t.records = unsafe.Slice((*record)(unsafe.Pointer(&mem[at])), cfg.Flows)
	at += cfg.Flows * lineSize
	t.peers = unsafe.Slice((*uint64)(unsafe.Pointer(&mem[at])), peerSlots)
	t.key = expandSeed(atomic.LoadUint64(&hdr[hdrSeed0]), atomic.LoadUint64(&hdr[hdrSeed1]))
	adoptions := atomic.AddUint64(&hdr[hdrAdoptions], 1)
	for i := range cfg.Workers {
		first := uint32(uint64(cfg.Flows) * uint64(i) / uint64(cfg.Workers))
		last := uint32(uint64(cfg.Flows) * uint64(i+1) / uint64(cfg.Workers))
		t.workers = append(t.workers, newWorker(t, i, first, last, adoptions, adopted))
	}
	return t, nil
}

// openHeader formats or checks the header and reports whether the memory held
// a table before.
func openHeader(hdr []uint64, cfg Config, buckets int) (adopted bool, err error) {
	want := [...]struct {
		word int
		name string
		have uint64
	}{
		{hdrVersion, "layout version", layoutVersion},
		{hdrFlows, "flows", uint64(cfg.Flows)},
		{hdrBuckets, "buckets", uint64(buckets)},
	}
	switch m := atomic.LoadUint64(&hdr[hdrMagic]); m {
	case 0:
		for _, w := range want {
			atomic.StoreUint64(&hdr[w.word], w.have)
		}
		atomic.StoreUint64(&hdr[hdrSeed0], cfg.Seed[0])
		atomic.StoreUint64(&hdr[hdrSeed1], cfg.Seed[1])
		atomic.StoreUint64(&hdr[hdrMagic], magic)
		return false, nil
	case magic:
		for _, w := range want {
			if got := atomic.LoadUint64(&hdr[w.word]); got != w.have {
				return false, fmt.Errorf("%w: the memory has %d %s, the configuration %d", ErrGeometry, got, w.name, w.have)
			}
		}
		return true, nil
	default:
		return false, fmt.Errorf("%w: the memory holds something else (magic %#x)", ErrGeometry, m)
	}
}

// OnEvict has fn told of every flow in a plain state that is evicted to make
// room, after no lookup finds it any more. fn is called by the worker that
// evicts, keeps no pointer, and is set before the table is used.
func (t *Table) OnEvict(fn func(*Flow)) { t.onEvict = fn }

// Worker is the i-th worker's way to add flows, from 0 to Config.Workers-1.
func (t *Table) Worker(i int) *Worker { return t.workers[i] }

// Workers is how many workers share the table.
func (t *Table) Workers() int { return len(t.workers) }

// Capacity is the most flows the table can hold.
func (t *Table) Capacity() int { return len(t.records) }
