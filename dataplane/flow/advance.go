package flow

// TCP flags (RFC 9293 section 3.1) and protocol numbers.
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2

	protoTCP = 6
)

const (
	// deadlineStep is how far, in milliseconds, a deadline must move before it
	// is stored (a quarter of the timeout, if that is less): a flow may be
	// forgotten this much early, and its cache line stays unwritten for most
	// packets.
	deadlineStep = 256

	// MaxExtension is by how many milliseconds Extend may move a deadline
	// beyond the flow's timeout. Advance leaves a deadline alone that lies so
	// far ahead.
	MaxExtension = 10_000

	// streamAfter is how long, in milliseconds, a flow of which only one
	// direction is seen must have lasted to count as a stream.
	streamAfter = 1000
)

// Advance notes that a packet of flow f was seen: the flow's state follows,
// and its deadline moves to now plus the timeout of its state. ref and f come
// from the lookup (or insertion) of the packet; f's State and Deadline are
// brought up to date. When the flow was forgotten meanwhile, nothing happens,
// even if its record holds another one by now.
//
// TCP. What is seen of one that is not NAT is the client's half.
//
//	half-open    --client's ACK or data-->          established
//	half-open, established, fin-wait --FIN-->       fin-wait; closed when both sides have sent one
//	any          --RST-->                           closed
//	closed by a RST --packet of the same side-->    established or fin-wait: the RST was forged
//	closed       --client's SYN-->                  half-open: the client uses its port again
//	fin-wait     --client's SYN, not NAT-->         half-open, likewise
//
// A SYN on a flow that is established changes nothing, as it may be forged
// (RFC 5961 section 4). A closed flow's deadline does not move: late packets
// still find it, but do not prolong it.
//
// Other protocols. An unreplied flow becomes a stream when the backend answers
// or, when answers do not pass here, when the client still sends a second
// after its first packet.
//
// An affinity record does not change; see Refresh.
func (t *Table) Advance(ref Ref, f *Flow, dir Direction, tcpFlags uint8, now Time, to *Timeouts) {
	if uint64(ref) >= uint64(len(t.records)) {
		return
	}
	r := &t.records[ref]
	for {
		old := r.life()
		if !r.current(f) || old.state() == StateFree || old&(lifeDead|lifeResting) != 0 {
			return
		}
		next, timeout, counts := old, uint32(0), false
		switch old.state() {
		case StateHalfOpen, StateEstablished, StateFinWait, StateClosed:
			next, timeout, counts = t.advanceTCP(old, f.SNAT != 0, dir, tcpFlags, to)
		case StateUnreplied, StateStream:
			next, timeout, counts = advanceStream(old, f.SNAT != 0, dir, now, to)
		}
		if !counts {
			return
		}
		deadline := now + Time(min(timeout, MaxTimeout))
		step := int32(min(deadlineStep, timeout/4))
		ahead := step
		if next.state().Plain() {
			ahead += MaxExtension
		}
		if moved := int32(deadline - old.deadline()); next == old && moved < step && moved > -ahead {
			return
		}
		next = next.withDeadline(deadline)
		if r.swapLife(old, next) {
			f.State, f.Deadline = next.state(), deadline
			return
		}
	}
}

// advanceTCP gives the life word after a TCP packet, its deadline unchanged,
// the timeout to apply, and whether the packet counts at all.
func (t *Table) advanceTCP(l life, nat bool, dir Direction, flags uint8, to *Timeouts) (next life, timeout uint32, counts bool) {
	fin, rst := lifeFinForward, lifeRstForward
	if dir == Reply {
		fin, rst = lifeFinReply, lifeRstReply
	}
	state := l.state()
	switch {
	case flags&tcpRST != 0:
		if state == StateClosed {
			return l, 0, false
		}
		return l.withState(StateClosed) | rst, t.closedTimeout(nat, to), true

	case flags&tcpSYN != 0:
		reopens := dir == Forward && (state == StateClosed || state == StateFinWait && !nat)
		if state == StateHalfOpen || reopens {
			return l.withState(StateHalfOpen) &^ lifeMarks, to.HalfOpen, true
		}
		return l, 0, false

	case state == StateClosed:
		// Only the side whose RST closed the flow can say that it did not
		// send one: what the other side had on its way proves nothing.
		if l&rst == 0 {
			return l, 0, false
		}
		l &^= rst
		fallthrough

	default:
		if flags&tcpFIN != 0 {
			l |= fin
		}
		switch fins := l & (lifeFinForward | lifeFinReply); {
		case fins == lifeFinForward|lifeFinReply:
			return l.withState(StateClosed), t.closedTimeout(nat, to), true
		case fins != 0:
			return l.withState(StateFinWait), to.FinWait, true
		case state == StateHalfOpen && dir == Reply:
			return l, to.HalfOpen, true
		}
		return l.withState(StateEstablished), to.Established, true
	}
}

// advanceStream is advanceTCP for protocols without connections.
func advanceStream(l life, nat bool, dir Direction, now Time, to *Timeouts) (next life, timeout uint32, counts bool) {
	if l.state() == StateStream || dir == Reply {
		return l.withState(StateStream), to.Stream, true
	}
	if nat {
		return l, to.Unreplied, true
	}
	// The deadline of an unreplied flow that is not NAT stays where its first
	// packet put it, so that the age can be told from it.
	if !now.Before(streamFrom(l.deadline(), to.Unreplied)) {
		return l.withState(StateStream), to.Stream, true
	}
	return l, 0, false
}

// streamFrom is when a packet makes an unreplied flow with this deadline, which
// is not NAT, a stream.
func streamFrom(deadline Time, unreplied uint32) Time {
	return deadline - Time(unreplied) + Time(min(streamAfter, unreplied/2))
}

// StreamFrom is when a packet makes f, an unreplied flow that is not NAT, a
// stream; unreplied is the idle time of such flows.
func (f *Flow) StreamFrom(unreplied uint32) Time { return streamFrom(f.Deadline, unreplied) }

func (l life) withState(s State) life { return l&^lifeState | life(s) }

// closedTimeout keeps a NAT flow's outside tuple for as long as late packets
// of it may come.
func (t *Table) closedTimeout(nat bool, to *Timeouts) uint32 {
	if nat {
		return max(to.Closed, t.guard)
	}
	return to.Closed
}

// Refresh gives the flow f a new deadline, timeout milliseconds from now,
// whatever its state. It reports whether the flow still exists.
func (t *Table) Refresh(ref Ref, f *Flow, now Time, timeout uint32) bool {
	deadline := now + Time(min(timeout, MaxTimeout))
	if !t.change(ref, f, func(l life) life { return l.withDeadline(deadline) }) {
		return false
	}
	f.Deadline = deadline
	return true
}

// Extend moves the deadline of the flow f forward to at least the given time,
// at most MaxExtension beyond what Advance would make it. It reports whether the
// flow is still what f says: see Holds.
func (t *Table) Extend(ref Ref, f *Flow, deadline Time) bool {
	later := func(l life) life {
		if l.deadline().Before(deadline) {
			return l.withDeadline(deadline)
		}
		return l
	}
	return t.change(ref, f, later) && t.Holds(ref, f)
}

// Holds reports whether the flow is still what its copy f says in everything
// that matters to its plain packets: it lives, is established, a stream or
// unreplied, has the same backend, and its client is reached the same way.
func (t *Table) Holds(ref Ref, f *Flow) bool {
	if uint64(ref) >= uint64(len(t.records)) {
		return false
	}
	r := &t.records[ref]
	l, ident := r.life(), r.load(wordIdent)
	return uint32(ident&seqMask) == f.seq && uint32(ident>>backendAt) == f.BackendID &&
		l&(lifeDead|lifeResting) == 0 && l.state().Plain() && l.via() == f.Via
}

// SetVia records the link-layer way back to the flow's client.
func (t *Table) SetVia(ref Ref, f *Flow, via uint16) {
	if t.change(ref, f, func(l life) life { return l&^lifeVia | life(via)<<viaAt }) {
		f.Via = via
	}
}
