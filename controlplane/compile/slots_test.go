package compile

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"fairlead/controlplane/model"
)

// backendKey is what a backend is known by.
type backendKey struct {
	pool string
	end  netip.AddrPort
}

// give runs one round in which exactly these owners are there.
func give(t *testing.T, s *slots[string], r rules, owners ...string) (*slots[string], map[string][2]uint32) {
	t.Helper()
	rd := begin(s, r)
	got := make(map[string][2]uint32)
	for _, o := range owners {
		slot, epoch, err := rd.slot(o)
		if err != nil {
			t.Fatal(err)
		}
		got[o] = [2]uint32{slot, uint32(epoch)}
	}
	next := rd.end()
	return &next, got
}

func TestSlots(t *testing.T) {
	r := rules{what: "slot", first: 1, limit: 100, rest: 1}
	s := &slots[string]{}
	check := func(step string, owners []string, want map[string][2]uint32) {
		t.Helper()
		var got map[string][2]uint32
		s, got = give(t, s, r, owners...)
		for o, w := range want {
			if got[o] != w {
				t.Errorf("%s: %s has slot and epoch %v, want %v", step, o, got[o], w)
			}
		}
	}
	check("first", []string{"a", "b", "c"}, map[string][2]uint32{"a": {1, 1}, "b": {2, 1}, "c": {3, 1}})
	check("order does not matter", []string{"c", "a", "b"}, map[string][2]uint32{"a": {1, 1}, "b": {2, 1}, "c": {3, 1}})
	check("not reused in the round it becomes free", []string{"a", "c", "d"}, map[string][2]uint32{"d": {4, 1}})
	check("not reused while only so many are free", []string{"a", "c", "d", "e"}, map[string][2]uint32{"e": {5, 1}})
	check("two become free at once", []string{"d"}, map[string][2]uint32{"d": {4, 1}})
	check("oldest first, then in order", []string{"d", "f", "g", "h"}, map[string][2]uint32{"f": {2, 2}, "g": {1, 2}, "h": {3, 2}})
	check("one that comes back is new", []string{"d", "f", "g", "h", "a", "b"}, map[string][2]uint32{"a": {6, 1}, "b": {7, 1}})
}

func TestSlotEpochsWrap(t *testing.T) {
	r := rules{what: "slot", limit: 100}
	s := &slots[string]{}
	seen := make(map[[2]uint32]int)
	for i := range 1000 {
		var got map[string][2]uint32
		s, got = give(t, s, r, string(rune('a'+i%7)))
		for _, id := range got {
			if id[1] == 0 || id[1] > 255 {
				t.Fatalf("epoch is %d", id[1])
			}
			if before, ok := seen[id]; ok && i-before < 255 {
				t.Fatalf("identity %v of round %d is back in round %d", id, before, i)
			}
			seen[id] = i
		}
	}
}

func TestSlotsRunOut(t *testing.T) {
	r := rules{what: "local address ID", first: 1, limit: 4, rest: 10}
	s, _ := give(t, &slots[string]{}, r, "a", "b", "c")
	rd := begin(s, r)
	for _, o := range []string{"a", "b"} {
		if _, _, err := rd.slot(o); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := rd.slot("d")
	if want := "no local address ID is left: all 3 are in use or were until now"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	next := rd.end()
	if _, got := give(t, &next, r, "a", "b", "d"); got["d"] != [2]uint32{3, 2} {
		t.Errorf("in the next round d has %v, want slot 3 in epoch 2", got["d"])
	}
}

// TestIDsAcrossRandomChanges follows random states for many compilations: who
// stays keeps its ID, no two share one, and no ID that was given up comes back
// within the next compilations.
func TestIDsAcrossRandomChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var ids *IDs
	services, backends := make(map[serviceKey]uint32), make(map[backendKey]uint32)
	locals := make(map[localKey]uint16)
	given := make(map[uint32]backendKey) // every backend ID ever given out, to whom
	for range 60 {
		state, obs := randomState(r)
		result, s := compile(t, state, obs, ids, Options{})

		nowServices, nowBackends, nowLocals := make(map[serviceKey]uint32), make(map[backendKey]uint32), make(map[localKey]uint16)
		used := make(map[uint32]bool)
		for i := range s.Services() {
			v := s.Services()[i]
			if v.ID == 0 {
				continue
			}
			if used[uint32(v.ID)] {
				t.Fatalf("two services have ID %#x", uint32(v.ID))
			}
			used[uint32(v.ID)] = true
			key := serviceKey{s.Name(v.Name), s.LocalByID(v.Local).Addr.Netip(), protocolOf(v.Proto), model.PortRange{First: v.PortFirst, Last: v.PortLast}}
			nowServices[key] = uint32(v.ID)
			if before, ok := services[key]; ok && before != uint32(v.ID) {
				t.Fatalf("service %v went from ID %#x to %#x", key, before, uint32(v.ID))
			}
			if s.ServiceByID(v.ID) != &s.Services()[i] {
				t.Fatalf("service %v is not found by its ID", key)
			}
		}
		if len(nowServices) != len(state.Services) {
			t.Fatalf("%d services are there, want %d", len(nowServices), len(state.Services))
		}
		clear(used)
		for i := range s.Backends() {
			b := s.Backends()[i]
			if b.ID == 0 {
				continue
			}
			if used[uint32(b.ID)] {
				t.Fatalf("two backends have ID %#x", uint32(b.ID))
			}
			used[uint32(b.ID)] = true
			key := backendKey{s.Name(s.Pool(b.Pool).Name), netip.AddrPortFrom(b.Addr.Netip(), b.Port)}
			nowBackends[key] = uint32(b.ID)
			if before, ok := backends[key]; ok && before != uint32(b.ID) {
				t.Fatalf("backend %v went from ID %#x to %#x", key, before, uint32(b.ID))
			}
			if owner, ok := given[uint32(b.ID)]; ok && owner != key {
				t.Fatalf("ID %#x of backend %v was given to %v before", uint32(b.ID), key, owner)
			}
			given[uint32(b.ID)] = key
		}
		usedLocals := make(map[uint16]bool)
		s.Locals(func(l *fibLocal) bool {
			if usedLocals[l.ID] {
				t.Fatalf("two addresses have ID %d", l.ID)
			}
			usedLocals[l.ID] = true
			key := localKey{l.Addr.Netip(), l.Kind}
			nowLocals[key] = l.ID
			if before, ok := locals[key]; ok && before != l.ID {
				t.Fatalf("address %v went from ID %d to %d", key, before, l.ID)
			}
			return true
		})
		services, backends, locals, ids = nowServices, nowBackends, nowLocals, result.IDs
	}
}

func protocolOf(p uint8) model.Protocol {
	switch p {
	case protoUDP:
		return model.UDP
	case protoSCTP:
		return model.SCTP
	}
	return model.TCP
}
