package xdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"fairlead/dataplane/nic"
)

// Holder says who holds a chunk: the worker, or one side of one port's socket.
type Holder uint8

// HeldByWorker is the holder of a chunk that no socket has: free, or in the
// worker's hands.
const HeldByWorker Holder = 0

// HeldForReceive is the receive side of a port's socket: its fill ring, the
// driver, or its RX ring.
func HeldForReceive(port uint16) Holder { return Holder(1 + 2*port) }

// HeldForSend is the send side of a port's socket: its TX ring, the driver, or
// its completion ring.
func HeldForSend(port uint16) Holder { return Holder(2 + 2*port) }

// Port is the port of the socket that holds the chunk; ok is false for the
// worker.
func (h Holder) Port() (port uint16, ok bool) {
	return uint16(h-1) / 2, h != HeldByWorker
}

// Owner is the holder as the pool sees it.
func (h Holder) Owner() nic.Owner {
	switch {
	case h == HeldByWorker:
		return nic.OwnerFree
	case h&1 == 1:
		return nic.OwnerFill
	}
	return nic.OwnerTX
}

// String names the holder.
func (h Holder) String() string {
	port, ok := h.Port()
	switch {
	case !ok:
		return "worker"
	case h&1 == 1:
		return fmt.Sprintf("port %d receive", port)
	}
	return fmt.Sprintf("port %d send", port)
}

// Custody is the record of who holds each chunk of a UMEM. It lies in shared
// memory behind the chunks and outlives the process that writes it; the rules
// of writing are in the package's documentation. One worker writes it.
type Custody struct {
	holders []Holder // by chunk number
	ports   *[nic.MaxPorts]portRecord
}

// portRecord is what outlives the data process besides the holders: of which
// socket a port's marks speak, and the intents of the two rings it produces
// into. It has a cache line of its own.
type portRecord struct {
	cookie     uint64 // SO_COOKIE of the socket, 0 when there was none yet
	fillIntent uint32 // producer index that Refill is about to publish
	txIntent   uint32 // producer index that Transmit is about to publish
	_          [48]byte
}

const portRecordsSize = int(unsafe.Sizeof([nic.MaxPorts]portRecord{}))

func custodySize(chunks int) int { return portRecordsSize + chunks }

// newCustody lays the table over mem, which is page-aligned.
func newCustody(mem []byte, cfg UMEMConfig) *Custody {
	return &Custody{
		ports:   (*[nic.MaxPorts]portRecord)(unsafe.Pointer(&mem[0])),
		holders: unsafe.Slice((*Holder)(unsafe.Pointer(&mem[portRecordsSize])), cfg.Chunks),
	}
}

// Holders are the holders by chunk number: the table itself, not a copy.
func (c *Custody) Holders() []Holder { return c.holders }

// Cookie identifies the socket that a port's marks speak of, 0 for none.
func (c *Custody) Cookie(port uint16) uint64 { return atomic.LoadUint64(&c.ports[port].cookie) }

// Release marks everything that a port's socket held as the worker's and
// returns how many chunks its receive and its send side held. It is right only
// when that socket is closed and every process has unmapped it.
func (c *Custody) Release(port uint16) (receive, send int) {
	for i, h := range c.holders {
		switch h {
		case HeldForReceive(port):
			receive++
		case HeldForSend(port):
			send++
		default:
			continue
		}
		c.holders[i] = HeldByWorker
	}
	return receive, send
}
