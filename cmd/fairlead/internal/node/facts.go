package node

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/controlplane/api"
	"fairlead/controlplane/desired"
	"fairlead/controlplane/model"
)

// facts is what is kept to say in short what this node is.
type facts struct {
	mu      sync.Mutex
	version uint64 // that objects are of; 0: none are worked out
	objects map[string][]api.Object
	load    loadMeter
}

// someVIPs is how many VIPs are named.
const someVIPs = 100

// Facts implements api.FactsProvider.
func (n *Node) Facts(ctx context.Context) (api.NodeFacts, error) {
	s, err := n.Summary(ctx)
	if err != nil {
		return api.NodeFacts{}, err
	}
	f := api.NodeFacts{
		Node: s.Node, Version: s.Version, Health: s.Health, Conditions: len(s.Conditions), Phase: string(n.DrainStatus().Phase), Config: s.Desired.Version,
		Load: n.load(&s),
	}
	for _, v := range n.Announcements() {
		f.VIPs.All++
		if v.Withheld == "" {
			f.VIPs.Announced++
		}
		if n.answers(&v) {
			if f.VIPs.Owned++; len(f.VIPs.Some) < someVIPs {
				f.VIPs.Some = append(f.VIPs.Some, v.Address.String())
			}
		}
	}
	if n.desired != nil {
		state, objects, err := n.declaredObjects()
		if err != nil {
			return f, err
		}
		f.HashSeed = seedDigest(state.HashSeed)
		for _, kind := range factKinds {
			list := objects[kind]
			f.Kinds = append(f.Kinds, api.KindFacts{Kind: kind, Count: len(list), Digest: digestObjects(list)})
		}
	}
	if n.cluster != nil && n.cluster.view != nil {
		f.Tables = n.cluster.view.Tables()
		for _, m := range n.cluster.Members.All() {
			if m.State != cluster.Alive {
				f.Lost = append(f.Lost, api.LostMember{Node: m.Name, State: string(m.State)})
			}
		}
	}
	return f, nil
}

// NodeKeys implements api.FactsProvider.
func (n *Node) NodeKeys(context.Context) (api.NodeKeys, error) {
	if n.cluster == nil || n.cluster.view == nil {
		return api.NodeKeys{}, nil
	}
	return n.cluster.view.LocalKeys(), nil
}

// PoolTables implements api.FactsProvider.
func (n *Node) PoolTables(context.Context) (api.PoolTables, error) {
	var out api.PoolTables
	n.eachTable(func(pool string, checksum uint64) {
		out.Pools = append(out.Pools, api.PoolTable{Pool: pool, Checksum: fmt.Sprintf("%016x", checksum)})
	})
	slices.SortFunc(out.Pools, func(a, b api.PoolTable) int { return strings.Compare(a.Pool, b.Pool) })
	return out, nil
}

// Objects implements api.FactsProvider.
func (n *Node) Objects(_ context.Context, q api.ObjectQuery) (api.Objects, error) {
	out := api.Objects{Kind: q.Kind}
	if n.desired == nil {
		return out, nil
	}
	_, objects, err := n.declaredObjects()
	if err != nil {
		return out, err
	}
	for _, o := range objects[q.Kind] {
		if len(q.Name) == 0 {
			o.Fields = nil
			out.Objects = append(out.Objects, o)
		} else if slices.Contains(q.Name, o.Name) {
			out.Objects = append(out.Objects, o)
		}
	}
	return out, nil
}

// factKinds are the kinds of objects that all members of a cluster have alike. What
// belongs to a node alone, such as its SNAT addresses, is not among them.
var factKinds = []string{desired.KindVIP, desired.KindPool, desired.KindService, desired.KindSetting}

// declaredObjects are the objects in force by kind. They are worked out once for
// each version.
func (n *Node) declaredObjects() (*model.State, map[string][]api.Object, error) {
	d, err := n.desired.store.Version(0)
	if err != nil {
		return nil, nil, answerFor("", err)
	}
	f := &n.facts
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil || f.version != d.Version.Number {
		f.objects, f.version = objectsOf(d.State, d.Settings), d.Version.Number
	}
	return d.State, f.objects, nil
}

// objectsOf renders what is declared and set, by kind and name. Fields that have
// their default are left out, so that a node which knows a field more agrees with
// one that does not know it, as long as nobody uses it.
func objectsOf(state *model.State, settings []model.BackendSetting) map[string][]api.Object {
	out := make(map[string][]api.Object, len(factKinds))
	at := make(map[string]int) // pools
	for _, c := range desired.Compare(&model.State{}, state) {
		switch c.Kind {
		case desired.KindVIP, desired.KindService, desired.KindPool:
			if c.Kind == desired.KindPool {
				at[c.Name] = len(out[c.Kind])
			}
			out[c.Kind] = append(out[c.Kind], api.Object{Name: c.Name, Fields: fieldsOf("", c.Fields)})
		case desired.KindBackend:
			if i, there := at[c.Pool]; there {
				pool := &out[desired.KindPool][i]
				pool.Fields = append(pool.Fields, api.ObjectField{Name: "backend " + c.Name, Value: "there"})
				pool.Fields = append(pool.Fields, fieldsOf("backend "+c.Name+" ", c.Fields)...)
			}
		}
	}
	for _, s := range settingsOf(settings) {
		o := api.Object{Name: s.Pool + "/" + s.Backend, Fields: []api.ObjectField{{Name: "state", Value: s.State}}}
		if s.Weight != nil {
			o.Fields = append(o.Fields, api.ObjectField{Name: "weight", Value: fmt.Sprint(*s.Weight)})
		}
		if s.Deadline != nil {
			o.Fields = append(o.Fields, api.ObjectField{Name: "deadline", Value: s.Deadline.UTC().Format(time.RFC3339)})
		}
		out[desired.KindSetting] = append(out[desired.KindSetting], o)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b api.Object) int { return strings.Compare(a.Name, b.Name) })
		for i := range list {
			list[i].Digest = digestFields(list[i].Fields)
		}
	}
	return out
}

func fieldsOf(prefix string, list []desired.Field) []api.ObjectField {
	out := make([]api.ObjectField, len(list))
	for i, f := range list {
		out[i] = api.ObjectField{Name: prefix + f.Name, Value: f.After}
	}
	return out
}

func digestFields(list []api.ObjectField) string {
	h := sha256.New()
	for _, f := range list {
		fmt.Fprintf(h, "%q=%q\n", f.Name, f.Value)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func digestObjects(list []api.Object) string {
	h := sha256.New()
	for _, o := range list {
		fmt.Fprintf(h, "%q %s\n", o.Name, o.Digest)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// seedDigest tells seeds apart without giving one away.
func seedDigest(seed [2]uint64) string {
	text := []byte("fairlead hash seed\x00")
	for _, half := range seed {
		text = binary.BigEndian.AppendUint64(text, half)
	}
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%x", sum[:4])
}
