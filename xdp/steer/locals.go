package steer

import (
	"errors"
	"fmt"
	"net/netip"
	"sort"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxLocals is the most addresses that SetLocals accepts.
const MaxLocals = 65536

// Kind says what an address of ours is for.
type Kind uint8

// The kinds of local address. Their meaning is that of the forwarding
// information base: IP packets to a VIP or a SNAT address are taken, those to
// a tunnel source go to the host.
const (
	VIP    Kind = 1 + iota // clients send to it
	SNAT                   // backends answer to it
	Tunnel                 // source of our tunnel packets: at most answered for
)

// String gives the kind's name: vip, snat or tunnel.
func (k Kind) String() string {
	switch k {
	case VIP:
		return "vip"
	case SNAT:
		return "snat"
	case Tunnel:
		return "tunnel"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Local is one address that belongs to Fairlead.
type Local struct {
	Addr      netip.Addr
	Kind      Kind
	AnswerARP bool   // ARP requests and neighbour solicitations for it are taken
	FailPass  bool   // with no socket the host gets its traffic; otherwise it is dropped
	ID        uint16 // what the keys of flow memos name it by; 0 where there are none
}

// key is an address as the program looks it up: 16 bytes, IPv4 as
// ::ffff:a.b.c.d.
type key [16]byte

func (k key) addr() netip.Addr { return netip.AddrFrom16(k).Unmap() }

// entry is what the program knows of a local.
type entry struct {
	failAction, flags, kind, _ uint8
	id                         uint16
	_                          uint16
}

// Actions of the XDP program and flags of a local, as in bpf/steer.c.
const (
	xdpDrop = 1
	xdpPass = 2

	takeIP    = 1 << 0
	answerARP = 1 << 1
)

func (l Local) entry() entry {
	e := entry{failAction: xdpDrop, kind: uint8(l.Kind), id: l.ID}
	if l.FailPass {
		e.failAction = xdpPass
	}
	if l.Kind != Tunnel {
		e.flags |= takeIP
	}
	if l.AnswerARP {
		e.flags |= answerARP
	}
	return e
}

func (e entry) local(addr netip.Addr) Local {
	return Local{
		Addr:      addr,
		Kind:      Kind(e.kind),
		AnswerARP: e.flags&answerARP != 0,
		FailPass:  e.failAction == xdpPass,
		ID:        e.id,
	}
}

// keyOf checks that addr can be an address of a host and makes its key.
func keyOf(addr netip.Addr) (key, error) {
	switch {
	case !addr.IsValid():
		return key{}, errors.New("address is missing")
	case addr.Zone() != "":
		return key{}, fmt.Errorf("address %s has a zone", addr)
	case addr.Unmap().IsUnspecified():
		return key{}, fmt.Errorf("address %s is the unspecified address", addr)
	case addr.Unmap().IsMulticast():
		return key{}, fmt.Errorf("address %s is a multicast address", addr)
	}
	return addr.As16(), nil
}

// desired checks a set of locals and puts it in the map's form.
func desired(locals []Local) (map[key]entry, error) {
	want := make(map[key]entry, len(locals))
	for _, l := range locals {
		k, err := keyOf(l.Addr)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", l.Kind, err)
		}
		if l.Kind < VIP || l.Kind > Tunnel {
			return nil, fmt.Errorf("address %s: unknown %v", l.Addr, l.Kind)
		}
		if was, ok := want[k]; ok && was != l.entry() {
			return nil, fmt.Errorf("address %s is given twice and differently: as %v and as %v", l.Addr, Kind(was.kind), l.Kind)
		}
		want[k] = l.entry()
	}
	if len(want) > MaxLocals {
		return nil, fmt.Errorf("%d addresses are too many: the steering program holds %d", len(want), MaxLocals)
	}
	return want, nil
}

// SetLocals makes the set of our addresses equal to locals and returns how many
// addresses were written (new or changed) and how many removed. Additions come
// before removals, and an address that stays is never missing in between. On an
// error the set is as it was, as far as the kernel allows.
func (s *Steer) SetLocals(locals []Local) (added, removed int, err error) {
	want, err := desired(locals)
	if err != nil {
		return 0, 0, fmt.Errorf("set locals: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, ErrClosed
	}
	var written []key
	for k, e := range want {
		if was, ok := s.locals[k]; ok && was == e {
			continue
		}
		if err := update(s.shared.locals, k, e, ebpf.UpdateAny); err != nil {
			s.restoreLocals(written)
			if errors.Is(err, unix.E2BIG) {
				err = errors.New("the kernel's table is full")
			}
			return 0, 0, fmt.Errorf("set locals: add %s: %w", k.addr(), err)
		}
		written = append(written, k)
	}
	for k := range s.locals {
		if _, ok := want[k]; ok {
			continue
		}
		if err := s.shared.locals.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			// Both the old and the new addresses are in the map now; what was
			// not removed is tried again by the next call.
			for _, k := range written {
				s.locals[k] = want[k]
			}
			return len(written), removed, fmt.Errorf("set locals: remove %s: %w", k.addr(), err)
		}
		delete(s.locals, k)
		removed++
	}
	s.locals = want
	return len(written), removed, nil
}

// restoreLocals undoes the additions of a SetLocals that failed.
func (s *Steer) restoreLocals(written []key) {
	for _, k := range written {
		if was, ok := s.locals[k]; ok {
			_ = update(s.shared.locals, k, was, ebpf.UpdateAny)
		} else {
			_ = s.shared.locals.Delete(k)
		}
	}
}

// Locals returns the present set, sorted by address.
func (s *Steer) Locals() []Local {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Local, 0, len(s.locals))
	for k, e := range s.locals {
		all = append(all, e.local(k.addr()))
	}
	sort.Slice(all, func(a, b int) bool { return all[a].Addr.Less(all[b].Addr) })
	return all
}

func readLocals(m *ebpf.Map) (map[key]entry, error) {
	found := make(map[key]entry)
	var k key
	var e objectLocal
	it := m.Iterate()
	for it.Next(&k, &e) {
		found[k] = entry{failAction: e.FailAction, flags: e.Flags, kind: e.Kind, id: e.Id}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read locals: %w", err)
	}
	return found, nil
}
