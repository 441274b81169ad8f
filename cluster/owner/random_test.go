package owner

import (
	"math/rand/v2"
	"testing"
	"time"
)

// newRandom is seeded by the clock, and says with what.
func newRandom(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
