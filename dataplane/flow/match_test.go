package flow

import (
	"testing"

	"fairlead/dataplane/packet"
)

// TestKeysAreExact asserts that a record is found by its own key alone, among
// them keys whose halves differ by the same bits, which a comparison by halves
// must not let cancel out.
func TestKeysAreExact(t *testing.T) {
	table, err := New(make([]byte, Size(64)), Config{Flows: 64, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := Flow{Client: packet.Addr{Hi: 0x20010db8_00000000, Lo: 0x2}, Backend: packet.Addr{Hi: 0x20010db8_00100000, Lo: 0x5}, ClientPort: 1024,
		VIPPort: 80, BackendPort: 8080, SNATPort: 2048, VIP: 3, SNAT: 4, Proto: 6, ServiceID: 1, BackendID: 1}
	ref, ok := table.Worker(0).Insert(&f, 1000, 60_000)
	if !ok {
		t.Fatal("no room")
	}
	for dir, own := range map[Direction]Key{Forward: f.ForwardKey(), Reply: f.ReplyKey()} {
		slot := makeSlot(table.Hash(&own), uint32(ref), dir)
		if _, ok := table.match(slot, &own, nil, 1000); !ok {
			t.Errorf("direction %d: its own key is not the record's", dir)
		}
		for bit := range 64 {
			for _, change := range []func(*Key){
				func(k *Key) { k.Peer.Hi ^= 1 << bit },
				func(k *Key) { k.Peer.Lo ^= 1 << bit },
				func(k *Key) { k.Peer.Hi ^= 1 << bit; k.Peer.Lo |= 1 << bit },
				func(k *Key) { k.Peer.Hi ^= 1 << bit; k.Peer.Lo ^= 1 << bit },
				func(k *Key) { k.PeerPort ^= 1 << (bit % 16) },
				func(k *Key) { k.LocalPort ^= 1 << (bit % 16) },
				func(k *Key) { k.PeerPort ^= 1 << (bit % 16); k.LocalPort ^= 1 << (bit % 16) },
				func(k *Key) { k.Local ^= 1 << (bit % 16) },
				func(k *Key) { k.Proto ^= 1 << (bit % 8) },
			} {
				k := own
				change(&k)
				if _, ok := table.match(slot, &k, nil, 1000); ok {
					t.Errorf("direction %d: %+v is taken for %+v", dir, k, own)
				}
			}
		}
	}
}
