package member

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// keySize is the length of a gossip key, in bytes: AES-256.
const keySize = 32

// keysFile is where a node keeps the gossip keys.
const keysFile = "gossip-keys.json"

// Phases of a rotation. Every node has left one before any enters the one after
// the next, so two nodes always have the key that the other one uses.
const (
	settled  = "settled"  // there is one key
	added    = "added"    // the second key is there and may be used by others; the first one is used
	switched = "switched" // the second one is used, and comes first; the other is still understood
)

// ring is the gossip keys of a cluster. Of two rings the newer one holds.
type ring struct {
	Version uint64   `json:"version"` // each step of a rotation is one more; 0: derived from the cluster key
	By      string   `json:"by"`      // the node that made it
	Phase   string   `json:"phase"`
	Keys    [][]byte `json:"keys"` // the first one is used, all are understood
}

// compare is positive when r is newer than o. Rings of one version differ when
// they were made in two halves of a partition; any order will do.
func (r *ring) compare(o *ring) int {
	return cmp.Or(cmp.Compare(r.Version, o.Version), strings.Compare(r.By, o.By), slices.CompareFunc(r.Keys, o.Keys, bytes.Compare))
}

func (r *ring) check() error {
	want := map[string]int{settled: 1, added: 2, switched: 2}[r.Phase]
	if want == 0 || len(r.Keys) != want || len(r.By) > 255 {
		return errors.New("these are no gossip keys")
	}
	for _, k := range r.Keys {
		if len(k) != keySize {
			return errors.New("a gossip key has another length")
		}
	}
	return nil
}

// keys is the ring that this node has, and memberlist's copy of it.
type keys struct {
	file string // "": nowhere
	log  *slog.Logger

	mu   sync.Mutex
	ring ring
	live *memberlist.Keyring
}

// openKeys reads the ring; without one, first is the only key.
func openKeys(dir string, first []byte, log *slog.Logger) (*keys, error) {
	k := &keys{log: log, ring: ring{Phase: settled, Keys: [][]byte{first}}}
	if dir != "" {
		k.file = filepath.Join(dir, keysFile)
		var read ring
		found, err := readJSON(k.file, &read, log)
		if err != nil {
			return nil, err
		}
		if found {
			if err := read.check(); err != nil {
				return nil, fmt.Errorf("%s: %w: remove it, and the node gets them from the others", k.file, err)
			}
			k.ring = read
		}
	}
	var err error
	k.live, err = memberlist.NewKeyring(k.ring.Keys, k.ring.Keys[0])
	return k, err
}

func (k *keys) current() ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring
}

// take makes a newer ring this node's. It is on disk when take returns true. A
// node that has not joined yet gives up its own where both are as new: the
// others' is in use.
func (k *keys) take(r *ring, joined bool) (taken bool, err error) {
	if err := r.check(); err != nil {
		return false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	order := r.compare(&k.ring)
	if order == 0 || order < 0 && (joined || r.Version != k.ring.Version) {
		return false, nil
	}
	if k.file != "" {
		if err := writeJSON(k.file, r); err != nil {
			return false, fmt.Errorf("keep the gossip keys: %w", err)
		}
	}
	k.ring = *r
	if err := k.install(); err != nil {
		return false, err
	}
	k.log.Info("gossip keys", "version", r.Version, "phase", r.Phase, "by", r.By, "used", Fingerprint(r.Keys[0]))
	return true, nil
}

// install has memberlist follow the ring. Keys are removed from the end of its
// list alone: those before it are not moved then, and others read them.
func (k *keys) install() error {
	for _, key := range k.ring.Keys {
		if err := k.live.AddKey(key); err != nil {
			return err
		}
	}
	for _, key := range slices.Backward(k.ring.Keys) {
		if err := k.live.UseKey(key); err != nil {
			return err
		}
	}
	all := slices.Clone(k.live.GetKeys())
	for i := len(all) - 1; i >= len(k.ring.Keys); i-- {
		if err := k.live.RemoveKey(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// Fingerprint is a gossip key in short, for people. It does not give it away.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("fairlead gossip key fingerprint\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// KeyRing is the gossip keys, without the keys.
type KeyRing struct {
	Version uint64
	By      string   // the node that made it; "": derived from the cluster key
	Phase   string   // "settled", or how far a rotation is: "added" or "switched"
	Keys    []string // fingerprints; the first one is the key in use
}

func (r *ring) public() KeyRing {
	out := KeyRing{Version: r.Version, By: r.By, Phase: r.Phase}
	for _, k := range r.Keys {
		out.Keys = append(out.Keys, Fingerprint(k))
	}
	return out
}

// Keys are the gossip keys that this node has.
func (m *Members) Keys() KeyRing {
	r := m.keys.current()
	return r.public()
}
