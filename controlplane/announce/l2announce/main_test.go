package l2announce

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain asserts that no announcer leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
