package dataplane

import (
	"fairlead/dataplane/fib"
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/reason"
	"fairlead/dataplane/rewrite"
)

// hop is where a frame leaves: the port and the link-layer addresses, which lie
// where they are known.
type hop struct {
	port     uint16
	dst, src *[6]byte
}

// forward rewrites a packet as the verdict says and sends it. f is its flow,
// nil when it has none.
func (w *Worker) forward(frame nic.Frame, info *packet.Info, f *flow.Flow, v *Verdict) {
	to, ok := w.hop(f, v)
	if !ok {
		w.fail(frame, v, reason.NextHopUnresolved)
		return
	}
	bytes := w.Pool.Bytes(frame)
	rewrite.DecrementTTL(bytes, info)
	r := reason.None
	switch v.Op {
	case OpNATForward:
		w.clampMSS(bytes, info, v, w.snapshot.NextHop(v.NextHop).MTU, frame.Port)
		r = rewrite.NAT(bytes, info, w.toBackend(f))
	case OpNATReply:
		w.clampMSS(bytes, info, v, w.snapshot.Interface(to.port).MTU, frame.Port)
		r = rewrite.NAT(bytes, info, w.toClient(f))
	case OpICMPToBackend:
		r = rewrite.ICMPToBackend(bytes, info, w.toBackend(f))
	case OpICMPToClient:
		r = rewrite.ICMPToClient(bytes, info, w.toClient(f))
	}
	if r != reason.None {
		w.fail(frame, v, r)
		return
	}
	if v.MTU != 0 {
		w.sendFragments(frame, info, v, to)
		return
	}
	w.sendOne(frame, info, v, to)
}

// sendOne puts the outer headers on a packet that fits and sends it.
func (w *Worker) sendOne(frame nic.Frame, info *packet.Info, v *Verdict, to hop) {
	sent, r := w.encapsulate(frame, info, v, to)
	if r != reason.None {
		w.fail(frame, v, r)
		return
	}
	w.tally(frame, v)
	w.trace(sent, to.port, v)
	w.send(sent, to.port, v.Reason)
}

// encapsulate does the last step of each method: the outer headers, or the MAC
// addresses alone.
func (w *Worker) encapsulate(frame nic.Frame, info *packet.Info, v *Verdict, to hop) (nic.Frame, reason.Reason) {
	if v.Op != OpIPIP && v.Op != OpGUE {
		rewrite.SetMACs(w.Pool.Bytes(frame), *to.dst, *to.src)
		return frame, reason.None
	}
	buf, base := w.buf(frame)
	b, set := w.snapshot.Backend(v.Backend), w.snapshot.Settings()
	w.entropy++
	entropy := uint32(w.hash >> 32)
	outer := rewrite.GUEArgs{OuterArgs: rewrite.OuterArgs{
		Src: tunnelSource(w.snapshot, b), Dst: b.Addr, DstMAC: *to.dst, SrcMAC: *to.src,
		Entropy: entropy, ID: uint16(w.entropy), TTL: set.OuterTTL,
	}}
	var r reason.Reason
	if v.Op == OpIPIP {
		r = rewrite.IPIP(&buf, info, &outer.OuterArgs)
	} else {
		outer.SrcPort, outer.DstPort = rewrite.GUESourcePort(entropy), set.GUEPort
		r = rewrite.GUE(&buf, info, &outer)
	}
	return nic.Frame{Addr: base + uint64(buf.Start), Len: uint32(buf.Len()), Port: frame.Port}, r
}

// sendFragments cuts an IPv4 packet that exceeds the path's MTU, and may be
// fragmented, into fragments and sends each (RFC 791 section 3.2).
func (w *Worker) sendFragments(frame nic.Frame, info *packet.Info, v *Verdict, to hop) {
	w.tally(frame, v)
	w.trace(frame, noPort, v)
	piece := *info
	for int(piece.IPLen) > int(v.MTU) {
		addr, ok := w.Pool.Get()
		if !ok {
			w.lose(frame, reason.TooBig)
			return
		}
		addr += uint64(w.Pool.Headroom())
		rest := w.Pool.Mem[addr : w.Pool.Base(addr)+uint64(w.Pool.ChunkSize())]
		n1, n2, ok := rewrite.Split4(w.Pool.Bytes(frame), &piece, int(v.MTU), rest)
		if !ok {
			w.Pool.Put(addr)
			w.lose(frame, reason.TooBig)
			return
		}
		w.Counters.Ledger.Created++
		first := nic.Frame{Addr: frame.Addr, Len: uint32(n1), Port: frame.Port}
		frame = nic.Frame{Addr: addr, Len: uint32(n2), Port: frame.Port}
		var head packet.Info
		if packet.Parse(w.Pool.Bytes(first), &head) != reason.None || packet.Parse(w.Pool.Bytes(frame), &piece) != reason.None {
			w.lose(first, reason.FragmentMalformed)
			w.lose(frame, reason.FragmentMalformed)
			return
		}
		w.sendPiece(first, &head, v, to)
	}
	w.sendPiece(frame, &piece, v, to)
}

// sendPiece sends one fragment.
func (w *Worker) sendPiece(frame nic.Frame, piece *packet.Info, v *Verdict, to hop) {
	sent, r := w.encapsulate(frame, piece, v, to)
	if r != reason.None {
		w.lose(frame, r)
		return
	}
	if w.tapped {
		w.Taps.NoteLeft(w.Pool.Bytes(sent), to.port)
	}
	w.send(sent, to.port, v.Reason)
}

// answer turns the frame into a reply to its sender.
func (w *Worker) answer(frame nic.Frame, in *Input, v *Verdict) {
	buf, base := w.buf(frame)
	port := w.snapshot.Interface(frame.Port)
	if port == nil {
		w.fail(frame, v, reason.TransmitDown)
		return
	}
	mac, r := port.MAC, reason.None
	switch v.Op {
	case OpEchoReply:
		r = rewrite.EchoReply(&buf, in.Info)
	case OpARPReply:
		r = rewrite.ARPReply(buf.Frame(), in.Info, mac)
	case OpNeighborAdvert:
		r = rewrite.NeighborAdvert(&buf, in.Info, mac)
	case OpTooBig:
		r = rewrite.TooBig(&buf, in.Info, in.Info.Dst, v.MTU)
	case OpTTLExpired:
		r = rewrite.TimeExceeded(&buf, in.Info, in.Info.Dst)
	case OpReset:
		r = rewrite.Reset(&buf, in.Info)
	case OpUnreachable:
		r = rewrite.Unreachable(&buf, in.Info, in.Info.Dst, portUnreachable(in.Info))
	}
	if r != reason.None {
		w.fail(frame, v, r)
		return
	}
	reply := nic.Frame{Addr: base + uint64(buf.Start), Len: uint32(buf.Len()), Port: frame.Port}
	w.trace(reply, frame.Port, v)
	w.send(reply, frame.Port, v.Reason)
}

// hop finds where a packet leaves: towards its backend by the snapshot, back
// to a NAT client by the way the client's packets come.
func (w *Worker) hop(f *flow.Flow, v *Verdict) (hop, bool) {
	if v.NextHop != fib.NoIndex {
		n := w.snapshot.NextHop(v.NextHop)
		return hop{n.Port, &n.DstMAC, &n.SrcMAC}, true
	}
	port, mac, ok := w.Flows.Peer(f.Via)
	if !ok || int(port) >= len(w.snapshot.Interfaces()) {
		return hop{}, false
	}
	w.via = mac
	return hop{port, &w.via, &w.snapshot.Interface(port).MAC}, true
}

// toBackend is a NAT flow's packet as its backend sees it.
func (w *Worker) toBackend(f *flow.Flow) *rewrite.NATArgs {
	to := &w.nat
	to.Src, to.SrcPort = w.snapshot.LocalByID(f.SNAT).Addr, f.SNATPort
	to.Dst, to.DstPort = f.Backend, f.BackendPort
	return to
}

// toClient is a NAT flow's packet as its client sees it.
func (w *Worker) toClient(f *flow.Flow) *rewrite.NATArgs {
	to := &w.nat
	to.Src, to.SrcPort = w.snapshot.LocalByID(f.VIP).Addr, f.VIPPort
	to.Dst, to.DstPort = f.Client, f.ClientPort
	return to
}

// clampMSS keeps the two ends of a NAT connection from announcing segments
// that one of our two sides cannot carry.
func (w *Worker) clampMSS(bytes []byte, info *packet.Info, v *Verdict, egressMTU uint32, ingress uint16) {
	if info.TCPFlags&packet.TCPFlagSYN == 0 || w.snapshot.Services()[v.Service].ClampMSS == 0 {
		return
	}
	headers := uint32(packet.IPv4MinLen + packet.TCPMinLen)
	if info.Kind == packet.KindIPv6 {
		headers = packet.IPv6Len + packet.TCPMinLen
	}
	mtu := min(egressMTU, 65535)
	if in := w.snapshot.Interface(ingress); in != nil {
		mtu = min(mtu, in.MTU)
	}
	if b := w.snapshot.Backend(v.Backend); b.MTU != 0 {
		mtu = min(mtu, b.MTU)
	}
	if mtu > headers {
		rewrite.ClampMSS(bytes, info, uint16(mtu-headers))
	}
}

// buf is the frame with the room around it; offsets in it count from base.
func (w *Worker) buf(frame nic.Frame) (buf rewrite.Buf, base uint64) {
	base = w.Pool.Base(frame.Addr)
	start := int(frame.Addr - base)
	return rewrite.Buf{Chunk: w.Pool.Mem[base : base+uint64(w.Pool.ChunkSize())], Start: start, End: start + int(frame.Len)}, base
}

// end ends the journey of a frame that is not sent.
func (w *Worker) end(frame nic.Frame, v *Verdict) {
	if v.Service != fib.NoIndex && v.Action == reason.Drop {
		w.Counters.Services[v.Service].Drops++
		if v.Backend != fib.NoIndex {
			w.Counters.Backends[v.Backend].Drops++
		}
	}
	w.trace(frame, noPort, v)
	w.Counters.Ledger.Ended[v.Reason]++
	w.Pool.Put(frame.Addr)
}

// discard ends the journey of a frame that nothing is known of.
func (w *Worker) discard(frame nic.Frame, r reason.Reason) {
	v := drop(r)
	w.end(frame, &v)
}

// fail ends the journey of a frame that a stage after Decide cannot send.
func (w *Worker) fail(frame nic.Frame, v *Verdict, r reason.Reason) {
	v.drop(r)
	w.end(frame, v)
}

// tally counts a packet that is carried.
func (w *Worker) tally(frame nic.Frame, v *Verdict) {
	s, b := &w.Counters.Services[v.Service], &w.Counters.Backends[v.Backend]
	s.Packets++
	s.Bytes += uint64(frame.Len)
	b.Packets++
	b.Bytes += uint64(frame.Len)
}

// answers reports whether an op turns the packet itself into a reply.
func answers(op Op) bool { return op >= OpEchoReply }

// limited reports whether an answer's rate is limited: what answers errors is,
// what answers a question is not.
func limited(op Op) bool { return op >= OpTooBig }
