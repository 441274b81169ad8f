// Package e2e proves Fairlead on real AF_XDP: the real binary, real kernels'
// stacks at the ends, and nothing in between but network namespaces and veth.
// docs/testing.md lists what is proved where.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"fairlead/perf/rig"
)

// binary is the fairlead that all tests run.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(heirVariable) != "" {
		return brokenHeir()
	}
	if name := os.Getenv(serveVariable); name != "" {
		return serveHere(name)
	}
	dir, err := os.MkdirTemp("", "fairlead-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
