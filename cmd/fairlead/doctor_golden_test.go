package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"fairlead/cmd/fairlead/internal/doctor"
	"fairlead/cmd/fairlead/internal/output"
)

// TestGoldenDoctor compares what is said of fixed findings with what is to be
// said, to the letter. "go test ./cmd/fairlead -run TestGolden -update" writes
// the files anew.
func TestGoldenDoctor(t *testing.T) {
	r := &doctor.Report{Status: doctor.Error, Findings: []doctor.Finding{
		{Status: doctor.Error, Check: "interface", Subject: "eth1", Found: "it is down", Advice: "set it up", Command: "ip link set eth1 up"},
		{Status: doctor.Warning, Check: "rings", Subject: "eth0", Found: "the receive ring has 512 frames of 4096", Advice: "make it larger", Command: "ethtool -G eth0 rx 4096"},
		{Status: doctor.Warning, Check: "node", Subject: "/run/fairlead/fairlead.sock", Found: "permission denied", Advice: "examine as a user who may use the socket"},
		{Status: doctor.OK, Check: "bpf_jit", Found: "the BPF compiler is on"},
	}}
	for _, format := range []output.Format{output.FormatTable, output.FormatWide, output.FormatJSON, output.FormatYAML} {
		var got bytes.Buffer
		if err := writeFindings(&got, &output.Options{Format: format}, r); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "cli", "doctor."+format.String())
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: got\n%s\nwant\n%s", format, got.Bytes(), want)
		}
	}
}
