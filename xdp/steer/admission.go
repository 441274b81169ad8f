package steer

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
)

// The accounts of queues by which the program admits new connections lie in one
// map, those of an interface together; see bpf/admission.h and package xdp's
// Admission, which is one of them. Interfaces beyond the first few have none:
// their connections are all admitted.
const admissionInterfaces = 16

// admissions are the accounts of all interfaces. They are not pinned: the
// programs of a Steer that is closed go on with those they have.
type admissions struct {
	accounts *ebpf.Map
	places   map[int]int // of an interface among the interfaces
}

func newAdmissions(spec *ebpf.CollectionSpec, adopted *AdoptedMaps) (admissions, error) {
	m, err := adopted.open(objectMapAdmissions, spec.Maps[objectMapAdmissions])
	if err != nil {
		return admissions{}, fmt.Errorf("make map %s: %w", objectMapAdmissions, err)
	}
	a := admissions{m, make(map[int]int)}
	if adopted != nil {
		maps.Copy(a.places, adopted.Places)
	}
	return a, nil
}

// place gives an interface a place, if there is one left.
func (a *admissions) place(ifindex int) {
	if _, ok := a.places[ifindex]; ok {
		return
	}
	taken := make(map[int]bool)
	for _, place := range a.places {
		taken[place] = true
	}
	for place := range admissionInterfaces {
		if !taken[place] {
			a.places[ifindex] = place
			return
		}
	}
}

// configure sets a program's constant.
func (a *admissions) configure(spec *ebpf.CollectionSpec, ifindex int) error {
	place, ok := a.places[ifindex]
	if !ok {
		return nil
	}
	return spec.Variables[objectVarAdmissionBase].Set(uint32(place * MaxQueues))
}

func (a *admissions) close() {
	if a.accounts != nil {
		a.accounts.Close()
	}
}

// Admissions is the map of the queues' accounts, which whoever has its
// descriptor can map; false after Close.
func (s *Steer) Admissions() (SharedMap, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return SharedMap{}, false
	}
	return shareable(s.admissions.accounts), true
}

// Admission is the number of a queue's account in the map; false when it has
// none.
func (s *Steer) Admission(ifindex, queue int) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, ok := s.admissions.places[ifindex]
	return place*MaxQueues + queue, ok && queue >= 0 && queue < MaxQueues
}
