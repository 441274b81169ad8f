package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package that share a control plane, for TestMain: prepare is
// given it before they begin. A goroutine that is left at the end is a failure. The
// result is an exit status.
func Main(m *testing.M, cfg Config, prepare func(*ControlPlane) error) (status int) {
	err := func() error {
		c, err := Start(context.Background(), cfg)
		if err != nil {
			return err
		}
		if err := prepare(c); err != nil {
			return errors.Join(err, c.Close())
		}
		if status = m.Run(); status != 0 {
			fmt.Fprintln(os.Stderr, c.Logs())
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := c.Close(); err != nil || status != 0 {
			return err
		}
		return goleak.Find()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
