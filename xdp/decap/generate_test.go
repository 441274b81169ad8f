package decap

import (
	"testing"

	"fairlead/perf/bpfobject"
)

func TestObjectMatchesSource(t *testing.T) { bpfobject.Check(t, "decap") }
