package store

import "crypto/ed25519"

// Identity is what a node signs with, and verifies others by: see package
// identity.
type Identity interface {
	Name() string
	// Proof shows that the key that Sign signs with is the node's.
	Proof() []byte
	Sign(context string, message []byte) []byte
	// Verify fails unless the node of that name has signed the message.
	Verify(name string, proof []byte, context string, message, signature []byte) error
	// VerifyProof fails if a proof does not hold, or no longer.
	VerifyProof(name string, proof []byte) (ed25519.PublicKey, error)
	// Outdated says that a proof will not hold for long.
	Outdated(name string, proof []byte) bool
}
