package identity

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func load(t *testing.T, dir, name, keyFile string) (*Identity, string) {
	t.Helper()
	var lines strings.Builder
	i, err := Load(dir, name, keyFile, slog.New(slog.NewTextHandler(&lines, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return i, lines.String()
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in %q", p, text)
		}
	}
}

func TestIdentitySurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "cluster")
	keyFile := put(t, fixedKey, 0o600)
	first, said := load(t, dir, "lb-1", keyFile)
	mustContain(t, said, "this node has made its key", Fingerprint(first.PublicKey()))
	info, err := os.Stat(filepath.Join(dir, "node.pem"))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	second, said := load(t, dir, "lb-1", keyFile)
	if said != "" {
		t.Errorf("said %q", said)
	}
	if !bytes.Equal(first.Proof(), second.Proof()) || !bytes.Equal(first.certificate, second.certificate) || !bytes.Equal(first.GossipKey(), second.GossipKey()) {
		t.Error("the restart has changed it")
	}
	if err := first.Verify("lb-1", second.Proof(), "x", []byte("y"), second.Sign("x", []byte("y"))); err != nil {
		t.Error(err)
	}

	// Without the cluster key it goes on.
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	third, said := load(t, dir, "lb-1", keyFile)
	mustContain(t, said, "there is no cluster key file: this node goes on with the credential it has")
	if !bytes.Equal(first.Proof(), third.Proof()) || !bytes.Equal(first.GossipKey(), third.GossipKey()) {
		t.Error("without the cluster key it is another one")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("in the directory: %v, %v", left, err)
	}
}

func TestNewClusterKeyNewCredential(t *testing.T) {
	dir := t.TempDir()
	first, _ := load(t, dir, "n", put(t, fixedKey, 0o600))
	next := Generate()
	second, said := load(t, dir, "n", put(t, next.String()+"\n"+fixedKey, 0o600))
	mustContain(t, said, "the cluster keys have changed: this node has a new credential for its key", "taken=2")
	if !first.PublicKey().Equal(second.PublicKey()) || bytes.Equal(first.Proof(), second.Proof()) {
		t.Error("a new cluster key is to change the proof and not the key")
	}
	third, said := load(t, dir, "n", put(t, next.String(), 0o600))
	mustContain(t, said, "taken=1")
	if _, err := third.VerifyProof("n", first.Proof()); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("what the old key vouched for: %v", err)
	}
}

func TestRenamed(t *testing.T) {
	dir, keyFile := t.TempDir(), put(t, fixedKey, 0o600)
	load(t, dir, "a", keyFile)
	_, err := Load(dir, "b", keyFile, slog.New(slog.DiscardHandler))
	want := filepath.Join(dir, "node.pem") + ` is the identity of node "a", and this node is to be "b": give it its name back, or remove the file to make it a new node; the others then remember "a" as one that has died`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var renamed *RenamedError
	if !errors.As(err, &renamed) {
		t.Errorf("%T", err)
	}
}

func TestRefusedToLoad(t *testing.T) {
	keyFile := put(t, fixedKey, 0o600)
	missing := filepath.Join(t.TempDir(), "none")
	dir := t.TempDir()
	file := filepath.Join(dir, "node.pem")
	_, err := Load(dir, "n", missing, slog.New(slog.DiscardHandler))
	want := "cluster key: open " + missing + ": no such file or directory: a node needs it at its first start, and this one has no identity in " + file + " yet"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	load(t, dir, "n", keyFile)
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	_, err = Load(dir, "n", keyFile, slog.New(slog.DiscardHandler))
	want = "the identity of this node: " + file + ": others than its owner may use it (mode 0604): chmod 600 it, and consider whether it is still a secret"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestDamaged damages the file in every way that comes to mind. The node starts
// as a new one, says so, and keeps what was there.
func TestDamaged(t *testing.T) {
	keyFile := put(t, fixedKey, 0o600)
	seen := map[string]string{}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"cut at a block": func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte("-----BEGIN"))] },
		"a bit":          func(b []byte) []byte { b[bytes.Index(b, []byte("PROOF-----\n"))+30] ^= 1; return b },
		"garbage":        func(b []byte) []byte { return bytes.Repeat([]byte{0xff}, 200) },
		"more behind":    func(b []byte) []byte { return append(b, "and more"...) },
		"twice":          func(b []byte) []byte { return append(b, b...) },
		"too long":       func(b []byte) []byte { return append(b, make([]byte, 20000)...) },
		"another's key": func(b []byte) []byte {
			other, err := encodeNode(node(t, "n", Generate()))
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(b, []byte("-----BEGIN CERT"))
			return append(other[:bytes.Index(other, []byte("-----BEGIN CERT"))], b[at:]...)
		},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "node.pem")
		first, _ := load(t, dir, "n", keyFile)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data = damage(data)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		second, said := load(t, dir, "n", keyFile)
		mustContain(t, said, "level=ERROR", "the identity of this node is damaged: it gets a new key, and the other nodes refuse it until they have seen the one with the old key die", "aside="+file+".aside")
		seen[name] = said
		if first.PublicKey().Equal(second.PublicKey()) {
			t.Errorf("%s: it has the old key", name)
		}
		if kept, err := os.ReadFile(file + ".aside"); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustContain(t, seen["empty"], "it is incomplete")
	mustContain(t, seen["another's key"], "its certificate and proof are those of another key")

	// However often it happens, ten are kept.
	dir := t.TempDir()
	file := filepath.Join(dir, "node.pem")
	for range keptAside + 5 {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		load(t, dir, "n", keyFile)
	}
	if left, err := filepath.Glob(file + ".aside*"); err != nil || len(left) != keptAside {
		t.Errorf("%d are kept, %v", len(left), err)
	}
}

// TestFullDisk says that a node which cannot keep its key does not start with it.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Join(blocked, "state"), "n", put(t, fixedKey, 0o600), slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "the identity of this node: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeNode(f *testing.F) {
	key, err := ParseKey(fixedKey)
	if err != nil {
		f.Fatal(err)
	}
	data, err := encodeNode(node(f, "n", key))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		if i, err := decodeNode(data); err == nil {
			if _, err := i.VerifyProof(i.Name(), i.Proof()); err != nil {
				t.Error(err)
			}
		}
	})
}
