package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestDocumented compares the tests of this package with docs/testing.md.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	// What follows is of perf/kube/e2e.
	text, _, _ = bytes.Cut(text, []byte("\n## Kubernetes, end to end\n"))
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{"TestMain": true, "TestDocumented": true}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
	}
	told := map[string]bool{"TestMain": true, "TestDocumented": true}
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1) {
		told[string(m[1])] = true
		if !tests[string(m[1])] {
			t.Errorf("docs/testing.md tells of %s, which does not exist", m[1])
		}
	}
	for name := range tests {
		if !told[name] {
			t.Errorf("docs/testing.md does not tell of %s", name)
		}
	}
}
