package identity

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// KeySize is the length of a cluster key and of a gossip key, in bytes.
const KeySize = 32

// maxKeys is how many cluster keys a file may hold: the one in use, and those
// that are on their way in or out.
const maxKeys = 4

// maxKeyFile is the longest key file that is read, in bytes.
const maxKeyFile = 4096

// What is derived from a cluster key; the number changes when the use does.
const (
	gossipLabel    = "fairlead gossip key 1"
	admissionLabel = "fairlead admission key 1"
)

// errNotAKey says what a cluster key is.
var errNotAKey = errors.New("a cluster key is 32 random bytes in base64, 44 characters, as `fairlead cluster key generate` makes them")

// ClusterKey is the secret that all nodes of a cluster share.
type ClusterKey struct{ secret [KeySize]byte }

// Generate makes a new cluster key.
func Generate() ClusterKey {
	var k ClusterKey
	rand.Read(k.secret[:]) // it never fails: see crypto/rand
	return k
}

// ParseKey reads a cluster key in base64 (RFC 4648 section 4, with padding).
func ParseKey(text string) (ClusterKey, error) {
	var k ClusterKey
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return k, fmt.Errorf("not base64: %w; passphrases are not taken", errNotAKey)
	}
	if len(raw) != KeySize {
		return k, fmt.Errorf("%d bytes: %w", len(raw), errNotAKey)
	}
	if !random(raw) {
		return k, fmt.Errorf("not random: %w; passphrases are not taken", errNotAKey)
	}
	copy(k.secret[:], raw)
	return k, nil
}

// random is false for what somebody has made up: text, or a few bytes over and
// over. Of 10^13 random keys it takes one for text; the other never happens.
func random(key []byte) bool {
	printable := true
	var seen [256]bool
	distinct := 0
	for _, b := range key {
		printable = printable && b >= ' ' && b <= '~'
		if !seen[b] {
			seen[b] = true
			distinct++
		}
	}
	return !printable && distinct >= 12
}

// ReadKeys reads a key file: a cluster key a line, up to four; lines that are
// empty or begin with # say nothing. The first key is the one in use; what the
// others vouch for is taken, too. The file may be readable by its owner alone.
func ReadKeys(file string) ([]ClusterKey, error) {
	data, err := readPrivate(file, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("cluster key: %w", err)
	}
	var keys []ClusterKey
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("cluster key: %s:%d: %w", file, n+1, err)
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("cluster key: %s:%d: more than %d keys", file, n+1, maxKeys)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("cluster key: %s: no key: %w", file, errNotAKey)
	}
	return keys, nil
}

// String is the key as ParseKey reads it.
func (k ClusterKey) String() string { return base64.StdEncoding.EncodeToString(k.secret[:]) }

// GossipKey is the first key of the gossip: AES-256.
func (k ClusterKey) GossipKey() []byte { return k.derive(gossipLabel) }

// admissionKey is the private key of the authority.
func (k ClusterKey) admissionKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive(admissionLabel))
}

func (k ClusterKey) derive(label string) []byte {
	out, err := hkdf.Key(sha256.New, k.secret[:], nil, label, KeySize)
	if err != nil { // it is about lengths alone, and those are constants
		panic(err)
	}
	return out
}
