package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// handle is the second pass for one frame: look up its flow, decide, and carry
// the verdict out.
func (w *Worker) handle(b *batch, i int) {
	info := &b.infos[i]
	w.hash = b.hashes[i]
	in := Input{Snapshot: w.snapshot, Frame: w.Pool.Bytes(b.frames[i]), Info: info, Local: b.locals[i]}
	ref := flow.NoRef
	if b.keyed[i] {
		var ok bool
		if ref, in.Dir, ok = w.Flows.Lookup(&b.keys[i], w.hash, w.now, &w.found); ok {
			in.Flow = &w.found
			if in.Dir == flow.Reply {
				in.MTU = w.returnMTU(&w.found)
			}
		} else {
			w.affinity(&in)
		}
	}
	w.at = i
	v := none
	decide(&in, &v)
	if v.FlowOp == FlowReplace && w.affinity(&in) {
		v = none
		decide(&in, &v)
	}
	if v.FlowOp == FlowInsert || v.FlowOp == FlowReplace {
		w.open(b.frames[i], &in, ref, &v)
		return
	}
	w.carryOut(b.frames[i], &in, ref, &v)
}

// open records the flow that a packet opens, and carries the packet out. When
// another worker was faster with the same tuple, the packet is one of that
// worker's flow, and is decided upon as such.
func (w *Worker) open(f nic.Frame, in *Input, ref flow.Ref, v *Verdict) {
	if v.FlowOp == FlowReplace {
		w.forget(ref, in.Flow)
	}
	in.Flow, in.Dir, in.Affinity = &w.created, flow.Forward, nil
	if ref, ours := w.record(f, in, &w.created, v); !ours {
		*v = none
		decide(in, v)
		if v.FlowOp == FlowInsert || v.FlowOp == FlowReplace {
			// The two workers have not got the same snapshot, and the flow is
			// at an end already: the client's next packet opens another.
			v.drop(reason.BackendGone)
			v.forget(in)
		}
		w.carryOut(f, in, ref, v)
		return
	}
	v.FlowOp = FlowNone
	w.carryOut(f, in, flow.NoRef, v)
}

// affinity looks up the client's session affinity record, if the service the
// packet would match keeps any.
func (w *Worker) affinity(in *Input) (found bool) {
	local, info := in.Local, in.Info
	if local.Kind != fib.LocalVIP || !isTransport(info.Proto) {
		return false
	}
	svc := w.snapshot.Service(local.ID, info.Proto, info.DstPort)
	if svc == nil || svc.Affinity == 0 {
		return false
	}
	key := affinityKey(svc, info.Src)
	if _, _, found = w.Flows.Lookup(&key, w.Flows.Hash(&key), w.now, &w.sticky); found {
		in.Affinity = &w.sticky
		in.Over = !(w.now + flow.Time(rememberAffinity(svc)-svc.AffinityMS)).Before(w.sticky.Deadline)
	}
	return found
}

// rememberAffinity is how many milliseconds a session affinity record stays: twice
// as long as it holds, where a flow may be kept that long. A client that comes in
// the second half is seen to have been here, and may go anywhere; without a record
// its hash would send it where it has always been.
func rememberAffinity(svc *fib.Service) uint32 {
	return svc.AffinityMS + min(svc.AffinityMS, flow.MaxTimeout-svc.AffinityMS)
}

// carryOut does to the frame and to the flow table what the verdict says.
// An answer for which there is no budget leaves the flow alone: the packet that
// asks again is to get it.
func (w *Worker) carryOut(f nic.Frame, in *Input, ref flow.Ref, v *Verdict) {
	if set := w.snapshot.Settings(); limited(v.Op) && !w.answers.allow(w.now, set.ReplyRate, set.ReplyBurst) {
		v.drop(reason.ReplyRateLimited)
	}
	switch v.FlowOp {
	case FlowTouch:
		w.touch(f, in, ref, v)
	case FlowForget:
		w.forget(ref, in.Flow)
	case FlowReset:
		w.reset(in, ref, v)
	}
	switch {
	case v.Action == reason.Drop:
		w.end(f, v)
	case v.Action == reason.Pass:
		if !w.PassToHost {
			v.drop(reason.StaleSteering)
		}
		w.end(f, v)
	case answers(v.Op):
		w.answer(f, in, v)
	default:
		w.forward(f, in.Info, in.Flow, v)
	}
}

// touch advances the flow's state and idle time, and follows a client whose
// packets have begun to come another way. What memos say of the flow is dropped
// after what they were made of has changed, and renewed when nothing has.
func (w *Worker) touch(f nic.Frame, in *Input, ref flow.Ref, v *Verdict) {
	fl := in.Flow
	svc := &w.snapshot.Services()[fib.ID(fl.ServiceID).Slot()]
	to := w.timeouts[svc.Timeouts].of(in.Info.Proto)
	before := fl.State
	told := fl.Told()
	if told { // it has come here; those who were told of it have to hear so
		w.Flows.SetVia(ref, fl, 0)
	}
	w.Flows.Advance(ref, fl, in.Dir, in.Info.TCPFlags, w.now, to)
	if w.Tells != nil && (told || fl.State != before) {
		w.tellOf(fl)
	}
	if fl.SNAT != 0 && in.Dir == flow.Forward {
		mac := packet.Ethernet(w.Pool.Bytes(f)).SrcMAC()
		if !w.Flows.IsPeer(fl.Via, f.Port, mac) {
			w.Flows.SetVia(ref, fl, w.Flows.PeerOf(f.Port, mac))
			w.dropMemos(fl)
		}
	}
	if w.Memos == nil {
		return
	}
	if before.Plain() && !fl.State.Plain() {
		w.dropMemos(fl)
	} else if w.main.plain[w.at] {
		w.remember(f, in, ref, v, to.At(fl.State))
	}
}

// reset notes that a flow's connection is reset from our side.
func (w *Worker) reset(in *Input, ref flow.Ref, v *Verdict) {
	to := &w.timeouts[w.snapshot.Services()[v.Service].Timeouts]
	w.Flows.Advance(ref, in.Flow, flow.Reply, packet.TCPFlagRST, w.now, to.of(in.Info.Proto))
	w.dropMemos(in.Flow)
}

// forget ends a flow.
func (w *Worker) forget(ref flow.Ref, f *flow.Flow) {
	w.flows.Forget(ref, f)
	w.dropMemos(f)
}

// record enters a new flow into the table. Methods with direct reply can do
// without when there is no room; NAT cannot. It is not ours when another worker
// has recorded a flow with this tuple: then fl is that flow, and ref leads to
// it.
//
// Of TCP, only what the client sends next shows that the flow is more than a
// forged packet. Until then it is half-open, and so among the first to go when
// the table is full, even where a connection that began elsewhere is taken up
// in its middle; but that one may be idle for as long as any.
func (w *Worker) record(f nic.Frame, in *Input, fl *flow.Flow, v *Verdict) (ref flow.Ref, ours bool) {
	s, info := w.snapshot, in.Info
	svc, b := &s.Services()[v.Service], s.Backend(v.Backend)
	to := w.timeouts[svc.Timeouts].of(info.Proto)
	*fl = flow.Flow{
		Client: info.Src, ClientPort: info.SrcPort, VIP: in.Local.ID, VIPPort: info.DstPort,
		Proto: info.Proto, ServiceID: uint32(svc.ID), BackendID: uint32(b.ID),
	}
	timeout := to.Unreplied
	fl.State = flow.StateUnreplied
	if info.Proto == packet.ProtoTCP {
		fl.State, timeout = flow.StateHalfOpen, to.Established
		if info.TCPFlags&packet.TCPFlagSYN != 0 {
			timeout = to.HalfOpen
		}
		if info.TCPFlags&packet.TCPFlagRST != 0 {
			fl.State, timeout = flow.StateClosed, to.Closed
		}
	}
	if svc.Method != fib.MethodNAT {
		ref, ok := w.flows.Insert(fl, w.now, timeout)
		if ok && (fl.BackendID != uint32(b.ID) || fl.ServiceID != uint32(svc.ID) || fl.SNAT != 0) {
			return ref, false
		}
		if !ok {
			v.Reason = reason.ForwardStateless
			w.Counters.Ledger.Stateless++
		}
		w.opened(svc, b, info)
		return ref, true
	}
	ports := w.snat4
	if !b.Addr.Is4() {
		ports = w.snat6
	}
	fl.Backend, fl.BackendPort = b.Addr, b.Port
	if b.Port == 0 {
		fl.BackendPort = info.DstPort
	}
	fl.Via = w.Flows.PeerOf(f.Port, packet.Ethernet(w.Pool.Bytes(f)).SrcMAC())
	ref, result := w.flows.Bind(fl, ports, w.now, timeout)
	switch result {
	case flow.Exhausted:
		v.drop(reason.SNATExhausted)
	case flow.Full:
		v.drop(reason.FlowTableFull)
	case flow.Bound:
		w.opened(svc, b, info)
	}
	return ref, result != flow.Existing
}

// opened counts a new flow and keeps the client's session affinity.
func (w *Worker) opened(svc *fib.Service, b *fib.Backend, info *packet.Info) {
	w.Counters.Services[svc.ID.Slot()].Flows++
	w.Counters.Backends[b.ID.Slot()].Flows++
	if svc.Affinity == 0 {
		return
	}
	key := affinityKey(svc, info.Src)
	var old flow.Flow
	if ref, _, ok := w.Flows.Lookup(&key, w.Flows.Hash(&key), w.now, &old); ok {
		if old.BackendID == uint32(b.ID) {
			w.Flows.Refresh(ref, &old, w.now, rememberAffinity(svc))
			return
		}
		w.flows.Forget(ref, &old)
	}
	w.flows.Insert(&flow.Flow{
		Client: key.Peer, VIP: key.Local, VIPPort: key.LocalPort, Proto: key.Proto,
		State: flow.StateAffinity, ServiceID: uint32(svc.ID), BackendID: uint32(b.ID),
	}, w.now, rememberAffinity(svc))
}

// affinityKey is the key of a client's session affinity record at a service.
func affinityKey(svc *fib.Service, client packet.Addr) flow.Key {
	key := flow.Key{Peer: client, Local: svc.Local, LocalPort: svc.PortFirst, Proto: flow.ProtoAffinityUDP}
	switch svc.Proto {
	case packet.ProtoTCP:
		key.Proto = flow.ProtoAffinityTCP
	case packet.ProtoSCTP:
		key.Proto = flow.ProtoAffinitySCTP
	}
	return key
}

// returnMTU is the MTU of the interface that replies to the flow's client
// leave by, 0 when none is known.
func (w *Worker) returnMTU(f *flow.Flow) uint32 {
	port, _, ok := w.Flows.Peer(f.Via)
	if !ok || int(port) >= len(w.snapshot.Interfaces()) {
		return 0
	}
	return w.snapshot.Interface(port).MTU
}
