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
		} else if w.affinity(in.Local, info, &w.sticky) {
			in.Affinity = &w.sticky
		}
	}
	v := none
	decide(&in, &v)
	w.carryOut(b.frames[i], &in, ref, &v)
}

// affinity looks up the client's session affinity record, if the service the
// packet would match keeps any.
func (w *Worker) affinity(local *fib.Local, info *packet.Info, f *flow.Flow) bool {
	if local.Kind != fib.LocalVIP || !isTransport(info.Proto) {
		return false
	}
	svc := w.snapshot.Service(local.ID, info.Proto, info.DstPort)
	if svc == nil || svc.Affinity == 0 {
		return false
	}
	key := affinityKey(svc, info.Src)
	_, _, ok := w.Flows.Lookup(&key, w.Flows.Hash(&key), w.now, f)
	return ok
}

// carryOut does to the frame and to the flow table what the verdict says.
func (w *Worker) carryOut(f nic.Frame, in *Input, ref flow.Ref, v *Verdict) {
	fl := in.Flow
	switch v.FlowOp {
	case FlowTouch:
		w.touch(f, in, ref)
	case FlowForget:
		w.flows.Forget(ref, fl)
	case FlowReplace:
		w.flows.Forget(ref, fl)
		fallthrough
	case FlowInsert:
		fl = &w.created
		w.record(f, in, fl, v)
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
		w.forward(f, in.Info, fl, v)
	}
}

// touch advances the flow's state and idle time, and follows a client whose
// packets have begun to come another way.
func (w *Worker) touch(f nic.Frame, in *Input, ref flow.Ref) {
	svc := &w.snapshot.Services()[fib.ID(in.Flow.ServiceID).Slot()]
	w.Flows.Advance(ref, in.Flow, in.Dir, in.Info.TCPFlags, w.now, w.timeouts[svc.Timeouts].of(in.Info.Proto))
	if in.Flow.SNAT == 0 || in.Dir != flow.Forward {
		return
	}
	mac := packet.Ethernet(w.Pool.Bytes(f)).SrcMAC()
	if port, known, ok := w.Flows.Peer(in.Flow.Via); !ok || port != f.Port || known != mac {
		w.Flows.SetVia(ref, in.Flow, w.Flows.PeerOf(f.Port, mac))
	}
}

// record enters a new flow into the table. Methods with direct reply can do
// without when there is no room; NAT cannot.
func (w *Worker) record(f nic.Frame, in *Input, fl *flow.Flow, v *Verdict) {
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
		fl.State, timeout = flow.StateEstablished, to.Established
		if info.TCPFlags&packet.TCPFlagSYN != 0 {
			fl.State, timeout = flow.StateHalfOpen, to.HalfOpen
		}
		if info.TCPFlags&packet.TCPFlagRST != 0 {
			fl.State, timeout = flow.StateClosed, to.Closed
		}
	}
	if svc.Method != fib.MethodNAT {
		if _, ok := w.flows.Insert(fl, w.now, timeout); !ok {
			v.Reason = reason.ForwardStateless
			w.Counters.Ledger.Stateless++
		}
		w.opened(svc, b, info)
		return
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
	switch _, result := w.flows.Bind(fl, ports, w.now, timeout); result {
	case flow.Exhausted:
		v.drop(reason.SNATExhausted)
	case flow.Full:
		v.drop(reason.FlowTableFull)
	case flow.Existing:
		// Another worker was faster with the same tuple; fl is its flow now.
		if backend := s.BackendByID(fib.ID(fl.BackendID)); backend != nil {
			v.Backend, v.NextHop = backend.ID.Slot(), backend.NextHop
		}
	default:
		w.opened(svc, b, info)
	}
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
			stay := flow.Timeouts{HalfOpen: svc.AffinityMS, Established: svc.AffinityMS, FinWait: svc.AffinityMS, Closed: svc.AffinityMS, Unreplied: svc.AffinityMS, Stream: svc.AffinityMS}
			w.Flows.Advance(ref, &old, flow.Forward, 0, w.now, &stay)
			return
		}
		w.flows.Forget(ref, &old)
	}
	w.flows.Insert(&flow.Flow{
		Client: key.Peer, VIP: key.Local, VIPPort: key.LocalPort, Proto: key.Proto,
		State: flow.StateAffinity, ServiceID: uint32(svc.ID), BackendID: uint32(b.ID),
	}, w.now, svc.AffinityMS)
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
