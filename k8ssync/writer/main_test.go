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

// crds makes our kinds known.
func crds() error {
	for _, name := range []string{"addresspools", "addressreservations"} {
		text, err := os.ReadFile("../../configs/kubernetes/crds/" + name + ".yaml")
		if err != nil {
			return err
		}
		if err := control.Apply(context.Background(), string(text)); err != nil {
			return err
		}
		if _, err := control.Kubectl(context.Background(), "wait", "--for=condition=Established", "--timeout=60s", "crd/"+name+".fairlead.io"); err != nil {
			return err
		}
	}
	return nil
}

func run(m *testing.M) int {
	var err error
	if control, err = lab.Start(context.Background(), lab.Config{Controllers: true}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := crds(); err != nil {
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
