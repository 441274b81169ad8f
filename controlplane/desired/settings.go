package desired

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead/controlplane/model"
)

// AuthorOperator is the source of versions that operators make by setting
// backends, by rolling back, or by not confirming.
const AuthorOperator = "operator"

// Bounds of a drain.
const (
	MinDrain = time.Second
	MaxDrain = model.MaxTimeout
)

// Action is what an operator does to a backend.
type Action struct {
	// State is what the backend is to be; empty: as it is.
	State model.AdminState
	// Timeout is how long the flows of a drained backend go on; 0: to their end.
	Timeout time.Duration
	// Weight takes the place of the declared one; nil: as it is. A negative one
	// gives the declared one back.
	Weight *int
}

func (a *Action) check() error {
	switch {
	case a.State == "" && a.Weight == nil:
		return &RequestError{"nothing is to be done: give a state or a weight"}
	case a.State != "" && a.State != model.Enabled && a.State != model.Drained && a.State != model.Disabled:
		return &RequestError{fmt.Sprintf("the state %q is none of %s, %s, %s", a.State, model.Enabled, model.Drained, model.Disabled)}
	case a.Timeout != 0 && a.State != model.Drained:
		return &RequestError{"a timeout is for draining alone"}
	case a.Timeout != 0 && (a.Timeout < MinDrain || a.Timeout > MaxDrain):
		return &RequestError{fmt.Sprintf("the timeout is %v; it must be %v to %v", a.Timeout, MinDrain, MaxDrain)}
	case a.Weight != nil && *a.Weight > model.MaxWeight:
		return &RequestError{fmt.Sprintf("the weight is %d; it must be 0 to %d", *a.Weight, model.MaxWeight)}
	}
	return nil
}

// SetBackend does what an operator wants of one backend. The backend is named
// by its address and port, its address alone where the pool has one backend
// with it, or its name.
func (s *Store) SetBackend(pool, backend string, a Action, r Request) (*Result, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := find(s.current.wanted(), pool, backend)
	if err != nil {
		return nil, err
	}
	next := s.following(Author{Source: AuthorOperator, User: r.User}, r.Comment)
	next.version.Settings = act(next.version.Settings, key, a, s.cfg.Now())
	return s.change(next, r)
}

// Settings are the operators' settings in force.
func (s *Store) Settings() []model.BackendSetting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	return s.current.version.BackendSettings()
}

// act is the list of settings with an action done. A backend that is as
// declared has none. The list stays sorted.
func act(list []Setting, key model.BackendKey, a Action, now time.Time) []Setting {
	at, found := slices.BinarySearchFunc(list, key, func(s Setting, k model.BackendKey) int { return compareKeys(s.key(), k) })
	one := Setting{Pool: key.Pool, Endpoint: key.Endpoint, State: model.Enabled}
	if found {
		one = list[at]
		list = slices.Delete(list, at, at+1)
	}
	if a.State != "" {
		one.State, one.Deadline = a.State, nil
		if a.Timeout > 0 {
			deadline := now.Add(a.Timeout).UTC().Round(0)
			one.Deadline = &deadline
		}
	}
	if a.Weight != nil {
		one.Weight = a.Weight
		if *a.Weight < 0 {
			one.Weight = nil
		}
	}
	if one.State == model.Enabled && one.Weight == nil {
		return list
	}
	return slices.Insert(list, at, one)
}

func compareKeys(a, b model.BackendKey) int {
	return cmp.Or(cmp.Compare(a.Pool, b.Pool), a.Endpoint.Compare(b.Endpoint))
}

func (s *Setting) equal(o *Setting) bool {
	return s.key() == o.key() && s.State == o.State && same(s.Weight, o.Weight) &&
		(s.Deadline == nil) == (o.Deadline == nil) && (s.Deadline == nil || s.Deadline.Equal(*o.Deadline))
}

func same(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

// prune drops the settings of backends that are no longer declared.
func (w *whole) prune() {
	if len(w.version.Settings) == 0 {
		return
	}
	there := declaredOf(w.wanted(), w.version.Settings)
	w.version.Settings = slices.DeleteFunc(w.version.Settings, func(s Setting) bool { return !there[s.key()] })
}

// declaredOf are the backends of a state in the pools that settings are of.
func declaredOf(state *model.State, settings []Setting) map[model.BackendKey]bool {
	pools := map[string]bool{}
	for i := range settings {
		pools[settings[i].Pool] = true
	}
	there := map[model.BackendKey]bool{}
	for i := range state.Pools {
		p := &state.Pools[i]
		for j := range p.Backends {
			if !pools[p.Name] {
				break
			}
			there[model.BackendKey{Pool: p.Name, Endpoint: p.Backends[j].Endpoint()}] = true
		}
	}
	return there
}

// namesShown is how many backends of a pool an error lists.
const namesShown = 5

// find finds the backend that an operator names.
func find(state *model.State, pool, backend string) (model.BackendKey, error) {
	at := slices.IndexFunc(state.Pools, func(p model.Pool) bool { return p.Name == pool })
	if at < 0 {
		return model.BackendKey{}, &BackendError{fmt.Sprintf("there is no pool %q", pool)}
	}
	list := state.Pools[at].Backends
	var matches []*model.Backend
	end, _ := netip.ParseAddrPort(backend)
	address, _ := netip.ParseAddr(strings.Trim(backend, "[]"))
	for i := range list {
		b := &list[i]
		switch {
		case end.IsValid() && b.Endpoint() == end, b.Name != "" && b.Name == backend, address.IsValid() && b.Port == 0 && b.Address == address:
			return model.BackendKey{Pool: pool, Endpoint: b.Endpoint()}, nil
		case address.IsValid() && b.Address == address:
			matches = append(matches, b)
		}
	}
	switch len(matches) {
	case 1:
		return model.BackendKey{Pool: pool, Endpoint: matches[0].Endpoint()}, nil
	case 0:
		return model.BackendKey{}, &BackendError{fmt.Sprintf("pool %q has no backend %q; it has %s", pool, backend, labels(list))}
	}
	return model.BackendKey{}, &BackendError{fmt.Sprintf("pool %q has %d backends with the address %s; give the port, too", pool, len(matches), address)}
}

// labels lists backends for an error.
func labels(list []model.Backend) string {
	if len(list) == 0 {
		return "none"
	}
	var names []string
	for i := range list[:min(len(list), namesShown)] {
		names = append(names, list[i].Label())
	}
	text := strings.Join(names, ", ")
	if more := len(list) - namesShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// insert is the sorted list with one more setting.
func insert(list []Setting, one Setting) []Setting {
	at, found := slices.BinarySearchFunc(list, one.key(), func(s Setting, k model.BackendKey) int { return compareKeys(s.key(), k) })
	if found {
		return list
	}
	return slices.Insert(list, at, one)
}
