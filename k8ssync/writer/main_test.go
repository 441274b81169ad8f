package writer_test

import (
	"context"
	"os"
	"testing"

	lab "fairlead/perf/kube"
)

// control is the control plane that all tests of the package share: the Services
// of each are of a class of its own.
var control *lab.ControlPlane

func TestMain(m *testing.M) {
	os.Exit(lab.Main(m, lab.Config{Controllers: true}, func(c *lab.ControlPlane) error {
		control = c
		return c.InstallCRDs(context.Background())
	}))
}
