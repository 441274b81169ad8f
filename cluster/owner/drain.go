package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairlead/cluster"
)

// Drain is what all nodes know of a node that is taken out of service, under
// drain/<node>.
type Drain struct {
	Since time.Time `json:"since"` // by the clock of the node where it was asked for
	By    string    `json:"by"`    // the user who has asked for it
	On    string    `json:"on"`    // the node where it was asked for
}

// Errors of Drain and Undrain.
var (
	ErrUnknownNode = errors.New("there is no such node in the cluster")
	ErrNotDrained  = errors.New("the node is not drained")
)

// maxBy is the longest name of a user, in bytes.
const maxBy = 200

// Drain takes a node out of service, wherever it is asked for: the node withdraws
// its routes, its VIPs go to the others, and it serves what still comes. It stays
// drained until Undrain, over restarts, too. Draining a drained node changes
// nothing.
func (r *Room) Drain(node, by string) error {
	if err := r.knows(node); err != nil {
		return err
	}
	if _, ok := r.cfg.Store.Get(cluster.DrainPrefix + node); ok {
		return nil
	}
	b, err := json.Marshal(Drain{Since: time.Now().UTC().Truncate(time.Millisecond), By: by[:min(len(by), maxBy)], On: r.self})
	if err != nil {
		return err
	}
	return r.cfg.Store.Put(cluster.DrainPrefix+node, b)
}

// Undrain puts a node back in service.
func (r *Room) Undrain(node string) error {
	if _, ok := r.cfg.Store.Get(cluster.DrainPrefix + node); ok {
		return r.cfg.Store.Delete(cluster.DrainPrefix + node)
	}
	if err := r.knows(node); err != nil {
		return err
	}
	return fmt.Errorf("node %q: %w", node, ErrNotDrained)
}

func (r *Room) knows(node string) error {
	all := r.cfg.Members.All()
	if slices.ContainsFunc(all, func(n cluster.Node) bool { return n.Name == node }) {
		return nil
	}
	return fmt.Errorf("node %q: %w; there are %s", node, ErrUnknownNode, names(all))
}

// Drained are the nodes that are drained.
func (r *Room) Drained() map[string]Drain {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.drained)
}

// onDrains takes over which nodes are drained. An entry that cannot be read says
// that its node is drained, and no more.
func (r *Room) onDrains(entries []cluster.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		name := strings.TrimPrefix(e.Key, cluster.DrainPrefix)
		if v, ok := r.drains[name]; ok && e.Version.Compare(v) <= 0 {
			continue
		}
		r.drains[name] = e.Version
		if e.Deleted {
			delete(r.drained, name)
			continue
		}
		var d Drain
		if err := json.Unmarshal(e.Value, &d); err != nil {
			r.log.Warn("it cannot be read who has drained a node, and since when", "node", name, "error", err)
			d = Drain{On: e.Writer}
		}
		r.drained[name] = d
	}
	r.poke()
}

// drainKnown is what was last told of this node's own drain.
type drainKnown struct {
	told, drained bool
}

// look says whether this node is drained, and whether that has to be told.
func (k *drainKnown) look(heard bool, all map[string]Drain, self string) (drained, tell bool) {
	_, drained = all[self]
	if !heard || k.told && k.drained == drained {
		return drained, false
	}
	k.told, k.drained = true, drained
	return drained, true
}
