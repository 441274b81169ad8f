package member_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"fairlead/cluster"
	"fairlead/cluster/member"
)

// TestRevoked has a node find out that the key of another one is revoked: it is
// dead for it, however lively it is, until the key is not revoked any more.
func TestRevoked(t *testing.T) {
	w := newWorld(t)
	nodes := w.cluster(3)
	stolen := nodes[2].Self().Key
	nodes[0].Reconsider(func(ed25519.PublicKey) bool { return false })
	if nodes[0].count(cluster.Alive) != 3 {
		t.Fatal("somebody is put out for nothing")
	}
	for range 2 {
		nodes[0].Reconsider(func(k ed25519.PublicKey) bool { return k.Equal(stolen) })
		if nodes[0].state("n3") != cluster.Dead || nodes[0].state("n2") != cluster.Alive || nodes[0].state("n1") != cluster.Alive {
			t.Fatalf("with a revoked key: %v", nodes[0].All())
		}
	}
	wait(t, time.Second) // of gossip
	if nodes[0].state("n3") != cluster.Dead || nodes[1].state("n3") != cluster.Alive {
		t.Errorf("it has come back: %v", nodes[0].All())
	}
	nodes[0].Reconsider(func(ed25519.PublicKey) bool { return false })
	if nodes[0].state("n3") != cluster.Alive {
		t.Errorf("when it is not revoked any more: %v", nodes[0].All())
	}
	if len(nodes[0].Failed()) != 0 {
		t.Errorf("it fails: %v", <-nodes[0].Failed())
	}
	// A node whose own key is revoked cannot go on.
	nodes[2].Reconsider(func(k ed25519.PublicKey) bool { return k.Equal(stolen) })
	if len(nodes[2].Failed()) != 1 || nodes[2].state("n3") != cluster.Alive || nodes[2].count(cluster.Alive) != 3 {
		t.Fatalf("with its own key revoked: %v", nodes[2].All())
	}
	if err := <-nodes[2].Failed(); err != member.ErrRevoked {
		t.Errorf("it fails: %v", err)
	}
}
