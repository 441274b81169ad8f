package main

import (
	"testing"

	"fairlead/perf/bpfobject"
)

func TestObjectMatchesSource(t *testing.T) { bpfobject.Check(t, "main") }
