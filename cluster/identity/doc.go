// Package identity is how a node proves who it is.
//
// The operator gives every node the same cluster key: 32 random bytes. From it
// everybody derives the authority of the cluster, an ed25519 key that vouches
// for nodes, and the first key of the gossip. A node makes an ed25519 key of its
// own at its first start; that key is the node's identity, and the authority
// vouches for "this key is the node of this name" in two forms that say the same:
// a certificate (X.509) for connections, and a Proof of 97 bytes, for whatever
// is signed and sent around.
//
// Who has a gossip key alone, such as one that has been rotated in, has neither.
package identity
