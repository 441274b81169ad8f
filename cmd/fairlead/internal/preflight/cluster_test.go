package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead/cluster/identity"
)

// TestClusterKey asserts what is said of the cluster key, and of names.
func TestClusterKey(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "cluster.key")
	look := func(name string) []Finding {
		c := &checker{cfg: parse(t, fmt.Sprintf("[node]\nname = %q\n[state]\ndirectory = %q\n[cluster]\nkey_file = %q\n", "lb1", dir, key))}
		c.cfg.Node.Name = name
		c.cluster()
		return c.found
	}
	compare(t, look("lb1"), "error: [cluster]: cluster key: open "+key+": no such file or directory")
	put := func(file, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	put(key, identity.Generate().String(), 0o600)
	compare(t, look("lb1"))
	compare(t, look("host name"), `error: [cluster]: node name "host name": a name has letters, digits, '.', '-' and '_', and begins with a letter or a digit: set [node] name`)
	put(key, identity.Generate().String(), 0o644)
	compare(t, look("lb1"), "error: [cluster]: cluster key: "+key+": others than its owner may use it (mode 0644): chmod 600 it, and consider whether it is still a secret")
	put(key, "correct horse battery staple", 0o600)
	if found := look("lb1"); len(found) != 1 || !strings.Contains(found[0].Text, "passphrases are not taken") {
		t.Errorf("a passphrase: %v", found)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(dir, "cluster", "node.pem"), "", 0o600)
	compare(t, look("lb1"), "warning: [cluster]: cluster key: open "+key+": no such file or directory: the node goes on with the credential that it has")
	c := &checker{cfg: parse(t, "")}
	c.cluster()
	compare(t, c.found)
}
