package ipc

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"fairlead/dataplane/fib"
)

// TestPatchFitsAMessage: what was written comes over as it is, as long as a
// message has room for it, and as everything when it has not.
func TestPatchFitsAMessage(t *testing.T) {
	a, b := pair(t)
	for _, n := range []int{0, 1, maxWritten, maxWritten + 1, 100_000} {
		written := make([]fib.Range, n)
		for i := range written {
			written[i] = fib.Range{Section: 15, First: math.MaxUint32 - uint32(i), Count: math.MaxUint32}
		}
		if err := a.Send(KindPatch, NewPatch(math.MaxUint64, written)); err != nil {
			t.Fatalf("%d runs: %v", n, err)
		}
		m, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		var got Patch
		if err := m.Decode(KindPatch, &got, 0); err != nil {
			t.Fatal(err)
		}
		if all := n > maxWritten; got.All != all || !all && !slices.Equal(got.Ranges(), written) || got.Generation != math.MaxUint64 {
			t.Errorf("%d runs arrive as %d, all %v", n, len(got.Written), got.All)
		}
	}
}

// TestRestingImageIsSaid: by default an image is to be in force.
func TestRestingImageIsSaid(t *testing.T) {
	for _, resting := range []bool{false, true} {
		text, err := json.Marshal(FIB{Generation: 1, Resting: resting})
		if err != nil {
			t.Fatal(err)
		}
		var got FIB
		if err := json.Unmarshal(text, &got); err != nil || got.Resting != resting {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
}
