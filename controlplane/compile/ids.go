package compile

import (
	"net/netip"

	"fairlead/controlplane/model"
	"fairlead/dataplane/fib"
)

// IDs are the identities that a compilation gave to services, backends,
// addresses and SNAT entries. They are immutable; the next compilation begins
// from them. The zero IDs have given out none.
//
//   - A service is the same as long as its name, VIP, protocol and ports are.
//   - A backend is the same as long as its pool's name, its address and its
//     port are, whether it serves, drains or is down.
//   - An address of ours is the same as long as it is there in the same role
//     (VIP, SNAT address, tunnel source).
type IDs struct {
	services slots[serviceKey]
	backends owners
	locals   slots[localKey]
	snats    slots[netip.Addr]
}

type serviceKey struct {
	name     string
	vip      netip.Addr
	protocol model.Protocol
	ports    model.PortRange
}

type localKey struct {
	address netip.Addr
	kind    fib.LocalKind
}

// resting is how many free slots of services and backends are left alone
// before one is taken again. With 255 epochs to a slot, an identity comes back
// after some 260,000 others at the earliest.
const resting = 1024

// maxSlots is how many slots an ID can tell apart.
const maxSlots = 1 << fib.SlotBits

// assignment is the rounds of one compilation.
type assignment struct {
	services *round[serviceKey]
	backends *ownersRound
	locals   *round[localKey]
	snats    *round[netip.Addr]
}

func newAssignment(prev *IDs) *assignment {
	return &assignment{
		services: begin(&prev.services, rules{what: "service ID", limit: maxSlots, rest: resting}),
		backends: beginOwners(&prev.backends),
		// Local IDs have no epoch, so none is given to another address while
		// there is one that never had an owner.
		locals: begin(&prev.locals, rules{what: "local address ID", first: 1, limit: 1 << 16, rest: 1 << 16}),
		snats:  begin(&prev.snats, rules{what: "SNAT entry", limit: 1 << 16}),
	}
}

func (a *assignment) finish() *IDs {
	return &IDs{
		services: a.services.end(),
		backends: a.backends.end(),
		locals:   a.locals.end(),
		snats:    a.snats.end(),
	}
}
