package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/tell"
)

// tellOf has peers told of a flow whose state has changed, if it is an exception:
// one that they would send elsewhere. A connection counts from when it is
// established, so that forged SYNs are told to nobody.
func (w *Worker) tellOf(f *flow.Flow) {
	if f.Proto != packet.ProtoTCP || f.State == flow.StateHalfOpen || Known(w.snapshot, f) {
		return
	}
	w.Tells.Tell(&tell.Record{
		Client: f.Client, ClientPort: f.ClientPort, VIP: f.VIP, VIPPort: f.VIPPort, Proto: f.Proto,
		ServiceID: f.ServiceID, BackendID: f.BackendID, State: f.State, Remaining: uint32(f.Deadline - w.now),
	})
}

// toldAtOnce is how many flows that peers have told of are taken in a round.
const toldAtOnce = 256

// takeTold takes over what peers have told, before the round's packets: one of
// them may be the first of such a flow.
func (w *Worker) takeTold() {
	if w.Tells == nil {
		return
	}
	for range toldAtOnce {
		r := w.Tells.Next()
		if r == nil {
			return
		}
		w.Tells.Take(w.learn(r))
	}
}

// learn takes over one flow that a peer has told of. It is not ok when there is
// no such service or backend here, or no room.
func (w *Worker) learn(r *tell.Record) (ok bool) {
	s := w.snapshot
	svc, b := s.ServiceByID(fib.ID(r.ServiceID)), s.BackendByID(fib.ID(r.BackendID))
	ended := r.State == flow.StateClosed // at whatever backend
	if svc == nil || svc.Method == fib.MethodNAT || r.VIP != svc.Local || !ended && (b == nil || b.Pool != svc.Pool) {
		return false
	}
	key := flow.Key{Peer: r.Client, Local: r.VIP, PeerPort: r.ClientPort, LocalPort: r.VIPPort, Proto: r.Proto}
	hash := w.Flows.Hash(&key)
	f := &w.told
	if ref, dir, there := w.Flows.Lookup(&key, hash, w.now, f); there {
		if dir == flow.Forward {
			w.correct(ref, f, r)
		}
		return true
	}
	if ended {
		return true
	}
	*f = flow.Flow{
		Client: r.Client, ClientPort: r.ClientPort, VIP: r.VIP, VIPPort: r.VIPPort, Proto: r.Proto,
		ServiceID: r.ServiceID, BackendID: r.BackendID, State: learned(r), Via: flow.ViaTold,
	}
	_, ok = w.flows.Insert(f, w.now, keep(r))
	return ok
}

// keep is for how many milliseconds a flow that a peer has told of is kept.
func keep(r *tell.Record) uint32 {
	return uint32(min(uint64(r.Remaining)+uint64(r.Slack), uint64(flow.MaxTimeout)))
}

// learned is the state of a flow that a peer has told of.
func learned(r *tell.Record) flow.State {
	switch {
	case r.Proto != packet.ProtoTCP:
		return flow.StateStream
	case r.State == flow.StateFinWait:
		return flow.StateFinWait
	}
	return flow.StateEstablished
}

// seenLater is by how many milliseconds a peer has to have seen a packet of a flow
// later than this node for it to be the peer's: what is told has whole seconds.
const seenLater = 2000

// correct brings a flow that is known here already up to date. What a peer told
// before, it may change, and so may one that has seen a packet of the flow later:
// the flow has moved there, and as long as it stays, this node keeps what it is
// told. Else, what packets have shown here stands, unless it was only a guess: a
// flow that was met in its middle, and sent by the base, until the one who has
// seen its beginning tells where it belongs.
//
// Of two nodes that tell each other of a flow, at most one leaves it to the other
// so. Neither keeps it alive for ever, therefore.
func (w *Worker) correct(ref flow.Ref, f *flow.Flow, r *tell.Record) {
	told := f.Told()
	if r.State == flow.StateClosed {
		if told {
			w.forget(ref, f)
		}
		return
	}
	remaining := min(r.Remaining, flow.MaxTimeout)
	later := !told && f.SNAT == 0 && int32(f.Deadline-w.now) < int32(remaining)-seenLater
	if f.BackendID != r.BackendID && (told || later || f.Proto == packet.ProtoTCP && Known(w.snapshot, f)) {
		if w.Flows.Move(ref, f, r.BackendID) {
			w.dropMemos(f)
		}
	}
	if later {
		w.Flows.SetVia(ref, f, flow.ViaTold)
		w.dropMemos(f)
	}
	if told || later {
		w.Flows.Refresh(ref, f, w.now, keep(r))
	}
}
