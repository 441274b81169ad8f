package e2e

import (
	"testing"

	"fairlead/perf/documented"
)

func TestDocumented(t *testing.T) { documented.Tests(t, "End to end") }
