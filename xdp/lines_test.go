package xdp_test

import (
	"testing"
	"unsafe"

	"fairlead/perf/cacheline"
	"fairlead/xdp"
)

// TestQueueKeepsToItself asserts that two queues never share a cache line,
// wherever they are put: every batch changes them.
func TestQueueKeepsToItself(t *testing.T) {
	if place := cacheline.Place(int(unsafe.Sizeof(xdp.Queue{})), true); place%cacheline.Size != 0 {
		t.Errorf("queues lie %d bytes apart, which is not a whole number of lines", place)
	}
}
