package dataplane

import (
	"fairlead/dataplane/flow"
	"fairlead/dataplane/nic"
	"fairlead/dataplane/packet"
)

// Only the first fragment of a packet has ports. fragments remembers them, so
// that later fragments follow the first, and holds later fragments that came
// before it. Memory is bounded and allocated once; NICs hash all fragments of
// a packet to one queue, so each worker has its own.
type fragments struct {
	seen [fragSets][fragWays]fragPorts
	held []heldFragment
	next int // the oldest way of a set is replaced round robin

	fresh bool // a first fragment has come, so held ones may be ready
}

const (
	fragSets = 1024 // a power of two
	fragWays = 4
)

// fragKey is what fragments of one packet share (RFC 791, RFC 8200 section 4.5).
type fragKey struct {
	src, dst packet.Addr
	id       uint32
	proto    uint8
}

type fragPorts struct {
	key              fragKey
	srcPort, dstPort uint16
	proto            uint8
	live             bool
	deadline         flow.Time
}

type heldFragment struct {
	frame    nic.Frame
	key      fragKey
	deadline flow.Time
}

func newFragments(hold int) *fragments {
	return &fragments{held: make([]heldFragment, 0, hold)}
}

func fragKeyOf(info *packet.Info) fragKey {
	proto := info.Proto
	if info.Kind == packet.KindIPv6 {
		proto = 0 // a later fragment of an IPv6 packet does not tell the transport protocol for certain
	}
	return fragKey{info.Src, info.Dst, info.FragID, proto}
}

func (k *fragKey) set() int {
	h := k.src.Lo ^ k.dst.Lo<<17 ^ k.src.Hi ^ k.dst.Hi<<9 ^ uint64(k.id)<<31 ^ uint64(k.proto)
	h *= 0x9e3779b97f4a7c15
	return int(h >> 54 & (fragSets - 1))
}

// remember records the ports of a first fragment.
func (f *fragments) remember(key fragKey, info *packet.Info, now, deadline flow.Time) {
	set := &f.seen[key.set()]
	way := -1
	for i := range set {
		if set[i].live && set[i].key == key {
			way = i
			break
		}
		if !set[i].live || set[i].deadline.Before(now) {
			way = i
		}
	}
	if way < 0 {
		f.next++
		way = f.next % fragWays
	}
	f.fresh = true
	set[way] = fragPorts{key, info.SrcPort, info.DstPort, info.Proto, true, deadline}
}

// first finds what the first fragment said, nil when it has not come.
func (f *fragments) first(key fragKey, now flow.Time) *fragPorts {
	set := &f.seen[key.set()]
	for i := range set {
		if p := &set[i]; p.live && p.key == key && !p.deadline.Before(now) {
			return p
		}
	}
	return nil
}

// hold keeps a later fragment whose first one has not come; false when there
// is no room.
func (f *fragments) hold(frame nic.Frame, key fragKey, deadline flow.Time, limit int) bool {
	if len(f.held) >= min(limit, cap(f.held)) {
		return false
	}
	f.held = append(f.held, heldFragment{frame, key, deadline})
	return true
}

// ready moves up to len(out) held fragments whose first one has come to out, in
// the order they came. It costs nothing unless a first fragment has come since
// it last found none.
func (f *fragments) ready(now flow.Time, out []nic.Frame) int {
	if !f.fresh || len(f.held) == 0 {
		return 0
	}
	n := f.take(out, func(h *heldFragment) bool { return f.first(h.key, now) != nil })
	f.fresh = n > 0
	return n
}

// expire moves up to len(out) held fragments that have waited too long to out.
func (f *fragments) expire(now flow.Time, out []nic.Frame) int {
	return f.take(out, func(h *heldFragment) bool { return h.deadline.Before(now) })
}

func (f *fragments) take(out []nic.Frame, want func(*heldFragment) bool) int {
	if len(f.held) == 0 {
		return 0
	}
	n, kept := 0, f.held[:0]
	for i := range f.held {
		if n < len(out) && want(&f.held[i]) {
			out[n] = f.held[i].frame
			n++
			continue
		}
		kept = append(kept, f.held[i])
	}
	f.held = kept
	return n
}
