// Package revoke is the list of nodes' keys that are not taken any more: of
// machines or disks that were stolen, and of nodes that went without coming back.
// All nodes share it, and it survives restarts.
//
// A node whose key is on it has no connection to the others, writes nothing that
// they take, and is no member for them. It still has a gossip key, until that is
// rotated; and where it has the cluster key itself, it can make a new key for
// itself, until the cluster key is changed.
package revoke

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/identity"
)

// Prefix is where the list lies in what nodes share: + a key in hexadecimal.
const Prefix = "revoked/"

// maxReason is the longest reason, in bytes.
const maxReason = 200

// Errors of changes.
var (
	ErrUnknown = errors.New("no such node or key")
	ErrSelf    = errors.New("this is the key of the node that is asked")
	ErrReason  = errors.New("the reason is too long")
)

// Revocation is one key that is not taken any more.
type Revocation struct {
	Node   string            // whose key it was
	Key    ed25519.PublicKey // what is revoked
	At     time.Time
	By     string // who has revoked it, and where
	Reason string
}

// Fingerprint is the key in short.
func (r *Revocation) Fingerprint() string { return identity.Fingerprint(r.Key) }

// value is a Revocation as it is shared. Fields that are not known are ignored.
type value struct {
	Node   string `json:"node"`
	Key    string `json:"key"` // base64
	At     int64  `json:"at"`  // milliseconds since 1970
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Identity is who this node is, and what it verifies others by.
type Identity interface {
	Name() string
	PublicKey() ed25519.PublicKey
	SetRevoked([]ed25519.PublicKey)
}

// Config is what a List is made of.
type Config struct {
	Identity Identity
	Members  cluster.Members
	Store    cluster.Store
	Changed  func(revoked func(ed25519.PublicKey) bool) // is called after each change; it is not to block
	Log      *slog.Logger
}

// List is the list. It is safe for concurrent use.
type List struct {
	cfg  Config
	stop func()

	mu   sync.Mutex
	all  map[string]Revocation // by the key in what nodes share
	self bool                  // this node is on it
}

// New follows the list from now on: what is on it is in force when New returns.
func New(cfg Config) *List {
	l := &List{cfg: cfg, all: map[string]Revocation{}}
	l.changed(cfg.Store.List(Prefix))
	l.stop = cfg.Store.Watch(Prefix, l.changed)
	return l
}

// Close follows it no longer.
func (l *List) Close() { l.stop() }

// changed takes what others, or this node, have written.
func (l *List) changed(entries []cluster.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		was, there := l.all[e.Key]
		if e.Deleted {
			delete(l.all, e.Key)
			if there {
				l.cfg.Log.Warn("the key of a node is taken again", "node", was.Node, "key", was.Fingerprint(), "by", e.Writer)
			}
			continue
		}
		r, err := decode(e)
		if err != nil {
			l.cfg.Log.Warn("a revocation that makes no sense is ignored", "entry", e.Key, "writer", e.Writer, "error", err)
			continue
		}
		l.all[e.Key] = r
		if !there {
			l.cfg.Log.Warn("the key of a node is revoked", "node", r.Node, "key", r.Fingerprint(), "by", r.By, "reason", r.Reason)
		}
	}
	keys := make([]ed25519.PublicKey, 0, len(l.all))
	self := false
	for _, r := range l.all {
		keys = append(keys, r.Key)
		self = self || r.Key.Equal(l.cfg.Identity.PublicKey())
	}
	if self && !l.self {
		l.cfg.Log.Error("the key of this node is revoked: the other nodes do not take it for one of them any more")
	}
	l.self = self
	l.cfg.Identity.SetRevoked(keys)
	l.cfg.Changed(func(key ed25519.PublicKey) bool {
		return slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool { return k.Equal(key) })
	})
}

func decode(e *cluster.Entry) (r Revocation, err error) {
	var v value
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return r, err
	}
	key, err := base64.StdEncoding.DecodeString(v.Key)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return r, errors.New("it has no key")
	}
	if e.Key != entryOf(key) {
		return r, errors.New("it is for another key than its name says")
	}
	return Revocation{Node: v.Node, Key: key, At: time.UnixMilli(v.At), By: strings.TrimPrefix(v.By+" on "+e.Writer, " on "), Reason: v.Reason}, nil
}

func entryOf(key ed25519.PublicKey) string { return Prefix + hex.EncodeToString(key) }

// All is the list, by name of node.
func (l *List) All() []Revocation {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Revocation, 0, len(l.all))
	for _, r := range l.all {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Revocation) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), slices.Compare(a.Key, b.Key))
	})
	return out
}

// Revoke revokes the key that a member of that name has now, dead or alive; by is
// who asks for it. It is in force here when Revoke returns, and reaches the others
// by itself.
func (l *List) Revoke(node, reason, by string) (Revocation, error) {
	if len(reason) > maxReason {
		return Revocation{}, fmt.Errorf("%w: %d bytes, at most %d are kept", ErrReason, len(reason), maxReason)
	}
	var key ed25519.PublicKey
	for _, m := range l.cfg.Members.All() {
		if m.Name == node && len(m.Key) == ed25519.PublicKeySize {
			key = m.Key
		}
	}
	switch {
	case key == nil:
		return Revocation{}, fmt.Errorf("%w: no member %q is known to this node", ErrUnknown, node)
	case key.Equal(l.cfg.Identity.PublicKey()):
		return Revocation{}, fmt.Errorf("%w: ask another node to revoke the key of %q", ErrSelf, node)
	}
	v := value{Node: node, Key: base64.StdEncoding.EncodeToString(key), At: time.Now().UnixMilli(), By: by, Reason: reason}
	data, err := json.Marshal(&v)
	if err != nil {
		return Revocation{}, err
	}
	if err := l.cfg.Store.Put(entryOf(key), data); err != nil {
		return Revocation{}, err
	}
	e := cluster.Entry{Key: entryOf(key), Value: data, Writer: l.cfg.Identity.Name()}
	l.changed([]cluster.Entry{e})
	return decode(&e)
}

// Own is the revocation of this node's own key, if there is one.
func (l *List) Own() (Revocation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, revoked := l.all[entryOf(l.cfg.Identity.PublicKey())]
	return r, revoked
}

// Restore has a key taken again. It is named by its fingerprint, or by the node
// when that has one key on the list.
func (l *List) Restore(what string) (Revocation, error) {
	var found []Revocation
	for _, r := range l.All() {
		if r.Node == what || r.Fingerprint() == strings.ToLower(what) {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return Revocation{}, fmt.Errorf("%w: no key of %q is revoked", ErrUnknown, what)
	case len(found) > 1:
		return Revocation{}, fmt.Errorf("%w: %d keys of %q are revoked; name one by its fingerprint", ErrUnknown, len(found), what)
	}
	if err := l.cfg.Store.Delete(entryOf(found[0].Key)); err != nil {
		return Revocation{}, err
	}
	return found[0], nil
}
