package apply

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
)

// ConditionType names what an operator should know of what all nodes share.
type ConditionType string

// The conditions.
const (
	NotAdopted   ConditionType = "cluster_not_adopted"  // what is shared is not in force on this node
	NodeBehind   ConditionType = "cluster_node_behind"  // nor on another one
	UnknownKeys  ConditionType = "cluster_unknown_keys" // newer software has declared what this one does not know
	FileDiffers  ConditionType = "cluster_file_differs" // this node's file declares something else
	Replaced     ConditionType = "cluster_replaced"     // a change was replaced by one made without knowledge of it
	SeedMismatch ConditionType = "cluster_hash_seed"    // nodes hash differently
)

// ConditionTypes are all of them.
var ConditionTypes = []ConditionType{NotAdopted, NodeBehind, UnknownKeys, FileDiffers, Replaced, SeedMismatch}

// replacedBy tells the conditions of two sources apart.
func replacedBy(source string) conditionKey { return conditionKey{Replaced, source} }

// Condition is one such thing that is so.
type Condition struct {
	Type    ConditionType
	Since   time.Time
	Message string
}

type conditionKey struct {
	Type ConditionType
	of   string
}

// status is what is told of a node's part. It has a lock of its own: who asks does
// not wait for a change.
type status struct {
	now func() time.Time

	mu    sync.Mutex
	conds map[conditionKey]Condition
	docs  []Shared
	told  []byte // what the others were last told
}

// set makes something so; an empty message makes it not so.
func (s *status) set(key conditionKey, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if message == "" {
		delete(s.conds, key)
		return
	}
	if s.conds == nil {
		s.conds = map[conditionKey]Condition{}
	}
	c, there := s.conds[key]
	if !there {
		c = Condition{Type: key.Type, Since: s.now().UTC().Round(0)}
	}
	c.Message = message
	s.conds[key] = c
}

func (s *status) clear(key conditionKey) { s.set(key, "") }

// Shared is what is shared of a source.
type Shared struct {
	Source  string
	Digest  string // of its text
	Origin  string // the node that the change was made on
	User    string
	Comment string
	Time    time.Time
	Until   time.Time // when it is undone unless it is confirmed; the zero time: it stays
}

// Status is what an operator should know.
type Status struct {
	Shared     []Shared
	Conditions []Condition // oldest first
}

// Status tells the present state of affairs.
func (a *Apply) Status() Status {
	s := &a.status
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Shared: slices.Clone(s.docs)}
	for _, c := range s.conds {
		out.Conditions = append(out.Conditions, c)
	}
	slices.SortFunc(out.Conditions, func(x, y Condition) int {
		if c := x.Since.Compare(y.Since); c != 0 {
			return c
		}
		return strings.Compare(string(x.Type)+x.Message, string(y.Type)+y.Message)
	})
	return out
}

// NodeStatus is how far a node is with what all share.
type NodeStatus struct {
	Node     string            `json:"-"`
	InForce  map[string]string `json:"inForce"`           // by source: digest of what is in force there
	Refused  string            `json:"refused,omitempty"` // why what is shared is not
	Unknown  []string          `json:"unknown,omitempty"` // keys that it does not know and ignores
	HashSeed string            `json:"hashSeed"`
}

const liveSuffix = "/apply"

// ofApply reports whether a batch has what nodes tell of themselves here.
func ofApply(batch []cluster.Entry) bool {
	return slices.ContainsFunc(batch, func(e cluster.Entry) bool { return strings.HasSuffix(e.Key, liveSuffix) })
}

// Nodes tells how far all nodes are, by name.
func (a *Apply) Nodes() (list []NodeStatus) {
	for _, e := range a.cfg.Store.List(cluster.LivePrefix) {
		name, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, cluster.LivePrefix), liveSuffix)
		if !ok || strings.Contains(name, "/") {
			continue
		}
		n := NodeStatus{Node: name}
		if json.Unmarshal(e.Value, &n) == nil {
			list = append(list, n)
		}
	}
	return list
}

// report tells this node's operator and the other nodes how things are.
func (a *Apply) report() {
	s := &a.status
	refused := a.refused
	if refused == "" && a.unset != "" {
		refused = "settings of backends: " + a.unset
	}
	own := ""
	if refused != "" {
		own = "what all nodes share is not in force on this one: " + refused
	}
	s.set(conditionKey{Type: NotAdopted}, own)
	keys, unknown := a.learn(), ""
	if len(keys) > 0 {
		unknown = "this node's software does not know, and ignores: " + strings.Join(keys, "; ")
	}
	s.set(conditionKey{Type: UnknownKeys}, unknown)
	s.set(conditionKey{Type: FileDiffers}, a.fileDiffers())
	a.tell(refused, keys)
	a.compareNodes()
	var docs []Shared
	now := a.now()
	for _, source := range sources {
		v := a.seen[source.name]
		if v.doc == nil {
			continue
		}
		doc := Shared{
			Source: source.name, Digest: v.doc.Effective(now).Digest(), Origin: v.doc.Origin, User: v.doc.User,
			Comment: v.doc.Comment, Time: v.doc.Time, Until: v.doc.pending(now),
		}
		if v.doc.expired(now) {
			doc.Time, doc.Comment = *v.doc.Until, notConfirmed
		}
		docs = append(docs, doc)
	}
	s.mu.Lock()
	s.docs = docs
	s.mu.Unlock()
}

// fileDiffers says what stands between this node's file and what all share.
func (a *Apply) fileDiffers() string {
	text, origin := a.sharedFile()
	switch {
	case a.file.Text == text:
		return ""
	case a.file.Text != "" && text == "":
		return "this node's file declares services, pools or VIPs that the cluster does not have, and which are not in force; `fairlead config reload --publish` puts them in force on all nodes"
	case a.file.Text != "":
		return fmt.Sprintf("the services, pools and VIPs of this node's file differ from the cluster's, which are those of node %q; the cluster's are in force, and `fairlead config reload --publish` puts this node's in force on all nodes", origin)
	case a.emptied:
		return "this node's file declares no services, pools or VIPs any more; the cluster keeps those that it has, and `fairlead config reload --publish` removes them from all nodes"
	}
	return ""
}

// tell tells the other nodes how far this one is.
func (a *Apply) tell(refused string, unknown []string) {
	n := NodeStatus{InForce: map[string]string{}, Refused: refused, Unknown: unknown, HashSeed: a.cfg.HashSeed}
	for source, c := range a.cfg.Local.Shared() {
		if c.Text != "" {
			n.InForce[source] = c.Digest()
		}
	}
	value, err := json.Marshal(n)
	if err != nil || bytes.Equal(value, a.status.told) {
		return
	}
	if err := a.cfg.Store.Put(cluster.LivePrefix+a.self+liveSuffix, value); err != nil {
		a.log.Warn("the other nodes are not told how far this one is", "error", err)
		return
	}
	a.status.told = value
}

// compareNodes finds other nodes that are behind or hash differently.
func (a *Apply) compareNodes() {
	var behind, seeds []string
	for _, n := range a.Nodes() {
		if n.Node == a.self || !a.serves(n.Node) {
			continue
		}
		if n.Refused != "" {
			behind = append(behind, fmt.Sprintf("node %q does not have in force what all nodes share: %s", n.Node, n.Refused))
		}
		if n.HashSeed != a.cfg.HashSeed {
			seeds = append(seeds, fmt.Sprintf("%q", n.Node))
		}
	}
	a.status.set(conditionKey{Type: NodeBehind}, strings.Join(behind, "; "))
	message := ""
	if len(seeds) > 0 {
		message = "hash_seed in [node] of this node is another than on " + strings.Join(seeds, ", ") +
			"; flows that change nodes change backends until it is the same on all"
	}
	if message != "" && message != a.mismatch {
		a.log.Error(message)
	}
	a.mismatch = message
	a.status.set(conditionKey{Type: SeedMismatch}, message)
}
