package memo

import (
	"sync/atomic"

	"fairlead/dataplane/flow"
	"fairlead/dataplane/packet"
)

// MaxLease is how long a memo holds at most without being renewed, in
// milliseconds.
const MaxLease = 10_000

// The longest lease is what the flow table allows.
var _ [flow.MaxExtension - MaxLease]struct{}

// Slack is by how many milliseconds the kernel's clock may lag behind the
// worker's: leases end so much earlier than the flow's record allows.
const Slack = 16

// Lease is how long a memo of a flow with this idle timeout holds, both in
// milliseconds: a quarter of it at most, for by so much a flow may outlive its
// timeout.
func Lease(timeout uint32) uint32 { return min(timeout/4, MaxLease) }

// Grant is what an entry says besides its key.
type Grant struct {
	nat     uint64
	viaHi   uint64
	viaLo   uint64
	entropy uint32
}

// ForwardGrant is the grant for packets of a NAT flow's client: the ends they
// get, and the way they come, by MAC address and Ingress. A packet that comes
// another way is not the memo's.
func ForwardGrant(from, to *Ends, mac [6]byte, ingress uint64) Grant {
	return Grant{nat: natWord(from, to), viaHi: macWord(mac), viaLo: ingress}
}

// Ingress names the interface that packets come in by: the kernel's number in
// the low half, which the XDP program compares, and nic.Frame's port.
func Ingress(port uint16, ifIndex uint32) uint64 { return uint64(port)<<32 | uint64(ifIndex) }

// ReplyGrant is the grant for packets of a NAT flow's backend.
func ReplyGrant(from, to *Ends) Grant {
	return Grant{nat: natWord(from, to), viaHi: to.Dst.Hi, viaLo: to.Dst.Lo}
}

// DirectGrant is the grant for methods whose backends answer the client
// themselves; entropy is what the slow path gives the flow's tunnel packets.
func DirectGrant(entropy uint32) Grant { return Grant{entropy: entropy} }

// Ends are the addresses and ports of a packet.
type Ends struct {
	Src, Dst         packet.Addr
	SrcPort, DstPort uint16
}

func natWord(from, to *Ends) uint64 {
	addrs := packet.Delta(0)
	if from.Src.Is4() {
		addrs = addrs.Long(uint32(from.Src.Lo), uint32(to.Src.Lo)).Long(uint32(from.Dst.Lo), uint32(to.Dst.Lo))
	} else {
		addrs = addrs.Addr(from.Src, to.Src).Addr(from.Dst, to.Dst)
	}
	all := addrs.Word(from.SrcPort, to.SrcPort).Word(from.DstPort, to.DstPort)
	return uint64(to.SrcPort)<<srcPortAt | uint64(to.DstPort)<<dstPortAt |
		uint64(addrs.Folded())<<deltaL3At | uint64(all.Folded())<<deltaL4At
}

func macWord(m [6]byte) uint64 {
	return uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5])
}

// Put remembers how the packets with a key go, by a route and until the lease's
// end, or renews what is remembered. It is false when there is no room or
// somebody else writes there now. The caller has made sure that the flow's
// record lasts, and afterwards looks whether the flow is still what the memo
// says: if not, it calls Drop, as does whoever changes a flow after the change.
// One of the two finds the memo.
func (t *Table) Put(k *Key, hash uint64, way Way, g *Grant, now, lease flow.Time) bool {
	if at, ok := t.Locate(k, hash); ok {
		return t.entries[at].put(k, way, g, now, lease)
	}
	for i := range 4 {
		at := t.place(hash, i)
		e := &t.entries[at]
		if t.vacant(atomic.LoadUint64(&e[wordControl]), now) || t.strayed(at) {
			if i >= 2 {
				t.crowded(now)
			}
			return e.put(k, way, g, now, lease)
		}
	}
	t.crowded(now)
	return false
}

// writeMost is after how many milliseconds a busy entry is one whose writer
// died.
const writeMost = 1000

// vacant reports whether an entry may be given to another key.
func (t *Table) vacant(control uint64, now flow.Time) bool {
	return !beingWritten(control, now) && (t.route(control) == nil || leaseOf(control).Before(now))
}

func beingWritten(control uint64, now flow.Time) bool {
	return control>>genAt&genMask == 0 && control&busy != 0 && !(leaseOf(control) + writeMost).Before(now)
}

// put writes an entry: only the control word when nothing else changes.
func (e *entry) put(k *Key, way Way, g *Grant, now, lease flow.Time) bool {
	old := atomic.LoadUint64(&e[wordControl])
	if beingWritten(old, now) {
		return false
	}
	seq := (old + 1) & seqMask
	next := uint64(lease)<<leaseAt | uint64(way.route)<<routeAt | uint64(way.gen)<<genAt | seq
	sameWay := uint32(old)>>genAt == uint32(next)>>genAt
	if sameWay && e.has(k) && e.says(g) {
		return atomic.CompareAndSwapUint64(&e[wordControl], old, next)
	}
	if !atomic.CompareAndSwapUint64(&e[wordControl], old, uint64(now)<<leaseAt|busy|seq) {
		return false
	}
	atomic.StoreUint64(&e[wordHi], k.Hi)
	atomic.StoreUint64(&e[wordLo], k.Lo)
	atomic.StoreUint64(&e[wordRest], k.Rest)
	atomic.StoreUint64(&e[wordNAT], g.nat)
	atomic.StoreUint64(&e[wordViaHi], g.viaHi)
	atomic.StoreUint64(&e[wordViaLo], g.viaLo)
	atomic.StoreUint64(&e[wordUse], uint64(g.entropy)<<entropyAt)
	atomic.StoreUint64(&e[wordControl], next)
	return true
}

// says reports whether the entry holds this grant.
func (e *entry) says(g *Grant) bool {
	return atomic.LoadUint64(&e[wordNAT]) == g.nat && atomic.LoadUint64(&e[wordViaHi]) == g.viaHi &&
		atomic.LoadUint64(&e[wordViaLo]) == g.viaLo && uint32(atomic.LoadUint64(&e[wordUse])>>entropyAt) == g.entropy
}

// Drop forgets the memo of a key. An entry that is being written now is left to
// its writer, who looks at the flow afterwards.
func (t *Table) Drop(k *Key) {
	hash, sets := t.Hash(k), t.sets()
	t.dropIn(sets, k, hash)
	if t.justGrown() {
		t.dropIn(sets>>1, k, hash)
	}
}

func (t *Table) dropIn(sets uint64, k *Key, hash uint64) {
	for i := range 4 {
		e := &t.entries[placeIn(sets, hash, i)]
		for e.has(k) {
			old := atomic.LoadUint64(&e[wordControl])
			if old>>genAt&genMask == 0 || atomic.CompareAndSwapUint64(&e[wordControl], old, (old+1)&seqMask) {
				break
			}
		}
	}
}
