package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/perf/rig"
)

// fairleadBinary is the fairlead that all tests run.
var fairleadBinary string

// TestMain is also the main of the children: the kit starts its own program
// again, which here is the test.
func TestMain(m *testing.M) {
	runChild()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-bench-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		fairleadBinary, err = rig.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// newTestKit is a kit with the smallest of rounds, which is closed, without
// errors, at the end of the test.
func newTestKit(t *testing.T, who []contestant, cases ...Case) *kit {
	t.Helper()
	p := &profile{name: "test", rounds: 2, attempts: 1, warmUp: 10 * time.Millisecond, duration: 30 * time.Millisecond, cases: cases}
	k, err := newKit(p, who, fairleadBinary, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, k) })
	return k
}

func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Errorf("close: %v", err)
	}
}

func testWorld(t *testing.T, k *kit, arms int) *world {
	t.Helper()
	w, err := k.world(arms)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
