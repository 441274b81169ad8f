package member

import (
	"crypto/ed25519"
	"errors"
	"time"

	"fairlead/cluster"
)

// ErrRevoked says that the other nodes do not take this one's key any more.
var ErrRevoked = errors.New("the key of this node has been revoked: the cluster does not take it for one of its nodes any more")

// Reconsider looks at all members again after the keys have changed that are not
// taken any more: who has such a key is dead for this node, whatever gossip says,
// and who had one and lives is back. When it is this node's own key, the node fails
// with ErrRevoked: alone it would own what others own.
func (m *Members) Reconsider(revoked func(ed25519.PublicKey) bool) {
	if revoked(m.identity.PublicKey()) {
		m.fail(ErrRevoked)
	}
	out, back := m.table.reconsider(m.identity.Name(), revoked)
	for _, name := range out {
		m.count.died.Add(1)
		m.log.Warn("a member is put out of the cluster: its key is revoked", "node", name)
	}
	for _, name := range back {
		m.count.joined.Add(1)
		m.log.Info("a member is in the cluster again: its key is not revoked any more", "node", name)
	}
}

func (t *table) reconsider(self string, revoked func(ed25519.PublicKey) bool) (out, back []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, r := range t.records {
		bad := revoked(r.said.Key)
		switch {
		case name == self || bad != r.state.Serves():
			continue
		case bad:
			r.state, r.barred = cluster.Dead, true
			out = append(out, name)
		case r.barred:
			r.state, r.barred = cluster.Alive, false
			back = append(back, name)
		default:
			continue
		}
		r.suspected, r.changed = false, time.Now()
	}
	if len(out)+len(back) > 0 {
		t.tell()
	}
	return out, back
}
