package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/perf/rig"
)

// TestClusterDemo runs the demo, by the scripts that set up the virtual machines,
// too: no connection breaks, whichever node dies.
func TestClusterDemo(t *testing.T) {
	dir := t.TempDir()
	binary, err := rig.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	machines, err := filepath.Abs("../machines")
	if err != nil {
		t.Fatal(err)
	}
	const connections = 100
	var out bytes.Buffer
	if err := Run(t.Context(), Options{Out: &out, Binary: binary, Machines: machines, Dir: dir, Connections: connections}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if got := strings.Count(out.String(), "broken: 0 of 100"); got != 5 {
		t.Errorf("%d of 5 steps say that nothing broke:\n%s", got, &out)
	}
	t.Log(out.String())
}
