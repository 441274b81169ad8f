package steer

import (
	"testing"

	"fairlead/perf/bpfobject"
)

func TestObjectMatchesSource(t *testing.T) { bpfobject.Check(t, "steer") }
