package flow

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Reader looks at a table that another process changes, in memory that may be
// mapped for reading only. It takes no lock and writes nothing, so whoever
// changes the table does not notice. It may be used by any goroutine.
type Reader struct {
	header  []uint64
	records []record
	peers   []uint64
}

// NewReader lays a reader over the memory of a table for so many flows. A table
// that was not made yet is empty.
func NewReader(mem []byte, flows int) (*Reader, error) {
	if flows < 1 || flows > MaxFlows {
		return nil, fmt.Errorf("flow table for %d flows: want 1 to %d", flows, MaxFlows)
	}
	if len(mem) < Size(flows) {
		return nil, fmt.Errorf("flow table for %d flows needs %d bytes, the memory has %d", flows, Size(flows), len(mem))
	}
	if uintptr(unsafe.Pointer(&mem[0]))%lineSize != 0 {
		return nil, errors.New("flow table memory is not aligned")
	}
	records := headerSize + buckets(flows)*lineSize
	peers := records + flows*lineSize
	return &Reader{
		header:  unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), hdrWords),
		records: unsafe.Slice((*record)(unsafe.Pointer(&mem[records])), flows),
		peers:   unsafe.Slice((*uint64)(unsafe.Pointer(&mem[peers])), peerSlots),
	}, nil
}

// Check reports whether the memory holds a table of this geometry; ErrGeometry
// when it holds another.
func (r *Reader) Check() error {
	switch m := atomic.LoadUint64(&r.header[hdrMagic]); {
	case m == 0:
		return nil
	case m != magic || atomic.LoadUint64(&r.header[hdrVersion]) != layoutVersion || atomic.LoadUint64(&r.header[hdrFlows]) != uint64(len(r.records)):
		return ErrGeometry
	}
	return nil
}

// Len is how many records the table has; a flow has one of them for all its
// life.
func (r *Reader) Len() int { return len(r.records) }

// readTries is how often a record that changes under our eyes is read again. A
// record is written in nanoseconds and then stays for a flow's life, so one that
// changes so often is not what it should be.
const readTries = 16

// Read copies the flow in a record to f. It is false when there is none that
// lives, or none that could be read whole: f is never put together from two
// flows.
func (r *Reader) Read(i int, now Time, f *Flow) bool {
	rec := &r.records[i]
	if !rec.life().live(now) {
		return false
	}
	for range readTries {
		l, done, ok := rec.readOnce(f)
		if done {
			return ok && l.live(now)
		}
	}
	return false
}

// Peer is the link-layer way back to a flow's client, by Flow.Via.
func (r *Reader) Peer(via uint16) (port uint16, mac [6]byte, ok bool) {
	return peerAt(r.peers, via)
}

// Incarnation tells successive flows in one record apart.
func (f *Flow) Incarnation() uint32 { return f.seq }
