package neighbor

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain asserts that no watcher leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
