package steer

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// TestMemoRewritten runs frames while their memo is written over and over,
// taking turns between two contents and two routes: what comes out is one of
// the two, or as it came, but never a mixture.
func TestMemoRewritten(t *testing.T) {
	l := newMemoLab(t)
	for _, f := range []memoFlow{
		{ends{backend4, snat4, 8080, 1024}, layers.IPProtocolTCP},
		{ends{backend6, snat6, 8080, 1024}, layers.IPProtocolUDP},
	} {
		first := l.newWay(opNATReply, f, false, true)
		second := l.newWay(opNATReply, f, false, true)
		// The client and its ports differ, and so do the checksums' changes.
		second.entry.ViaHi, second.entry.ViaLo = ^first.entry.ViaHi, ^first.entry.ViaLo
		second.entry.Nat ^= 0x0123_4567_89ab_cdef
		second.route.Macs[5]++
		second.route.Src[1]++

		l.clear()
		l.routes[2], l.routes[3] = first.route, second.route
		at := &l.entries[places(&first.entry)[0]]
		contents := [2]objectMemoEntry{first.entry, second.entry}
		for i := range contents {
			contents[i].Control = control(monotonic(t)+60000, uint64(2+i), 9, 0)
		}
		var results [2][]byte
		for i := range contents {
			*at = contents[i]
			_, results[i] = l.run(first.frame)
		}
		if bytes.Equal(results[0], results[1]) {
			t.Fatal("the two contents do not differ")
		}

		stop, done := make(chan struct{}), make(chan uint64, 1)
		go func() { done <- rewrite(at, &contents, stop) }()
		writes := sync.OnceValue(func() uint64 {
			close(stop)
			return <-done
		})
		t.Cleanup(func() { writes() }) // before the memory is unmapped
		var seen [3]int
		for range 30_000 {
			action, out := l.run(first.frame)
			switch {
			case action == xdpCarried && bytes.Equal(out, results[0]):
				seen[0]++
			case action == xdpCarried && bytes.Equal(out, results[1]):
				seen[1]++
			case action == xdpDrop && bytes.Equal(out, first.frame):
				seen[2]++
			default:
				t.Fatalf("%s: %x", actionName(action), out)
			}
		}
		if n := writes(); seen[0] == 0 || seen[1] == 0 || n < 1000 {
			t.Errorf("first %d, second %d, up %d; written %d times", seen[0], seen[1], seen[2], n)
		}
	}
}

// rewrite writes an entry as dataplane/memo does, until it is told to stop.
func rewrite(e *objectMemoEntry, contents *[2]objectMemoEntry, stop <-chan struct{}) (writes uint64) {
	for {
		select {
		case <-stop:
			return writes
		default:
		}
		writes++
		next := &contents[writes%2]
		atomic.StoreUint64(&e.Control, 0xffff<<16|writes&0xff)
		atomic.StoreUint64(&e.Nat, next.Nat)
		atomic.StoreUint64(&e.ViaHi, next.ViaHi)
		atomic.StoreUint64(&e.ViaLo, next.ViaLo)
		atomic.StoreUint64(&e.Control, next.Control|writes&0xff)
	}
}
