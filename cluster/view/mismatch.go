package view

import (
	"encoding/json"
	"maps"
	"slices"

	"fairlead/cluster"
	"fairlead/controlplane/api"
)

// mismatches are those that this node has found, by the other node.
func (t *tables) mismatches() []api.TableMismatch {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []api.TableMismatch
	for _, name := range slices.Sorted(maps.Keys(t.found)) {
		out = append(out, *t.found[name])
	}
	return out
}

// sharedKey is where a node shares which mismatches it has found.
func sharedKey(node string) string { return cluster.LivePrefix + node + "/tables" }

// sharedTables is what lies there. Nodes of any version read it: whatever is added
// must not change what there is.
type sharedTables struct {
	Mismatches []api.TableMismatch `json:"mismatches"`
}

// share tells all members of mismatches, so that each shows them.
func (t *tables) share() {
	if t.cfg.Store == nil {
		return
	}
	key := sharedKey(t.cfg.Name)
	now := t.mismatches()
	have, there := t.cfg.Store.Get(key)
	var err error
	switch {
	case len(now) == 0 && !there:
		return
	case len(now) == 0:
		err = t.cfg.Store.Delete(key)
	default:
		var text []byte
		if text, err = json.Marshal(&sharedTables{now}); err == nil && (!there || string(have.Value) != string(text)) {
			err = t.cfg.Store.Put(key, text)
		}
	}
	if err != nil {
		t.cfg.Log.Warn("mismatches of tables cannot be shared", "error", err)
	}
}

// allMismatches are those that any member has found that lives, and who compared.
func (v *View) allMismatches() []api.TableMismatch {
	out := v.tables.mismatches()
	if v.cfg.Store == nil {
		return out
	}
	for _, n := range v.nodes() {
		if n.Name == v.cfg.Name || !n.State.Serves() {
			continue
		}
		e, there := v.cfg.Store.Get(sharedKey(n.Name))
		var s sharedTables
		if !there || json.Unmarshal(e.Value, &s) != nil {
			continue
		}
		for _, m := range s.Mismatches {
			m.Node = n.Name // it speaks for itself alone
			out = append(out, m)
		}
	}
	return out
}

// Mismatches counts, by member, the pools whose tables have differed between this
// node and that one for longer than a change takes, as either has found.
func (v *View) Mismatches() map[string]int {
	out := make(map[string]int)
	for _, m := range v.allMismatches() {
		switch v.cfg.Name {
		case m.Node:
			out[m.Other] = max(out[m.Other], m.Count)
		case m.Other:
			out[m.Node] = max(out[m.Node], m.Count)
		}
	}
	return out
}

// OwnMismatches are those between this node and others, this node first, as either
// has found.
func (v *View) OwnMismatches() (list []api.TableMismatch) {
	seen := make(map[string]bool)
	for _, m := range v.allMismatches() {
		if m.Other == v.cfg.Name {
			m.Node, m.Other = m.Other, m.Node
		}
		if m.Node == v.cfg.Name && !seen[m.Other] {
			seen[m.Other] = true
			list = append(list, m)
		}
	}
	return list
}

// Comparisons counts the comparisons of tables, and those among them that could not
// be made.
func (v *View) Comparisons() (all, failed uint64) {
	v.tables.mu.Lock()
	defer v.tables.mu.Unlock()
	return v.tables.done, v.tables.failed
}

// Tables sums this node's tables up.
func (v *View) Tables() api.TableFacts { return v.tables.facts() }
