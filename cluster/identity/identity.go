package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// ErrRevoked says that a node's key has been revoked.
var ErrRevoked = errors.New("the node's key has been revoked")

// maxProved is how many verified proofs are remembered; when there are more, all
// are forgotten. A cluster has hundreds of nodes at most.
const maxProved = 4096

// Identity is who this node is, and what it verifies others by. It is safe for
// concurrent use.
type Identity struct {
	name        string
	key         ed25519.PrivateKey
	proof       []byte
	certificate []byte // DER
	gossipKey   []byte
	authorities []*authority // the first one has made ours

	revoked atomic.Pointer[map[[ed25519.PublicKeySize]byte]bool]

	mu     sync.Mutex
	proved map[proved]bool
}

// proved is a proof that has been verified.
type proved struct {
	name  string
	proof [ProofSize]byte
}

// New makes a node with a new key that is kept nowhere: for tests and
// simulations. The first cluster key vouches for it.
func New(name string, keys ...ClusterKey) (*Identity, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no cluster key")
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	return admit(name, key, keys)
}

// admit makes the credentials of a key.
func admit(name string, key ed25519.PrivateKey, keys []ClusterKey) (*Identity, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	admission := keys[0].admissionKey()
	i := &Identity{name: name, key: key, gossipKey: keys[0].GossipKey()}
	for _, k := range keys {
		a, err := newAuthority(k.admissionKey())
		if err != nil {
			return nil, err
		}
		i.authorities = append(i.authorities, a)
	}
	var err error
	if i.certificate, err = i.authorities[0].certify(admission, name, i.PublicKey()); err != nil {
		return nil, err
	}
	i.proof = prove(admission, name, i.PublicKey())
	return i, nil
}

// Name is the node's.
func (i *Identity) Name() string { return i.name }

// PublicKey is what others verify the node's signatures with. It stays the same
// for as long as the state directory does.
func (i *Identity) PublicKey() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// Proof is what shows anybody in the cluster that PublicKey is this node's:
// ProofSize bytes. It changes when the cluster key does.
func (i *Identity) Proof() []byte { return append([]byte(nil), i.proof...) }

// GossipKey is the first key of the gossip: 32 bytes, derived from the cluster
// key. Keys that are rotated in later are not known here.
func (i *Identity) GossipKey() []byte { return append([]byte(nil), i.gossipKey...) }

// Fingerprint is a public key in short, for people.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Sign signs a message. The context says what kind of message it is; a signature
// never verifies under another one. It is 64 bytes.
func (i *Identity) Sign(context string, message []byte) []byte {
	return ed25519.Sign(i.key, signedText(context, message))
}

func signedText(context string, message []byte) []byte {
	text := make([]byte, 0, 32+len(context)+len(message))
	text = append(text, "fairlead signed 1\x00"...)
	text = append(text, byte(len(context)>>8), byte(len(context)))
	text = append(text, context...)
	return append(text, message...)
}

// VerifySignature says whether a key has signed a message, whoever has the key.
func VerifySignature(key ed25519.PublicKey, context string, message, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signedText(context, message), signature)
}

// VerifyProof is the key of the node of that name, when the proof holds and the
// key is not revoked. Errors are ErrNotAdmitted and ErrRevoked.
func (i *Identity) VerifyProof(name string, proof []byte) (ed25519.PublicKey, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	key, signature, err := splitProof(proof)
	if err != nil {
		return nil, err
	}
	id := proved{name, [ProofSize]byte(proof)}
	if !i.remembered(id) {
		if !i.vouched(func(a *authority) bool { return a.checkProof(name, key, signature) }) {
			return nil, fmt.Errorf("%w: the cluster key does not vouch for the key %s of %q", ErrNotAdmitted, Fingerprint(key), name)
		}
		i.remember(id)
	}
	return key, i.checkRevoked(key)
}

// Verify verifies that the node of that name has signed the message.
func (i *Identity) Verify(name string, proof []byte, context string, message, signature []byte) error {
	key, err := i.VerifyProof(name, proof)
	if err != nil {
		return err
	}
	if !VerifySignature(key, context, message, signature) {
		return fmt.Errorf("the signature is not of node %q", name)
	}
	return nil
}

// Outdated says that a proof holds, but is one of a cluster key that is on its
// way out: what it goes with is to be signed anew before that key is removed.
func (i *Identity) Outdated(name string, proof []byte) bool {
	key, signature, err := splitProof(proof)
	if err != nil || i.authorities[0].checkProof(name, key, signature) {
		return false
	}
	return i.vouched(func(a *authority) bool { return a.checkProof(name, key, signature) })
}

// VerifyCertificate is the name and the key of the node whose certificate this
// is. Its clock and this node's do not matter. Errors are ErrNotAdmitted and
// ErrRevoked.
func (i *Identity) VerifyCertificate(leaf *x509.Certificate) (string, ed25519.PublicKey, error) {
	name, key, err := nodeOf(leaf)
	if err != nil {
		return "", nil, err
	}
	if !i.vouched(func(a *authority) bool { return a.checkCertificate(leaf) == nil }) {
		return "", nil, fmt.Errorf("%w: the cluster key does not vouch for the certificate of %q", ErrNotAdmitted, name)
	}
	return name, key, i.checkRevoked(key)
}

func (i *Identity) vouched(by func(*authority) bool) bool {
	for _, a := range i.authorities {
		if by(a) {
			return true
		}
	}
	return false
}

func (i *Identity) remembered(id proved) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.proved[id]
}

func (i *Identity) remember(id proved) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proved == nil || len(i.proved) >= maxProved {
		i.proved = map[proved]bool{}
	}
	i.proved[id] = true
}

// SetRevoked says which keys are not taken any more, whatever vouches for them.
// It replaces what was said before.
func (i *Identity) SetRevoked(keys []ed25519.PublicKey) {
	revoked := map[[ed25519.PublicKeySize]byte]bool{}
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize {
			revoked[[ed25519.PublicKeySize]byte(k)] = true
		}
	}
	i.revoked.Store(&revoked)
}

// Revoked says whether a key is not taken any more.
func (i *Identity) Revoked(key ed25519.PublicKey) bool {
	revoked := i.revoked.Load()
	return revoked != nil && len(key) == ed25519.PublicKeySize && (*revoked)[[ed25519.PublicKeySize]byte(key)]
}

func (i *Identity) checkRevoked(key ed25519.PublicKey) error {
	if i.Revoked(key) {
		return fmt.Errorf("%w: %s", ErrRevoked, Fingerprint(key))
	}
	return nil
}
