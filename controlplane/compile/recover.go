package compile

import (
	"cmp"
	"slices"

	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// Recovered is what an image tells of the compilation that made it, for a
// process that goes on where another one has ended.
type Recovered struct {
	IDs   *IDs
	Pools []RecoveredPool
}

// RecoveredPool is one pool of an image: its backends, those that drain too.
type RecoveredPool struct {
	Name     string
	Backends []model.Backend
	Draining []model.Backend
}

// Recover reads the identities and the pools out of an image, so that what is
// the same afterwards keeps its identity and flows stay where they are.
//
// An image does not say who had the slots that nobody has now. Flows may still
// name those owners, so these slots are not given out again.
func Recover(s *fib.Snapshot) Recovered {
	ids := &IDs{
		services: slots[serviceKey]{live: make(map[serviceKey]uint32)},
		backends: owners{pools: make(map[string][]owned)},
		locals:   slots[localKey]{live: make(map[localKey]uint32)},
		snats:    slots[netip.Addr]{live: make(map[netip.Addr]uint32)},
	}
	s.Locals(func(l *fib.Local) bool {
		ids.locals.recover(localKey{l.Addr.Netip(), l.Kind}, uint32(l.ID), 1)
		return true
	})
	for i := range s.Services() {
		svc := &s.Services()[i]
		if svc.ID == 0 {
			ids.services.reserve(uint32(i))
			continue
		}
		key := serviceKey{
			name: s.Name(svc.Name), vip: s.LocalByID(svc.Local).Addr.Netip(), protocol: protocolFrom(svc.Proto),
			ports: model.PortRange{First: svc.PortFirst, Last: svc.PortLast},
		}
		ids.services.recover(key, uint32(i), svc.ID.Epoch())
	}
	for i := range s.SNATs() {
		if n := s.SNAT(uint32(i)); n.Local != 0 {
			ids.snats.recover(n.Addr.Netip(), uint32(i), 1)
		} else {
			ids.snats.reserve(uint32(i))
		}
	}
	return Recovered{ids, recoverBackends(s, &ids.backends)}
}

func recoverBackends(s *fib.Snapshot, to *owners) (pools []RecoveredPool) {
	to.epochs = make([]uint8, len(s.Backends()))
	for i := range to.epochs {
		to.epochs[i] = max(1, s.Backends()[i].ID.Epoch())
	}
	for i := range s.Pools() {
		p := s.Pool(uint32(i))
		members := s.Members(p)
		if len(members) == 0 {
			continue
		}
		pool := RecoveredPool{Name: s.Name(p.Name)}
		list := make([]owned, 0, len(members))
		for _, slot := range members {
			b := s.Backend(slot)
			list = append(list, owned{end{b.Addr, b.Port}, slot})
			k := model.Backend{Address: b.Addr.Netip(), Port: b.Port, Weight: int(b.Weight), MTU: int(b.MTU), Name: s.Name(b.Name)}
			if b.Flags&fib.BackendDraining != 0 {
				pool.Draining = append(pool.Draining, k)
			} else {
				pool.Backends = append(pool.Backends, k)
			}
		}
		slices.SortFunc(list, func(a, b owned) int { return cmp.Or(a.end.compare(b.end), cmp.Compare(a.slot, b.slot)) })
		to.pools[pool.Name] = list
		pools = append(pools, pool)
	}
	return pools
}

// recover notes who has a slot.
func (s *slots[K]) recover(owner K, slot uint32, epoch uint8) {
	s.reserve(slot)
	s.live[owner], s.epochs[slot] = slot, epoch
}

// reserve notes that there is a slot, whoever had it.
func (s *slots[K]) reserve(slot uint32) {
	for len(s.epochs) <= int(slot) {
		s.epochs = append(s.epochs, 1)
	}
}

func protocolFrom(proto uint8) model.Protocol {
	switch proto {
	case protoUDP:
		return model.UDP
	case protoSCTP:
		return model.SCTP
	}
	return model.TCP
}
