package desired

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"fairlead/controlplane/model"
)

// Op is what a change does to an object.
type Op string

// The operations.
const (
	Added   Op = "added"
	Removed Op = "removed"
	Changed Op = "changed"
)

// Kinds of object that a Change is about, in the order they are listed.
const (
	KindHashSeed = "hash_seed"
	KindTunnel   = "tunnel"
	KindLimits   = "limits"
	KindVIP      = "vip"
	KindSNAT     = "snat"
	KindPool     = "pool"
	KindBackend  = "backend"
	KindService  = "service"
	KindSetting  = "setting"
)

// Change is what happens to one object from one state to another.
type Change struct {
	Op     Op
	Kind   string
	Name   string  // its name or address; of a backend or a setting its label in the pool
	Pool   string  // of a backend or a setting
	Fields []Field // of an added or removed object those that are not the default
}

// Field is one field of an object, named and written as in the configuration
// file.
type Field struct{ Name, Before, After string }

// Compare lists what becomes another from one state to the next: settings of
// the node, then VIPs, SNAT addresses, pools, each with its backends, and
// services, each kind by name.
func Compare(before, after *model.State) []Change {
	before, after = before.WithDefaults(), after.WithDefaults()
	var out []Change
	if before.HashSeed != after.HashSeed {
		// Who knows the seed can choose flows that all meet one backend.
		out = append(out, Change{Op: Changed, Kind: KindHashSeed, Fields: []Field{{"hash_seed", "(hidden)", "(another)"}}})
	}
	out = append(out, single(KindTunnel, &before.Tunnel, &after.Tunnel)...)
	out = append(out, single(KindLimits, &before.Limits, &after.Limits)...)
	plain := (&model.State{VIPs: []model.VIP{model.DefaultVIP()}, SNATs: make([]model.SNAT, 1), Services: make([]model.Service, 1)}).WithDefaults()
	out = append(out, objects(KindVIP, before.VIPs, after.VIPs, &plain.VIPs[0], func(v *model.VIP) string { return v.Address.String() })...)
	out = append(out, objects(KindSNAT, before.SNATs, after.SNATs, &plain.SNATs[0], func(n *model.SNAT) string { return n.Address.String() })...)
	out = append(out, pools(before.Pools, after.Pools)...)
	return append(out, objects(KindService, before.Services, after.Services, &plain.Services[0], func(s *model.Service) string { return s.Name })...)
}

// added lists the fields of a new object that are not those of a plain one.
func added[T any](plain, after *T) []Field {
	list := fields(plain, after)
	for i := range list {
		list[i].Before = ""
	}
	return list
}

// removed lists the fields that an object had and a plain one has not.
func removed[T any](before, plain *T) []Field {
	list := fields(before, plain)
	for i := range list {
		list[i].After = ""
	}
	return list
}

// single compares what there is one of.
func single[T comparable](kind string, before, after *T) []Change {
	if *before == *after {
		return nil
	}
	return []Change{{Op: Changed, Kind: kind, Fields: fields(before, after)}}
}

// objects compares lists of which each object has a name.
func objects[T any](kind string, before, after []T, plain *T, name func(*T) string) []Change {
	had, has := index(before, name), index(after, name)
	var out []Change
	for _, n := range names(had, has) {
		b, a := had[n], has[n]
		switch {
		case b == nil:
			out = append(out, Change{Op: Added, Kind: kind, Name: n, Fields: added(plain, a)})
		case a == nil:
			out = append(out, Change{Op: Removed, Kind: kind, Name: n, Fields: removed(b, plain)})
		case !reflect.DeepEqual(b, a):
			if list := fields(b, a); len(list) > 0 {
				out = append(out, Change{Op: Changed, Kind: kind, Name: n, Fields: list})
			}
		}
	}
	return out
}

func index[T any](list []T, name func(*T) string) map[string]*T {
	out := make(map[string]*T, len(list))
	for i := range list {
		out[name(&list[i])] = &list[i]
	}
	return out
}

// names are the keys of either map, in order.
func names[T any](a, b map[string]T) []string {
	all := slices.Collect(maps.Keys(a))
	for n := range b {
		if _, both := a[n]; !both {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// pools compares pools and, after each, its backends. A pool of which only
// backends become others is not listed itself.
func pools(before, after []model.Pool) []Change {
	name := func(p *model.Pool) string { return p.Name }
	had, has := index(before, name), index(after, name)
	var out []Change
	for _, n := range names(had, has) {
		b, a := had[n], has[n]
		var was, is []model.Backend
		switch {
		case b == nil:
			out = append(out, Change{Op: Added, Kind: KindPool, Name: n, Fields: added(&model.Pool{}, a)})
			is = a.Backends
		case a == nil:
			out = append(out, Change{Op: Removed, Kind: KindPool, Name: n, Fields: removed(b, &model.Pool{})})
			was = b.Backends
		default:
			if !samePool(b, a) {
				if list := fields(b, a); len(list) > 0 {
					out = append(out, Change{Op: Changed, Kind: KindPool, Name: n, Fields: list})
				}
			}
			was, is = b.Backends, a.Backends
		}
		if !slices.Equal(was, is) {
			out = append(out, backends(n, was, is)...)
		}
	}
	return out
}

// samePool reports whether two pools are the same but for their backends.
func samePool(a, b *model.Pool) bool {
	x, y := *a, *b
	x.Backends, y.Backends = nil, nil
	return reflect.DeepEqual(&x, &y)
}

// backends compares the backends of a pool, which are known by address and
// port.
func backends(pool string, before, after []model.Backend) []Change {
	had, has := ends(before), ends(after)
	all := slices.Collect(maps.Keys(had))
	for e := range has {
		if had[e] == nil {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	var out []Change
	for _, e := range all {
		b, a := had[e], has[e]
		c := Change{Kind: KindBackend, Pool: pool, Name: endpointText(e)}
		switch {
		case b == nil:
			c.Op, c.Fields = Added, added(&model.Backend{Weight: 1}, a)
		case a == nil:
			c.Op, c.Fields = Removed, removed(b, &model.Backend{Weight: 1})
		default:
			c.Op, c.Fields = Changed, fields(b, a)
			if len(c.Fields) == 0 {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

func ends(list []model.Backend) map[netip.AddrPort]*model.Backend {
	out := make(map[netip.AddrPort]*model.Backend, len(list))
	for i := range list {
		out[list[i].Endpoint()] = &list[i]
	}
	return out
}

// endpointText is an endpoint as the configuration file has it: without port 0.
func endpointText(e netip.AddrPort) string {
	if e.Port() == 0 {
		return e.Addr().String()
	}
	return e.String()
}

// compareSettings compares what operators have set of backends.
func compareSettings(before, after []Setting) []Change {
	had, has := map[model.BackendKey]*Setting{}, map[model.BackendKey]*Setting{}
	for i := range before {
		had[before[i].key()] = &before[i]
	}
	for i := range after {
		has[after[i].key()] = &after[i]
	}
	all := slices.Collect(maps.Keys(had))
	for k := range has {
		if had[k] == nil {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, compareKeys)
	var out []Change
	for _, k := range all {
		b, a := had[k], has[k]
		c := Change{Kind: KindSetting, Pool: k.Pool, Name: endpointText(k.Endpoint)}
		switch {
		case b == nil:
			c.Op = Added
		case a == nil:
			c.Op = Removed
		case b.equal(a):
			continue
		default:
			c.Op = Changed
		}
		c.Fields = settingFields(b, a)
		out = append(out, c)
	}
	return out
}

func settingFields(before, after *Setting) []Field {
	texts := func(s *Setting) (state, deadline, weight string) {
		if s == nil {
			return "", "", ""
		}
		state = string(s.State)
		if s.Deadline != nil {
			deadline = s.Deadline.UTC().Format("2006-01-02T15:04:05Z")
		}
		if s.Weight != nil {
			weight = text(reflect.ValueOf(*s.Weight))
		}
		return state, deadline, weight
	}
	s1, d1, w1 := texts(before)
	s2, d2, w2 := texts(after)
	all := []Field{{"state", s1, s2}, {"deadline", d1, d2}, {"weight", w1, w2}}
	return slices.DeleteFunc(all, func(f Field) bool { return cmp.Compare(f.Before, f.After) == 0 })
}
