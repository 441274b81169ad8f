package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
)

// fileName is where a node keeps its identity, in the directory it is given.
const fileName = "node.pem"

// RenamedError says that a state directory is the one of another node.
type RenamedError struct{ File, Has, Want string }

func (e *RenamedError) Error() string {
	return fmt.Sprintf("%s is the identity of node %q, and this node is to be %q: give it its name back, or remove the file to make it a new node; the others then remember %q as one that has died", e.File, e.Has, e.Want, e.Has)
}

// Load is the identity of the node that keeps its state in dir.
//
// At its first start the node makes a key, which the cluster key in keyFile
// vouches for, and keeps both there, in a file of mode 0600. After that the
// cluster key is not needed any more: when keyFile is gone, the node goes on
// with what it has. When its first key is another one than before, the node
// keeps its own key and gets a new certificate and proof.
//
// A damaged file is put aside, and the node is a new one of the same name: the
// others refuse it until they have seen the old one die.
func Load(dir, name, keyFile string, log *slog.Logger) (*Identity, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	keys, keysErr := ReadKeys(keyFile)
	if keysErr != nil && !errors.Is(keysErr, fs.ErrNotExist) {
		return nil, keysErr
	}
	file := filepath.Join(dir, fileName)
	had, err := readNode(file)
	var damaged *damagedError
	switch {
	case errors.As(err, &damaged):
		aside, asideErr := putAside(file)
		if asideErr != nil {
			return nil, errors.Join(err, asideErr)
		}
		log.Error("the identity of this node is damaged: it gets a new key, and the other nodes refuse it until they have seen the one with the old key die", "file", file, "reason", damaged.reason, "aside", aside)
		had = nil
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the identity of this node: %w", err)
	}
	if had != nil && had.name != name {
		return nil, &RenamedError{File: file, Has: had.name, Want: name}
	}
	switch {
	case keysErr == nil:
		return readmit(file, name, had, keys, log)
	case had != nil:
		log.Info("there is no cluster key file: this node goes on with the credential it has", "file", keyFile)
		return had, nil
	default:
		return nil, fmt.Errorf("%w: a node needs it at its first start, and this one has no identity in %s yet", keysErr, file)
	}
}

// readmit makes what a node has follow the cluster keys.
func readmit(file, name string, had *Identity, keys []ClusterKey, log *slog.Logger) (*Identity, error) {
	var key ed25519.PrivateKey
	if had != nil {
		key = had.key
	} else {
		var err error
		if _, key, err = ed25519.GenerateKey(nil); err != nil {
			return nil, err
		}
	}
	now, err := admit(name, key, keys)
	if err != nil {
		return nil, err
	}
	if had != nil && had.sameAuthorities(now) {
		return had, nil
	}
	if err := writeNode(file, now); err != nil {
		return nil, fmt.Errorf("the identity of this node: %w", err)
	}
	if had == nil {
		log.Info("this node has made its key", "node", name, "key", Fingerprint(now.PublicKey()), "file", file)
	} else {
		log.Info("the cluster keys have changed: this node has a new credential for its key", "node", name, "key", Fingerprint(now.PublicKey()), "taken", len(keys))
	}
	return now, nil
}

func (i *Identity) sameAuthorities(other *Identity) bool {
	if len(i.authorities) != len(other.authorities) {
		return false
	}
	for n, a := range i.authorities {
		if !a.key.Equal(other.authorities[n].key) {
			return false
		}
	}
	return true
}
