package view

import (
	"cmp"
	"maps"
	"slices"

	"fairlead/controlplane/api"
)

// listed is a node's page of a list: what is in it is in order, and comes before
// next, when there is more.
type listed[T any] struct {
	node  string
	items []T
	next  string
}

// on is an item as a node has it.
type on[T any] struct {
	node string
	item *T
}

// mergePages puts the pages of several nodes together that began at the same place:
// what is of one name is a group, in the order of the lists. Where nodes' pages
// end at different places, the page ends at the first of them, since nothing is
// known beyond.
func mergePages[T any](lists []listed[T], name func(*T) string, compare func(a, b string) int) (groups [][]on[T], next string) {
	for i := range lists {
		if end := lists[i].next; end != "" && (next == "" || compare(end, next) < 0) {
			next = end
		}
	}
	found := make(map[string][]on[T])
	for i := range lists {
		for j := range lists[i].items {
			item := &lists[i].items[j]
			if key := name(item); next == "" || compare(key, next) < 0 {
				found[key] = append(found[key], on[T]{lists[i].node, item})
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(found), compare) {
		groups = append(groups, found[key])
	}
	return groups, next
}

// valuesOf groups nodes by what they have, what most have first.
func valuesOf(have map[string]string) []api.NodesValue {
	nodes := make(map[string][]string)
	for node, value := range have {
		nodes[value] = append(nodes[value], node)
	}
	var out []api.NodesValue
	for value, names := range nodes {
		slices.Sort(names)
		out = append(out, api.NodesValue{Value: value, Nodes: names})
	}
	sortValues(out)
	return out
}

// sortValues has what most have come first.
func sortValues(list []api.NodesValue) {
	slices.SortFunc(list, func(a, b api.NodesValue) int {
		return cmp.Or(-cmp.Compare(len(a.Nodes), len(b.Nodes)), cmp.Compare(a.Nodes[0], b.Nodes[0]))
	})
}
