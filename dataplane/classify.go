package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
)

// batch is the frames of one round and what the first pass found out about
// each. The arrays are apart so that each pass walks only what it needs.
type batch struct {
	n      int
	frames [nic.BatchSize]nic.Frame
	done   [nic.BatchSize]bool // its journey ended in the first pass
	keyed  [nic.BatchSize]bool // keys and hashes hold something
	infos  [nic.BatchSize]packet.Info
	locals [nic.BatchSize]*fib.Local
	keys   [nic.BatchSize]flow.Key
	hashes [nic.BatchSize]uint64
	shortcuts
}

// classify is the first pass for one frame: parse it, find the address of ours
// it was sent to, give a later fragment its ports, and hash what the flow table
// is to be asked.
func (w *Worker) classify(b *batch, i int) {
	b.done[i], b.keyed[i] = false, false
	b.hashes[i] = 0
	info := &b.infos[i]
	frame := w.Pool.Bytes(b.frames[i])
	if r := packet.Parse(frame, info); r != reason.None {
		w.discard(b.frames[i], r)
		b.done[i] = true
		return
	}
	b.locals[i] = w.snapshot.Local(target(frame, info))
	if b.locals[i] == nil || b.locals[i].Kind == fib.LocalTunnel {
		return
	}
	if info.Frag&packet.FragAny != 0 && !w.fragment(b, i) {
		b.done[i] = true
		return
	}
	if b.keyed[i] = keyOf(info, b.locals[i], &b.keys[i]); b.keyed[i] {
		b.hashes[i] = w.Flows.Hash(&b.keys[i])
	}
}

// target is the address that a frame is for: the destination, or what a
// neighbour solicitation asks for.
func target(frame []byte, info *packet.Info) packet.Addr {
	if isNeighborSolicitation(info) {
		return packet.NDP(frame[info.L4:]).Target()
	}
	return info.Dst
}

// keyOf makes the flow key of a packet, or of the packet an ICMP error quotes:
// that one was sent from here, so its destination is the flow's peer.
func keyOf(info *packet.Info, local *fib.Local, key *flow.Key) bool {
	if isTransport(info.Proto) {
		key.Peer, key.Local, key.PeerPort, key.LocalPort, key.Proto = info.Src, local.ID, info.SrcPort, info.DstPort, info.Proto
		return true
	}
	if q := &info.Inner; isTransport(q.Proto) && !q.Fragment && q.Src == info.Dst {
		key.Peer, key.Local, key.PeerPort, key.LocalPort, key.Proto = q.Dst, local.ID, q.DstPort, q.SrcPort, q.Proto
		return true
	}
	return false
}

// fragment remembers the ports of a first fragment and gives them to later
// ones. It is false when the frame's journey ends or pauses here: no first
// fragment is known yet.
func (w *Worker) fragment(b *batch, i int) bool {
	info, set := &b.infos[i], w.snapshot.Settings()
	if !isTransport(info.Proto) && !(info.Kind == packet.KindIPv6 && isLaterFragment(info) && isExtension(info.Proto)) {
		return true
	}
	key := fragKeyOf(info)
	if info.Frag&packet.FragFirst != 0 {
		w.frags.remember(key, info, w.now, w.now+flow.Time(set.FragTrackMS))
		return true
	}
	if first := w.frags.first(key, w.now); first != nil {
		info.SrcPort, info.DstPort, info.Proto = first.srcPort, first.dstPort, first.proto
		return true
	}
	if !w.frags.hold(b.frames[i], key, w.now+flow.Time(set.FragHoldMS), int(set.FragHold)) {
		w.discard(b.frames[i], reason.FragmentLimit)
	}
	return false
}

// isExtension reports whether a later IPv6 fragment may say this of what
// follows its header while its first fragment has a transport header further
// on.
func isExtension(proto uint8) bool {
	return proto == packet.ProtoDestOpts || proto == packet.ProtoRouting || proto == packet.ProtoAH
}

// expireHeld ends the journey of fragments that have waited too long.
func (w *Worker) expireHeld() {
	if len(w.frags.held) == 0 {
		return
	}
	var frames [nic.BatchSize]nic.Frame
	n := w.frags.expire(w.now, frames[:])
	for i := range n {
		w.discard(frames[i], reason.FragmentTimeout)
	}
}
