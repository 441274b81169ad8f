package handover

import (
	"fmt"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
)

// Reclaimed says what a socket held that is no more.
type Reclaimed struct {
	Receive int // chunks, free now
	Send    int // frames handed over for sending and not known to be sent; their chunks are free now
}

// Release frees what the closed socket of a port held. Every process must have
// closed the socket and unmapped its rings (Queue.Close, Socket.Close). With
// zero copy the driver may use the memory for a moment after that; it has
// stopped when a new socket could be bound to the queue or the interface is
// gone.
func Release(pool *nic.Pool, u *xdp.UMEM, port uint16) (Reclaimed, error) {
	receive, send := xdp.HeldForReceive(port), xdp.HeldForSend(port)
	size := uint64(u.Config().ChunkSize)
	for i, h := range u.Custody().Holders() {
		if h != receive && h != send {
			continue
		}
		if err := pool.Reclaim(uint64(i) * size); err != nil {
			return Reclaimed{}, fmt.Errorf("handover: release port %d: %w", port, err)
		}
	}
	var r Reclaimed
	r.Receive, r.Send = u.Custody().Release(port)
	return r, nil
}

// Replace puts a new socket in the place of a port's closed one while the data
// process goes on: it frees what the old socket held, as Release does, and
// makes q ready for use.
func Replace(pool *nic.Pool, q *xdp.Queue) (Reclaimed, error) {
	if !q.Fresh() {
		return Reclaimed{}, fmt.Errorf("handover: the queue of port %d is in use already", q.Port())
	}
	r, err := Release(pool, q.UMEM(), q.Port())
	if err != nil {
		return Reclaimed{}, err
	}
	q.Settle()
	return r, nil
}
