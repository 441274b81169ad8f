package flow

import (
	"sync"
	"testing"
)

func peerMAC(i int) [6]byte {
	return [6]byte{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
}

func TestPeers(t *testing.T) {
	tab := newTable(t, 1, 1)
	if via := tab.PeerOf(3, [6]byte{}); via != 0 {
		t.Errorf("the zero address is peer %d", via)
	}
	if _, _, ok := tab.Peer(0); ok {
		t.Error("0 is a peer")
	}
	if _, _, ok := tab.Peer(77); ok {
		t.Error("an unused place is a peer")
	}
	type path struct {
		port uint16
		mac  [6]byte
	}
	known := map[uint16]path{}
	i := 0
	for ; ; i++ {
		p := path{uint16(i % 3), peerMAC(i / 3)}
		via := tab.PeerOf(p.port, p.mac)
		if via == 0 {
			if i/3 == 0 {
				continue
			}
			break
		}
		if old, ok := known[via]; ok {
			t.Fatalf("%v and %v are both peer %d", old, p, via)
		}
		known[via] = p
	}
	if len(known) < peerSlots*95/100 {
		t.Errorf("full after %d peers", len(known))
	}
	for via, p := range known {
		if port, mac, ok := tab.Peer(via); !ok || port != p.port || mac != p.mac {
			t.Fatalf("peer %d is %d %v (%v), want %v", via, port, mac, ok, p)
		}
		if again := tab.PeerOf(p.port, p.mac); again != via {
			t.Fatalf("%v was peer %d and is now %d", p, via, again)
		}
	}
}

// TestPeersInParallel has many goroutines find or add the same few peers: all
// must get the same numbers.
func TestPeersInParallel(t *testing.T) {
	const peers, workers = 500, 4
	tab := newTable(t, 1, 1)
	var got [workers][peers]uint16
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range peers {
				got[w][i] = tab.PeerOf(1, peerMAC(i))
			}
		})
	}
	wg.Wait()
	seen := map[uint16]bool{}
	for i := range peers {
		for w := range workers {
			if got[w][i] != got[0][i] {
				t.Fatalf("peer %d has numbers %d and %d", i, got[0][i], got[w][i])
			}
		}
		if seen[got[0][i]] || got[0][i] == 0 {
			t.Fatalf("peer %d has number %d, which is 0 or another's", i, got[0][i])
		}
		seen[got[0][i]] = true
	}
}
