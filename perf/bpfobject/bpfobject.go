// Package bpfobject tests that BPF objects in the repository are what their sources
// make.
package bpfobject

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Check compares the committed object in the folder of a test, which is of package
// name, with the source it was made from by their digests, which go generate writes.
// Where the compiler is installed it is made once more and must come out byte for byte.
func Check(t *testing.T, name string) {
	t.Helper()
	for line := range strings.Lines(string(read(t, "bpf/SHA256SUMS"))) {
		want, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if sum := sha256.Sum256(read(t, file)); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed since the object was made: run go generate", file)
		}
	}
	if _, err := exec.LookPath("clang-14"); err != nil {
		t.Log("clang-14 is not installed: compared digests only")
		return
	}

	tool := filepath.Join(t.TempDir(), "bpf2go")
	run(t, "", name, "go", "build", "-o", tool, "github.com/cilium/ebpf/cmd/bpf2go")
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "bpf"), os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, name, tool, directive(t)...)
	for _, file := range []string{"object_bpfel.o", "object_bpfel.go"} {
		if !bytes.Equal(read(t, filepath.Join(dir, file)), read(t, file)) {
			t.Errorf("%s does not come out of its source: run go generate", file)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// directive is what go generate gives to bpf2go.
func directive(t *testing.T) []string {
	t.Helper()
	for line := range strings.Lines(string(read(t, "generate.go"))) {
		if args, ok := strings.CutPrefix(line, "//go:generate go tool bpf2go "); ok {
			return strings.Fields(args)
		}
	}
	t.Fatal("generate.go does not call bpf2go")
	return nil
}

// run runs a command as go generate does for a package.
func run(t *testing.T, dir, pkg, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPACKAGE="+pkg, "GOFILE=generate.go")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
