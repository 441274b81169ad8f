package view

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// kinds are the kinds of objects that are compared.
var kinds = []string{"vip", "pool", "service", "setting"}

// Bounds of a comparison: what is beyond is counted.
const (
	mostObjects = 50 // of each kind whose fields are compared
	mostTables  = 20 // pools whose tables are explained
)

// ClusterDiff implements api.ClusterProvider.
func (v *View) ClusterDiff(ctx context.Context, node string) (api.ClusterDiff, error) {
	if err := v.alone(); err != nil {
		return api.ClusterDiff{}, err
	}
	nodes := v.present()
	if node != "" {
		other, err := v.member(node)
		if err != nil {
			return api.ClusterDiff{}, err
		}
		if node == v.cfg.Name {
			return api.ClusterDiff{}, api.Errorf(api.BadRequest, "%s is this node itself", node)
		}
		nodes = append(slices.DeleteFunc(nodes, func(n cluster.Node) bool { return n.Name != v.cfg.Name }), other)
	}
	d := &differ{view: v}
	facts := askAll[api.NodeFacts](ctx, v, nodes, factsPath)
	d.out.Nodes, d.out.Unanswered = split(facts)
	d.facts = slices.DeleteFunc(facts, func(a answer[api.NodeFacts]) bool { return a.err != nil })
	d.software()
	for _, kind := range kinds {
		d.objects(ctx, kind)
	}
	d.tables(ctx)
	d.out.Same = len(d.out.Differences) == 0 && d.out.More == 0
	return d.out, nil
}

// differ compares nodes.
type differ struct {
	view  *View
	facts []answer[api.NodeFacts] // of those that have answered
	out   api.ClusterDiff
}

// add lists a difference when there is one.
func (d *differ) add(kind, name, field, why string, values []api.NodesValue) bool {
	if len(values) < 2 {
		return false
	}
	d.out.Differences = append(d.out.Differences, api.Difference{Kind: kind, Name: name, Field: field, Values: values, Why: why})
	return true
}

// of is what each node has of something.
func (d *differ) of(f func(*answer[api.NodeFacts]) string) []api.NodesValue {
	have := make(map[string]string, len(d.facts))
	for i := range d.facts {
		have[d.facts[i].node.Name] = f(&d.facts[i])
	}
	return valuesOf(have)
}

// software compares what the nodes themselves are.
func (d *differ) software() {
	d.add("software", "", "version", "", d.of(func(a *answer[api.NodeFacts]) string { return a.value.Version }))
	d.add("wire", "", "versions", "", d.of(func(a *answer[api.NodeFacts]) string { return wireText(&a.node) }))
	d.add("hash_seed", "", "", "", d.of(func(a *answer[api.NodeFacts]) string { return a.value.HashSeed }))
}

func wireText(n *cluster.Node) string { return fmt.Sprintf("%d to %d", n.WireMin, n.WireMax) }

// representatives are one node for each digest that nodes have of something, and
// the nodes that each stands for. Those of which it is not known are in none.
func (d *differ) representatives(digest func(*api.NodeFacts) string) (nodes []cluster.Node, standsFor map[string][]string) {
	standsFor = make(map[string][]string)
	first := make(map[string]string)
	for i := range d.facts {
		name, is := d.facts[i].node.Name, digest(&d.facts[i].value)
		if is == "" {
			continue
		}
		if _, known := first[is]; !known {
			first[is] = name
			nodes = append(nodes, d.facts[i].node)
		}
		standsFor[first[is]] = append(standsFor[first[is]], name)
	}
	return nodes, standsFor
}

// failed notes that a node that has answered before does not any more.
func failed[T any](d *differ, answers []answer[T]) (good []answer[T]) {
	for i := range answers {
		if answers[i].err == nil {
			good = append(good, answers[i])
			continue
		}
		d.out.Unanswered = append(d.out.Unanswered, api.NodeError{Node: answers[i].node.Name, Error: answers[i].unanswered()})
	}
	return good
}

// values groups what representatives have, with the nodes that they stand for.
// absent are those that have nothing.
func values(have map[string]string, absent []string, standsFor map[string][]string) []api.NodesValue {
	byValue := make(map[string][]string)
	for node, value := range have {
		byValue[value] = append(byValue[value], standsFor[node]...)
	}
	var out []api.NodesValue
	for value, nodes := range byValue {
		slices.Sort(nodes)
		out = append(out, api.NodesValue{Value: value, Nodes: nodes})
	}
	if len(absent) > 0 {
		var nodes []string
		for _, node := range absent {
			nodes = append(nodes, standsFor[node]...)
		}
		slices.Sort(nodes)
		out = append(out, api.NodesValue{Absent: true, Nodes: nodes})
	}
	sortValues(out)
	return out
}

// objects compares the objects of a kind.
func (d *differ) objects(ctx context.Context, kind string) {
	nodes, standsFor := d.representatives(func(f *api.NodeFacts) string { return kindOf(f, kind) })
	if len(nodes) < 2 {
		return
	}
	query := url.Values{"kind": {kind}}
	lists := failed(d, askAll[api.Objects](ctx, d.view, nodes, "/v1/facts/objects?"+query.Encode()))
	if len(lists) < 2 {
		return
	}
	digests := make(map[string]map[string]string) // by object and node
	for i := range lists {
		for _, o := range lists[i].value.Objects {
			if digests[o.Name] == nil {
				digests[o.Name] = make(map[string]string)
			}
			digests[o.Name][lists[i].node.Name] = o.Digest
		}
	}
	var common []string // that all have, and not alike
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		have := digests[name]
		switch {
		case len(have) == len(lists) && allEqual(have):
		case len(d.out.Differences) >= mostObjects*len(kinds):
			d.out.More++
		case len(have) == len(lists):
			common = append(common, name)
		default:
			d.presence(kind, name, have, lists, standsFor)
		}
	}
	d.fields(ctx, kind, common, nodes, standsFor)
}

func allEqual(have map[string]string) bool {
	first, set := "", false
	for _, value := range have {
		if set && value != first {
			return false
		}
		first, set = value, true
	}
	return true
}

// presence lists an object that only some have.
func (d *differ) presence(kind, name string, have map[string]string, lists []answer[api.Objects], standsFor map[string][]string) {
	there := make(map[string]string)
	var absent []string
	for i := range lists {
		node := lists[i].node.Name
		if _, is := have[node]; is {
			there[node] = "there"
		} else {
			absent = append(absent, node)
		}
	}
	d.add(kind, name, "", "", values(there, absent, standsFor))
}

// fields compares objects of one kind that all have, field by field.
func (d *differ) fields(ctx context.Context, kind string, names []string, nodes []cluster.Node, standsFor map[string][]string) {
	if len(names) > mostObjects {
		d.out.More += len(names) - mostObjects
		names = names[:mostObjects]
	}
	if len(names) == 0 {
		return
	}
	query := url.Values{"kind": {kind}, "name": names}
	lists := failed(d, askAll[api.Objects](ctx, d.view, nodes, "/v1/facts/objects?"+query.Encode()))
	for _, name := range names {
		fields := make(map[string]map[string]string) // by field and node
		var asked []string
		for i := range lists {
			at := slices.IndexFunc(lists[i].value.Objects, func(o api.Object) bool { return o.Name == name })
			if at < 0 {
				continue // it has become another since
			}
			asked = append(asked, lists[i].node.Name)
			for _, f := range lists[i].value.Objects[at].Fields {
				if fields[f.Name] == nil {
					fields[f.Name] = make(map[string]string)
				}
				fields[f.Name][lists[i].node.Name] = f.Value
			}
		}
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			absent := slices.DeleteFunc(slices.Clone(asked), func(node string) bool { _, is := fields[field][node]; return is })
			d.add(kind, name, field, "", values(fields[field], absent, standsFor))
		}
	}
}

// tables compares the Maglev tables, and says what differences come from.
func (d *differ) tables(ctx context.Context) {
	nodes, standsFor := d.representatives(func(f *api.NodeFacts) string { return f.Tables.Digest })
	if len(nodes) < 2 {
		return
	}
	lists := failed(d, askAll[api.PoolTables](ctx, d.view, nodes, "/v1/facts/tables"))
	if len(lists) < 2 {
		return
	}
	checksums := make(map[string]map[string]string) // by pool and node
	for i := range lists {
		for _, p := range lists[i].value.Pools {
			if checksums[p.Pool] == nil {
				checksums[p.Pool] = make(map[string]string)
			}
			checksums[p.Pool][lists[i].node.Name] = p.Checksum
		}
	}
	explained := 0
	for _, pool := range slices.Sorted(maps.Keys(checksums)) {
		have := checksums[pool]
		if len(have) == len(lists) && allEqual(have) {
			continue
		}
		if explained++; explained > mostTables {
			d.out.More++
			continue
		}
		var absent []string
		for i := range lists {
			if _, is := have[lists[i].node.Name]; !is {
				absent = append(absent, lists[i].node.Name)
			}
		}
		d.add("table", pool, "checksum", d.explain(ctx, pool, nodes, len(absent) > 0), values(have, absent, standsFor))
	}
}

// explain says why the tables of a pool differ between nodes.
func (d *differ) explain(ctx context.Context, pool string, nodes []cluster.Node, absent bool) string {
	for _, o := range d.out.Differences {
		switch {
		case o.Kind == "hash_seed":
			return "the hash seeds differ"
		case o.Kind == "pool" && o.Name == pool:
			return "the pool is not declared alike"
		case o.Kind == "setting" && strings.HasPrefix(o.Name, pool+"/"):
			return "what operators have set of backends differs"
		}
	}
	if absent {
		return "not all have put the pool in force yet"
	}
	query := url.Values{"pool": {pool}, "limit": {fmt.Sprint(api.MaxPage)}}
	answers := askAll[api.BackendPage](ctx, d.view, nodes, "/v1/backends?"+query.Encode())
	return explainBackends(answers)
}

// mostReasons is how many backends are named.
const mostReasons = 3

// explainBackends says which backends of a pool serve differently on some nodes.
func explainBackends(answers []answer[api.BackendPage]) string {
	on := make(map[string]map[string]string) // how each serves, by name and node
	asked := 0
	for i := range answers {
		if answers[i].err != nil {
			continue
		}
		asked++
		for _, b := range answers[i].value.Backends {
			if on[b.Name] == nil {
				on[b.Name] = make(map[string]string)
			}
			on[b.Name][answers[i].node.Name] = servesText(&b)
		}
	}
	var said []string
	more := 0
	for _, name := range slices.Sorted(maps.Keys(on)) {
		if len(on[name]) == asked && allEqual(on[name]) {
			continue
		}
		if len(said) == mostReasons {
			more++
			continue
		}
		var parts []string
		for _, value := range valuesOf(on[name]) {
			parts = append(parts, value.Value+" on "+strings.Join(value.Nodes, ", "))
		}
		said = append(said, name+": "+strings.Join(parts, "; "))
	}
	switch {
	case len(said) == 0:
		return "backends serve alike: the nodes may be about to agree; if they go on to differ, report it"
	case more > 0:
		return fmt.Sprintf("%s; and %d more backends", strings.Join(said, "; "), more)
	}
	return strings.Join(said, "; ")
}

// servesText is what of a backend goes into a table.
func servesText(b *api.PoolBackend) string {
	text := b.State
	if b.State == "unresolved" {
		text = "up" // that the way to it is not known concerns the node alone
	}
	if b.Health != nil && b.Health.State == "down" {
		text += " (checks fail)"
	}
	return fmt.Sprintf("%s with weight %d", text, b.Weight)
}
