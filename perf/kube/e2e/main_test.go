// Package e2e proves Fairlead as the LoadBalancer provider of a Kubernetes cluster:
// the real binary on real AF_XDP, a real control plane, and real connections from a
// client to what stands for pods. docs/testing.md lists what is proved where.
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
	dir, err := os.MkdirTemp("", "fairlead-kube-e2e-")
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
