package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/cluster/identity"
	"fairlead/controlplane/api"
)

// TestKeyGenerate asserts that a key is one, that nobody but its owner can read it,
// and that none is overwritten.
func TestKeyGenerate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster.key")
	if r := fairlead(t, dir, "cluster", "key", "generate", path); r.code != 0 || r.stdout != "" {
		t.Fatalf("exit status %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if keys, err := identity.ReadKeys(path); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	before := read(t, dir, "cluster.key")
	r := fairlead(t, dir, "cluster", "key", "generate", "cluster.key")
	if want := "fairlead: cluster.key is there already, and may be in use; it is left as it is\n"; r.code != 1 || r.stderr != want || string(read(t, dir, "cluster.key")) != string(before) {
		t.Errorf("exit status %d: %q, want %q", r.code, r.stderr, want)
	}
	r = fairlead(t, dir, "cluster", "key", "generate")
	if _, err := identity.ParseKey(strings.TrimSpace(r.stdout)); err != nil || r.code != 0 {
		t.Errorf("%q: %v", r.stdout, err)
	}
}

// TestClusterRefusals asserts what is said of command lines and requests that ask
// for what there is not.
func TestClusterRefusals(t *testing.T) {
	socket := serveNode(t, &fixedNode{})
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"status --all --node lb2", 2, "--all is all members, --node is one"},
		{"services --all --node lb2", 2, "--all is all members, --node is one"},
		{"backends --all --node lb2", 2, "--all is all members, --node is one"},
		{"drops --all --node lb2", 2, "--all is all members, --node is one"},
		{"drops --watch --node lb2", 2, "--watch is of the node itself; --all and --node are not for it"},
		{"services web --all", 2, "--all lists services; one is shown of one node, --node"},
		{"services --node lb9", 1, "there is no member \"lb9\"; `fairlead cluster members` lists them"},
		{"neighbors --node lb2", 1, "/v1/neighbors cannot be asked for by way of another node; ask the node itself"},
	} {
		r := fairlead(t, t.TempDir(), append(words(c.args), "--socket", socket)...)
		if said := strings.TrimSpace(strings.TrimPrefix(r.stderr, "fairlead: ")); r.code != c.code || said != c.want {
			t.Errorf("%s: exit status %d, %q, want %d, %q", c.args, r.code, said, c.code, c.want)
		}
	}
	// The other answers of commands whose exit status tells something.
	failing := serveNode(t, &fixedNode{health: api.HealthFailing})
	r := fairlead(t, t.TempDir(), "cluster", "key", "rotate", "--socket", failing)
	if r.code != 1 || !strings.HasPrefix(r.stdout, "the rotation is not at its end, and the keys of before hold; rotate again to go on\n") {
		t.Errorf("exit status %d: %s", r.code, r.stdout)
	}
	r = fairlead(t, t.TempDir(), "__complete", "drain", "--socket", socket, "lb")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "lb1\nlb2\nlb3\n") {
		t.Errorf("%s", r.stdout)
	}
}
