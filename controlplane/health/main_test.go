package health

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also the process of servers that benchmarks ask.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveArgument {
		serveForever()
		return
	}
	goleak.VerifyTestMain(m)
}
