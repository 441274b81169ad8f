package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/memo"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// wayCache is the routes that a worker has lately granted memos by.
type wayCache [256]struct {
	id  memo.Identity
	way memo.Way
}

// remember grants a memo for packets like the one in hand, which is plain: they
// go as verdict v says for as long as the flow is what it is, the snapshot says
// the same of it, and the lease runs. The flow's record lasts longer, by its
// idle time, so packets need not touch it.
func (w *Worker) remember(f nic.Frame, in *Input, ref flow.Ref, v *Verdict, timeout uint32) {
	fl := in.Flow
	lease := memo.Lease(timeout)
	if v.Action != reason.Transmit || v.MTU != 0 || lease < 2*memo.Slack || !fl.State.Plain() {
		return
	}
	if w.tapped && w.Memos.InKernel() && w.Taps.Withholds(fl.ServiceID, fl.BackendID, fl.Client) {
		return
	}
	young := fl.State == flow.StateUnreplied && fl.SNAT == 0
	if young {
		// Its deadline stands, and its next packet after a while makes it a
		// stream: until then nothing about it changes.
		// Not in the kernel: there, all flows of an age would come up at once.
		left := int32(fl.StreamFrom(timeout) - 1 - w.now)
		if left < 2*memo.Slack || w.Memos.InKernel() {
			return
		}
		lease = min(lease, uint32(left))
	}
	var g memo.Grant
	id := memo.Identity{Service: fib.ID(fl.ServiceID), Backend: fib.ID(fl.BackendID), VIP: fl.VIP, SNAT: fl.SNAT}
	from := memo.Ends{Src: in.Info.Src, Dst: in.Info.Dst, SrcPort: in.Info.SrcPort, DstPort: in.Info.DstPort}
	switch v.Op {
	case OpNATForward:
		to := w.toBackend(fl)
		if to.Dst != w.snapshot.Backend(v.Backend).Addr {
			return
		}
		g = memo.ForwardGrant(&from, (*memo.Ends)(to), packet.Ethernet(w.Pool.Bytes(f)).SrcMAC(), memo.Ingress(f.Port, w.ifIndex[f.Port]))
	case OpNATReply:
		g = memo.ReplyGrant(&from, (*memo.Ends)(w.toClient(fl)))
		id.Reply = true
		var ok bool
		if id.Port, id.MAC, ok = w.Flows.Peer(fl.Via); !ok {
			return
		}
	case OpIPIP, OpGUE, OpL2:
		g = memo.DirectGrant(uint32(w.hash >> 32))
	default:
		return
	}
	way, ok := w.way(&id)
	if !ok || !w.Memos.InForce(w.snapshot.Generation()) || !young && !w.Flows.Extend(ref, fl, w.now+flow.Time(timeout+lease)) {
		return
	}
	k := &w.main.memoKeys[w.at]
	if w.Memos.Put(k, w.main.memoHash[w.at], way, &g, w.now, w.now+flow.Time(lease-memo.Slack)) && !w.Flows.Holds(ref, fl) {
		w.Memos.Drop(k)
	}
}

// way is the route of an identity.
func (w *Worker) way(id *memo.Identity) (memo.Way, bool) {
	at := id.Service.Slot()*31 + id.Backend.Slot()*7 + uint32(id.MAC[5])
	if id.Reply {
		at++
	}
	c := &w.ways[at%uint32(len(w.ways))]
	if c.id == *id && w.Memos.Valid(c.way) {
		w.Memos.Used(c.way, w.now)
		return c.way, true
	}
	way, ok := w.Memos.Way(w.snapshot, id, w.now)
	if ok {
		c.id, c.way = *id, way
	}
	return way, ok
}

// renewCycle is how many milliseconds the workers take to look at all memos
// that the kernel may use, and renewEvery how long one waits between two looks.
const (
	renewCycle = 2500
	renewEvery = 10
)

// renewMemos keeps the memos alive by which the kernel forwards: it looks
// through the worker's share of them, some at a time.
func (w *Worker) renewMemos() {
	if w.Memos == nil || !w.Memos.InKernel() {
		return
	}
	elapsed := uint32(w.now - w.renewed)
	if elapsed < renewEvery {
		return
	}
	w.renewed = w.now
	workers := w.Flows.Workers()
	first, last := w.Memos.Len()*w.Index/workers, w.Memos.Len()*(w.Index+1)/workers
	n := int(uint64(last-first)*uint64(min(elapsed, renewCycle))/renewCycle) + 1
	if w.renewAt < first || w.renewAt >= last {
		w.renewAt = first
	}
	n = min(n, last-w.renewAt)
	w.Memos.Recent(w.renewAt, n, w.now, w.renewOne)
	w.renewAt += n
}

// renew prolongs the lease of a memo that was used so many milliseconds ago.
func (w *Worker) renew(k *memo.Key, unused uint32) {
	key := flow.Key{Peer: packet.Addr{Hi: k.Hi, Lo: k.Lo}, PeerPort: uint16(k.Rest >> 48), LocalPort: uint16(k.Rest >> 32),
		Local: uint16(k.Rest >> 16), Proto: uint8(k.Rest >> 8)}
	fl := &w.found
	ref, _, ok := w.Flows.Lookup(&key, w.Flows.Hash(&key), w.now, fl)
	if !ok || !fl.State.Plain() || fl.State == flow.StateUnreplied && fl.SNAT == 0 {
		return
	}
	svc := w.snapshot.ServiceByID(fib.ID(fl.ServiceID))
	if svc == nil {
		return
	}
	timeout := w.timeouts[svc.Timeouts].of(fl.Proto).At(fl.State)
	lease := memo.Lease(timeout)
	if unused > lease || lease < 2*memo.Slack || !w.Flows.Extend(ref, fl, w.now+flow.Time(timeout+lease)) {
		return
	}
	w.Memos.Renew(k, w.now+flow.Time(lease-memo.Slack))
	if !w.Flows.Holds(ref, fl) {
		w.Memos.Drop(k)
	}
}

// dropMemos forgets the memos of a flow that has changed.
func (w *Worker) dropMemos(f *flow.Flow) {
	if w.Memos != nil {
		DropMemos(w.Memos, f)
	}
}

// DropMemos forgets the memos of both directions of a flow.
func DropMemos(t *memo.Table, f *flow.Flow) {
	k := memo.MakeKey(f.Client, f.ClientPort, f.VIPPort, f.VIP, f.Proto)
	t.Drop(&k)
	if f.SNAT != 0 {
		k = memo.MakeKey(f.Backend, f.BackendPort, f.SNATPort, f.SNAT, f.Proto)
		t.Drop(&k)
	}
}
