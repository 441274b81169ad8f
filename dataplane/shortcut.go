package dataplane

import (
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/reason"
)

// shortcuts are which frames of a batch may go by a memo.
type shortcuts struct {
	plain    [nic.BatchSize]bool // memos may be made of the packet
	known    [nic.BatchSize]bool // there seems to be a memo for it
	packets  [nic.BatchSize]memo.Plain
	memoKeys [nic.BatchSize]memo.Key
	memoHash [nic.BatchSize]uint64
	places   [nic.BatchSize]memo.Place
	slow     [nic.BatchSize + 1]uint8 // the frames without a memo, in their order
	slows    int
}

// findShortcuts is the pass before the first: it tells the frames that seem to
// have a memo from those that are to be parsed and decided upon.
func (w *Worker) findShortcuts(b *batch) {
	b.slows = 0
	if w.Memos == nil || !w.Memos.Ready() {
		for i := range b.n {
			b.slow[i] = uint8(i)
			b.plain[i], b.known[i] = false, false
		}
		b.slows = b.n
		return
	}
	for i := range b.n {
		if b.plain[i] = w.placeMemo(b, i); !b.plain[i] {
			b.memoKeys[i].Rest = memo.NoKey
		}
	}
	for _, hash := range b.memoHash[:b.n] {
		w.Memos.Touch(hash)
	}
	// Who is in the first place is not to be guessed, so there is no branch: each
	// is written to the list of the others, and stays there when it counts.
	misses := 0
	for i := range b.n {
		place, missed := w.Memos.First(&b.memoKeys[i], b.memoHash[i])
		b.places[i], b.known[i] = place, true
		b.slow[misses] = uint8(i)
		misses += missed
	}
	for _, i := range b.slow[:misses] {
		w.Memos.TouchOthers(b.memoHash[i])
	}
	for _, i := range b.slow[:misses] {
		b.known[i] = false
		if b.plain[i] {
			b.places[i], b.known[i] = w.Memos.Other(&b.memoKeys[i], b.memoHash[i])
		}
		b.slow[b.slows] = i
		if !b.known[i] {
			b.slows++
		}
	}
}

// placeMemo reads a frame as far as it is plain and finds the place of its
// memo.
func (w *Worker) placeMemo(b *batch, i int) bool {
	f, p := &b.frames[i], &b.packets[i]
	base := w.Pool.Base(f.Addr)
	if f.Addr-base < memo.MostOverhead || !memo.Parse(w.Pool.Mem[f.Addr:base+uint64(w.Pool.ChunkSize())], int(f.Len), p) {
		return false
	}
	l := w.snapshot.Local(p.Dst)
	if l == nil {
		return false
	}
	k := &b.memoKeys[i]
	k.Hi, k.Lo, k.Rest = p.Peer.Hi, p.Peer.Lo, uint64(p.Ports)<<32|uint64(l.ID)<<16|uint64(p.Proto)<<8
	b.memoHash[i] = w.Memos.Hash(k)
	return true
}

// shortcut carries a packet by its memo. It is false, and nothing has happened,
// when there is none that holds.
func (w *Worker) shortcut(b *batch, i int) bool {
	m, p, f := &w.memo, &b.packets[i], &b.frames[i]
	if !w.Memos.Read(b.places[i], &b.memoKeys[i], w.now, m) || !m.Fits(w.Pool.Mem[f.Addr:], p, memo.Ingress(f.Port, w.ifIndex[f.Port])) {
		return false
	}
	r := m.Route
	if r.Op == memo.IPIP || r.Op == memo.GUE {
		w.entropy++
	}
	at, length := m.Apply(w.Pool.Mem, int(f.Addr), int(f.Len), p, uint16(w.entropy))
	s, d := &w.Counters.Services[r.Service], &w.Counters.Backends[r.Backend]
	s.Packets++
	s.Bytes += uint64(f.Len)
	d.Packets++
	d.Bytes += uint64(f.Len)
	why := reason.ForwardFlow
	if r.Op == memo.NATReply {
		why = reason.ReplyFlow
	}
	sent := nic.Frame{Addr: uint64(at), Len: uint32(length), Port: f.Port}
	if w.watched {
		v := verdictOf(r, why)
		w.at = i
		w.show(sent, r.Port, &v)
	}
	w.send(sent, r.Port, why)
	return true
}

// verdictOf is the verdict that a route was made of.
func verdictOf(r *memo.Route, why reason.Reason) Verdict {
	op := [...]Op{memo.NATForward: OpNATForward, memo.NATReply: OpNATReply, memo.IPIP: OpIPIP, memo.GUE: OpGUE, memo.L2: OpL2}[r.Op]
	return Verdict{Action: reason.Transmit, Reason: why, Op: op, FlowOp: FlowTouch, Service: r.Service, Backend: r.Backend, NextHop: r.NextHop}
}
