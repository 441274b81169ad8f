// Package documented tests that docs/testing.md tells of all end-to-end tests.
package documented

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	declared  = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	mentioned = regexp.MustCompile("`(Test\\w+)`")
)

// Tests compares the tests in the folder of a test with those that docs/testing.md names
// below one of its headings.
func Tests(t *testing.T, heading string) {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	page := read(t, filepath.Join(strings.TrimSpace(string(root)), "docs", "testing.md"))
	_, section, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/testing.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests, told := apart(), apart()
	for _, file := range files {
		for _, m := range declared.FindAllStringSubmatch(read(t, file), -1) {
			tests[m[1]] = true
		}
	}
	for _, m := range mentioned.FindAllStringSubmatch(section, -1) {
		if told[m[1]] = true; !tests[m[1]] {
			t.Errorf("docs/testing.md tells of %s, which does not exist", m[1])
		}
	}
	for name := range tests {
		if !told[name] {
			t.Errorf("docs/testing.md does not tell of %s", name)
		}
	}
}

// apart are what nobody need be told of.
func apart() map[string]bool { return map[string]bool{"TestMain": true, "TestDocumented": true} }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
