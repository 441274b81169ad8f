package writer_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	lab "fairlead/perf/kube"
)

// control is the control plane that all tests of the package share: the Services
// of each are of a class of its own.
var control *lab.ControlPlane

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if control, err = lab.Start(context.Background(), lab.Config{Controllers: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, control.Logs())
	}
	if err := control.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
