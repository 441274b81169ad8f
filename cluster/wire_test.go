package cluster

import "testing"

// TestWireVersions asserts what is spoken between nodes that read different
// versions.
func TestWireVersions(t *testing.T) {
	defer func() { nextWire = "" }()
	for _, c := range []struct {
		next        string // of this binary
		least, most int    // of the other node
		to          int
	}{
		{"", 1, 1, 1},
		{"", 1, 2, 1},
		{"", 2, 3, 0},
		{"yes", 1, 1, 1},
		{"yes", 1, 2, 2},
		{"yes", 2, 3, 2},
		{"yes", 3, 4, 0},
	} {
		nextWire = c.next
		n := Node{WireMin: c.least, WireMax: c.most, State: Alive}
		if got := SpeakTo(&n); got != c.to {
			t.Errorf("next %q to a node of %d-%d: version %d, want %d", c.next, c.least, c.most, got, c.to)
		}
		if got := CommonWire([]Node{n, {WireMin: 9, WireMax: 9, State: Dead}}); got != c.to {
			t.Errorf("next %q with a node of %d-%d: version %d in common, want %d", c.next, c.least, c.most, got, c.to)
		}
	}
}
