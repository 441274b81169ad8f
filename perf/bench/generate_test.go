package main

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

// TestObjectMatchesSource compares the committed object with the source it was
// made from by their digests, which go generate writes. Where the compiler is
// installed it is made once more and must come out byte for byte.
func TestObjectMatchesSource(t *testing.T) {
	sums, err := os.ReadFile("bpf/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed since the object was made: run go generate", name)
		}
	}
	if _, err := exec.LookPath("clang-14"); err != nil {
		t.Log("clang-14 is not installed: compared digests only")
		return
	}

	tool := filepath.Join(t.TempDir(), "bpf2go")
	execute(t, "", "go", "build", "-o", tool, "github.com/cilium/ebpf/cmd/bpf2go")
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "bpf"), os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	execute(t, dir, tool, directive(t)...)
	for _, name := range []string{"object_bpfel.o", "object_bpfel.go"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s does not come out of its source: run go generate", name)
		}
	}
}

// directive is what go generate gives to bpf2go.
func directive(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		if args, ok := strings.CutPrefix(line, "//go:generate go tool bpf2go "); ok {
			return strings.Fields(args)
		}
	}
	t.Fatal("generate.go does not call bpf2go")
	return nil
}

func execute(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPACKAGE=main", "GOFILE=generate.go")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
