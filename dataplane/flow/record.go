package flow

import (
	"sync/atomic"

	"fairlead/dataplane/packet"
)

// record is one flow, one cache line. Both of its keys are in it exactly.
//
//	0, 1  client address
//	2, 3  backend address (NAT)
//	4     client port | VIP port | backend port | SNAT port
//	5     VIP | SNAT | service ID
//	6     backend ID | protocol | sequence (ident)
//	7     deadline | via | generation | marks and state (life)
//
// The sequence is a seqlock: odd while the owner writes the record, and larger
// by two for each flow the record has held. Only words 6 and 7 change while a
// flow lives: 6 by Move, 7 by everything else, both by compare-and-swap, and
// both carry enough of the sequence that a swap meant for one flow cannot hit
// the next one in the same record.
type record [8]uint64

// Words of a record.
const (
	wordClientHi = iota
	wordClientLo
	wordBackendHi
	wordBackendLo
	wordPorts
	wordService
	wordIdent
	wordLife
)

// Parts of the ident word.
const (
	seqBits   = 24
	seqMask   = 1<<seqBits - 1
	seqOdd    = 1
	protoBit  = seqBits
	backendAt = 32
)

// life is a record's word 7.
type life uint64

// Parts of the life word: state in bits 0-2, marks in 3-8, the low bits of the
// sequence in 9-15, via in 16-31, deadline in 32-63.
const (
	lifeState      life = 7
	lifeFinForward life = 1 << 3 // the client has sent FIN
	lifeFinReply   life = 1 << 4 // the backend has sent FIN
	lifeRstForward life = 1 << 5 // closed by a RST from the client, and nothing since says it lives
	lifeRstReply   life = 1 << 6 // closed by a RST from the backend, likewise
	lifeResting    life = 1 << 7 // forgotten: found by nobody, but its outside tuple stays taken until the deadline
	lifeDead       life = 1 << 8 // gone for good; the owner has still to remove its slots
	lifeMarks           = lifeFinForward | lifeFinReply | lifeRstForward | lifeRstReply
	genAt               = 9
	genMask             = 1<<7 - 1
	viaAt               = 16
	deadlineAt          = 32
	lifeVia        life = 0xffff << viaAt
	lifeDeadline   life = 0xffffffff << deadlineAt
)

func (l life) state() State       { return State(l & lifeState) }
func (l life) deadline() Time     { return Time(l >> deadlineAt) }
func (l life) via() uint16        { return uint16(l >> viaAt) }
func (l life) passed(t Time) bool { return !t.Before(l.deadline()) }

func (l life) withDeadline(t Time) life {
	return l&^lifeDeadline | life(t)<<deadlineAt
}

// live reports whether the record holds a flow that packets may match.
func (l life) live(now Time) bool {
	return l&lifeState != 0 && l&(lifeDead|lifeResting) == 0 && !l.passed(now)
}

// holds reports whether the record keeps a key from being given to another
// flow: a resting one keeps its reply key.
func (l life) holds(dir Direction, now Time) bool {
	return l&lifeState != 0 && l&lifeDead == 0 && (l&lifeResting == 0 || dir == Reply) && !l.passed(now)
}

func (r *record) load(word int) uint64 { return atomic.LoadUint64(&r[word]) }

func (r *record) life() life { return life(atomic.LoadUint64(&r[wordLife])) }

func (r *record) swapLife(from, to life) bool {
	return atomic.CompareAndSwapUint64(&r[wordLife], uint64(from), uint64(to))
}

// kill makes the flow that has the given life invisible for good. It fails
// when the record has changed since.
func (r *record) kill(from life) bool { return r.swapLife(from, from|lifeDead) }

// clear makes a record free; its slots must be gone.
func (r *record) clear() { atomic.StoreUint64(&r[wordLife], uint64(StateFree)) }

// write puts a flow into a free record that no slot points to, and notes in f
// which incarnation it is. Only the record's owner may call it.
func (r *record) write(f *Flow) {
	writing := (r.load(wordIdent) | seqOdd) & seqMask
	atomic.StoreUint64(&r[wordIdent], writing)
	seq := (writing + 1) & seqMask
	atomic.StoreUint64(&r[wordClientHi], f.Client.Hi)
	atomic.StoreUint64(&r[wordClientLo], f.Client.Lo)
	atomic.StoreUint64(&r[wordBackendHi], f.Backend.Hi)
	atomic.StoreUint64(&r[wordBackendLo], f.Backend.Lo)
	atomic.StoreUint64(&r[wordPorts], uint64(f.ClientPort)<<48|uint64(f.VIPPort)<<32|uint64(f.BackendPort)<<16|uint64(f.SNATPort))
	atomic.StoreUint64(&r[wordService], uint64(f.VIP)<<48|uint64(f.SNAT)<<32|uint64(f.ServiceID))
	atomic.StoreUint64(&r[wordLife], uint64(life(f.Deadline)<<deadlineAt|life(f.Via)<<viaAt|generation(seq)|life(f.State)))
	atomic.StoreUint64(&r[wordIdent], uint64(f.BackendID)<<backendAt|uint64(f.Proto)<<protoBit|seq)
	f.seq = uint32(seq)
}

func generation(seq uint64) life { return life(seq>>1&genMask) << genAt }

// read copies the record to f and returns its life word. It reports false when
// the record is being written, or was written by a process that died.
func (r *record) read(f *Flow) (life, bool) {
	for {
		if l, done, ok := r.readOnce(f); done {
			return l, ok
		}
	}
}

// readOnce is read, but is not done when the record has changed meanwhile.
func (r *record) readOnce(f *Flow) (l life, done, ok bool) {
	ident := r.load(wordIdent)
	if ident&seqOdd != 0 {
		return 0, true, false
	}
	ports := r.load(wordPorts)
	service := r.load(wordService)
	client := packet.Addr{Hi: r.load(wordClientHi), Lo: r.load(wordClientLo)}
	backend := packet.Addr{Hi: r.load(wordBackendHi), Lo: r.load(wordBackendLo)}
	l = r.life()
	if r.load(wordIdent) != ident {
		return 0, false, false
	}
	f.Client = client
	f.Backend = backend
	f.fill(ports, service, ident, l)
	return l, true, true
}

func (f *Flow) fill(ports, service, ident uint64, l life) {
	f.ClientPort = uint16(ports >> 48)
	f.VIPPort = uint16(ports >> 32)
	f.BackendPort = uint16(ports >> 16)
	f.SNATPort = uint16(ports)
	f.VIP = uint16(service >> 48)
	f.SNAT = uint16(service >> 32)
	f.ServiceID = uint32(service)
	f.BackendID = uint32(ident >> backendAt)
	f.Proto = uint8(ident >> protoBit)
	f.Via = l.via()
	f.State = l.state()
	f.Deadline = l.deadline()
	f.seq = uint32(ident & seqMask)
}

// current reports whether the record still holds the flow that f is a copy of.
func (r *record) current(f *Flow) bool {
	return uint32(r.load(wordIdent)&seqMask) == f.seq
}

// keys gives both keys of the record; reply means nothing unless nat. The
// caller knows that nobody writes the record.
func (r *record) keys() (forward, reply Key, nat bool) {
	ports, service := r.load(wordPorts), r.load(wordService)
	proto := uint8(r.load(wordIdent) >> protoBit)
	forward = Key{
		Peer:  packet.Addr{Hi: r.load(wordClientHi), Lo: r.load(wordClientLo)},
		Local: uint16(service >> 48), PeerPort: uint16(ports >> 48), LocalPort: uint16(ports >> 32), Proto: proto,
	}
	reply = Key{
		Peer:  packet.Addr{Hi: r.load(wordBackendHi), Lo: r.load(wordBackendLo)},
		Local: uint16(service >> 32), PeerPort: uint16(ports >> 16), LocalPort: uint16(ports), Proto: proto,
	}
	return forward, reply, reply.Local != 0
}
