package memo

import (
	"sync/atomic"

	"fairlead/dataplane/ledger"
	"fairlead/dataplane/reason"
)

// KeepAccount enters what the kernel forwards by memos into counters: in
// Account, and whenever a route's place is given to another.
func (t *Table) KeepAccount(c ledger.Counters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kernel {
		t.retire = func(i uint16) { t.account(i, c) }
	}
}

// Account enters what the kernel has forwarded since the last time.
func (t *Table) Account() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.fresh {
		if t.retire != nil {
			t.retire(uint16(i))
		}
	}
}

// account enters what went by one route. A packet that the kernel has forwarded
// was received and has ended, so the ledger balances by itself.
func (t *Table) account(i uint16, to ledger.Counters) {
	var packets, bytes, sent uint64
	for at := int(i); at < len(t.counts); at += len(t.routes) {
		c := &t.counts[at]
		packets += take(&c.Packets, &c.packets)
		bytes += take(&c.Bytes, &c.bytes)
		sent += take(&c.BytesSent, &c.bytesSent)
	}
	if packets == 0 {
		return
	}
	r, l := &t.routes[i], to.Ledger
	why := reason.ForwardFlow
	if r.Op == NATReply {
		why = reason.ReplyFlow
	}
	l.Received += packets
	l.Ended[why] += packets
	l.ByMemo += packets
	l.TX[r.Port] += packets
	l.Bytes += bytes
	l.BytesSent += sent
	for _, tally := range []*ledger.Tally{&to.Services[r.Service], &to.Backends[r.Backend]} {
		tally.Packets += packets
		tally.Bytes += bytes
	}
}

// take is by how much a counter has grown since it was last taken.
func take(counter, taken *uint64) uint64 {
	now := atomic.LoadUint64(counter)
	grown := now - *taken
	*taken = now
	return grown
}
