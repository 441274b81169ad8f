package fib

import (
	"math/bits"
	"net/netip"

	"fairlead/dataplane/packet"
)

// Generation is the number the image was published under.
func (s *Snapshot) Generation() uint64 { return s.generation }

// Settings are what holds for the node as a whole.
func (s *Snapshot) Settings() *Settings { return s.settings }

// Local finds an address of ours, nil when it is none.
func (s *Snapshot) Local(addr packet.Addr) *Local {
	mask := uint64(len(s.locals) - 1)
	for at := localHash(addr) & mask; ; at = (at + 1) & mask {
		l := &s.locals[at]
		if l.ID == 0 {
			return nil
		}
		if l.Addr == addr {
			return l
		}
	}
}

// LocalByID finds an address of ours by its ID, nil when no address has it.
func (s *Snapshot) LocalByID(id uint16) *Local {
	if int(id) >= len(s.localIDs) || s.localIDs[id] == NoIndex {
		return nil
	}
	return &s.locals[s.localIDs[id]]
}

// Service finds the service that a packet to this address, protocol and port
// belongs to: the one of exactly this port, else the one whose port range has
// it, else the one of all other ports, else nil.
func (s *Snapshot) Service(local uint16, proto uint8, port uint16) *Service {
	if i := s.exactPort(portKey(local, proto, port)); i != NoIndex {
		return &s.services[i]
	}
	if len(s.ranges) != 0 {
		if i := s.portInRange(local, proto, port); i != NoIndex {
			return &s.services[i]
		}
	}
	if i := s.exactPort(portKey(local, proto, 0)); i != NoIndex {
		return &s.services[i]
	}
	return nil
}

// exactPort looks a port key up in the ports table.
func (s *Snapshot) exactPort(key uint64) uint32 {
	mask := uint64(len(s.ports) - 1)
	for at := portHash(key) & mask; ; at = (at + 1) & mask {
		entry := s.ports[at]
		if entry == 0 {
			return NoIndex
		}
		if entry>>SlotBits == key {
			return uint32(entry & (1<<SlotBits - 1))
		}
	}
}

// portInRange searches the ranges, which are sorted and do not overlap.
func (s *Snapshot) portInRange(local uint16, proto uint8, port uint16) uint32 {
	key := portKey(local, proto, port)
	low, high := 0, len(s.ranges) // the first range that begins after key lies in [low, high]
	for low < high {
		middle := int(uint(low+high) / 2)
		if r := &s.ranges[middle]; portKey(r.Local, r.Proto, r.PortFirst) <= key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return NoIndex
	}
	if r := &s.ranges[low-1]; r.Local == local && r.Proto == proto && port <= r.PortLast {
		return r.Service
	}
	return NoIndex
}

// ServiceByID finds a service by its identity, nil when it is no more.
func (s *Snapshot) ServiceByID(id ID) *Service {
	if i := id.Slot(); i < uint32(len(s.services)) && id != 0 && s.services[i].ID == id {
		return &s.services[i]
	}
	return nil
}

// BackendByID finds a backend by its identity, nil when it is no more.
func (s *Snapshot) BackendByID(id ID) *Backend {
	if i := id.Slot(); i < uint32(len(s.backends)) && id != 0 && s.backends[i].ID == id {
		return &s.backends[i]
	}
	return nil
}

// TableSlot is the slot of the pool's Maglev table that a hash falls on, or
// NoIndex when the pool has no backend to choose.
func (s *Snapshot) TableSlot(p *Pool, hash uint64) uint32 {
	if p.TableSize == 0 {
		return NoIndex
	}
	slot, _ := bits.Mul64(hash, uint64(p.TableSize))
	return uint32(slot)
}

// Pick is the slot of the backend that the pool's Maglev table has for a hash,
// or NoIndex when the pool has no backend to choose, or refuses flows of the hash.
func (s *Snapshot) Pick(p *Pool, hash uint64) uint32 {
	slot := s.TableSlot(p, hash)
	if slot == NoIndex {
		return NoIndex
	}
	member := s.tables[p.Table+slot]
	if member == NoMember {
		return NoIndex
	}
	return s.members[p.Members+uint32(member)]
}

// PickBase is the slot of the backend that the pool's base has for a hash. It is
// not ok when the pool has no base; the slot is NoIndex when the backend is no
// member of the pool any more.
func (s *Snapshot) PickBase(p *Pool, hash uint64) (slot uint32, ok bool) {
	return s.pickOf(p, p.Base, p.BaseSize, hash)
}

// PickAlso is PickBase by the pool's other base.
func (s *Snapshot) PickAlso(p *Pool, hash uint64) (slot uint32, ok bool) {
	return s.pickOf(p, p.Also, p.AlsoSize, hash)
}

func (s *Snapshot) pickOf(p *Pool, first, size uint32, hash uint64) (slot uint32, ok bool) {
	if size == 0 {
		return NoIndex, false
	}
	at, _ := bits.Mul64(hash, uint64(size))
	member := s.tables[uint64(first)+at]
	if member == NoMember {
		return NoIndex, true
	}
	return s.members[p.Members+uint32(member)], true
}

// Allowed reports whether the service's source ranges let the client in.
func (s *Snapshot) Allowed(svc *Service, client packet.Addr) bool {
	if svc.RangeCount == 0 {
		return true
	}
	ranges := s.sourceRanges[svc.Ranges : svc.Ranges+svc.RangeCount]
	low, high := 0, len(ranges) // the first range that begins after client lies in [low, high]
	for low < high {
		middle := int(uint(low+high) / 2)
		if compareAddr(ranges[middle].Addr, client) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && ranges[low-1].Contains(client)
}

// compareAddr orders addresses as unsigned 128-bit numbers.
func compareAddr(a, b packet.Addr) int {
	switch {
	case a.Hi < b.Hi, a.Hi == b.Hi && a.Lo < b.Lo:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// Backend is the backend at a slot; its ID is 0 when the slot is unused. The
// slot must come from this snapshot.
func (s *Snapshot) Backend(slot uint32) *Backend { return &s.backends[slot] }

// Pool is the pool at an index of this snapshot.
func (s *Snapshot) Pool(i uint32) *Pool { return &s.pools[i] }

// NextHop is the next hop at an index of this snapshot, nil for NoIndex.
func (s *Snapshot) NextHop(i uint32) *NextHop {
	if i >= uint32(len(s.nextHops)) {
		return nil
	}
	return &s.nextHops[i]
}

// Interface is the interface that frames with this Port come from and go to,
// nil when the snapshot has none of that number.
func (s *Snapshot) Interface(port uint16) *Interface {
	if int(port) >= len(s.interfaces) {
		return nil
	}
	return &s.interfaces[port]
}

// SNAT is the SNAT address at an index of this snapshot.
func (s *Snapshot) SNAT(i uint32) *SNAT { return &s.snats[i] }

// Timeouts is the set of idle times at an index of this snapshot.
func (s *Snapshot) Timeouts(i uint32) *Timeouts { return &s.timeouts[i] }

// TimeoutSets are all sets of idle times.
func (s *Snapshot) TimeoutSets() []Timeouts { return s.timeouts }

// TimeoutsCount is how many sets of idle times there are.
func (s *Snapshot) TimeoutsCount() int { return len(s.timeouts) }

// Name is a copy of the string at a reference of this snapshot: it stays valid
// when the image is unmapped.
func (s *Snapshot) Name(r NameRef) string {
	if r.Length == 0 {
		return ""
	}
	return string(s.names[r.Offset:][:r.Length])
}

// BackendName is a copy of the name that a backend was given, or its address
// and port, or its address alone when it takes the packet's own port.
func (s *Snapshot) BackendName(b *Backend) string {
	switch {
	case b.Name.Length != 0:
		return s.Name(b.Name)
	case b.Port == 0:
		return b.Addr.String()
	}
	return netip.AddrPortFrom(b.Addr.Netip(), b.Port).String()
}

// Services are all services by slot; the ID of an unused slot is 0.
func (s *Snapshot) Services() []Service { return s.services }

// Backends are all backends by slot; the ID of an unused slot is 0.
func (s *Snapshot) Backends() []Backend { return s.backends }

// Pools are all pools.
func (s *Snapshot) Pools() []Pool { return s.pools }

// Members are the slots of the pool's backends; the entries of its Maglev
// table are indexes into them.
func (s *Snapshot) Members(p *Pool) []uint32 {
	return s.members[p.Members : p.Members+p.MemberCount]
}

// Table is the pool's Maglev table: for each slot an index into Members, or NoMember
// where flows are refused. It is empty when the pool has no backend to choose.
func (s *Snapshot) Table(p *Pool) []uint16 { return s.tables[p.Table : p.Table+p.TableSize] }

// BaseTable is the pool's base: for each slot an index into Members, or NoMember.
// It is empty when the pool has none.
func (s *Snapshot) BaseTable(p *Pool) []uint16 { return s.tables[p.Base : p.Base+p.BaseSize] }

// AlsoTable is BaseTable of the pool's other base.
func (s *Snapshot) AlsoTable(p *Pool) []uint16 { return s.tables[p.Also : p.Also+p.AlsoSize] }

// Ranges are the source ranges of a service.
func (s *Snapshot) Ranges(svc *Service) []SourceRange {
	return s.sourceRanges[svc.Ranges : svc.Ranges+svc.RangeCount]
}

// NextHops are all next hops.
func (s *Snapshot) NextHops() []NextHop { return s.nextHops }

// Interfaces are all interfaces in the order of a frame's Port.
func (s *Snapshot) Interfaces() []Interface { return s.interfaces }

// SNATs are all SNAT addresses by index; Local of an unused entry is 0.
func (s *Snapshot) SNATs() []SNAT { return s.snats }

// Locals calls f for each address of ours, in no particular order, until f
// returns false.
func (s *Snapshot) Locals(f func(*Local) bool) {
	for i := range s.locals {
		if s.locals[i].ID != 0 && !f(&s.locals[i]) {
			return
		}
	}
}
