package identity

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixedKey is a cluster key that is always the same.
const fixedKey = "q0D3H5rYw1m7VdS2bXcE9fJkLpQzTgU4aNhR8iOvZyM="

const whatAKeyIs = "a cluster key is 32 random bytes in base64, 44 characters, as `fairlead cluster key generate` makes them"

func put(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReadKeys(t *testing.T) {
	other := Generate()
	keys, err := ReadKeys(put(t, "# of the cluster in Ulm\n"+fixedKey+"\r\n\n"+other.String()+"\n", 0o400))
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0].String() != fixedKey || keys[1] != other {
		t.Fatalf("got %v", keys)
	}
}

func TestBadKeys(t *testing.T) {
	whole := Generate()
	short := base64.StdEncoding.EncodeToString(whole.secret[:16])
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"passphrase", "correct horse battery staple\n", 0o600, "FILE:1: not base64: " + whatAKeyIs + "; passphrases are not taken"},
		{"passphrase in base64", "# key\n" + base64.StdEncoding.EncodeToString([]byte("correct horse battery staple !!!")), 0o600, "FILE:2: not random: " + whatAKeyIs + "; passphrases are not taken"},
		{"zeros", base64.StdEncoding.EncodeToString(make([]byte, 32)), 0o600, "FILE:1: not random: " + whatAKeyIs + "; passphrases are not taken"},
		{"a pattern", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 8)), 0o600, "FILE:1: not random: " + whatAKeyIs + "; passphrases are not taken"},
		{"16 bytes", short, 0o600, "FILE:1: 16 bytes: " + whatAKeyIs},
		{"bits too many", fixedKey[:42] + "N=", 0o600, "FILE:1: not base64: " + whatAKeyIs + "; passphrases are not taken"},
		{"empty", "\n# nothing\n", 0o600, "FILE: no key: " + whatAKeyIs},
		{"five", strings.Repeat(fixedKey+"\n", 5), 0o600, "FILE:5: more than 4 keys"},
		{"readable by all", fixedKey, 0o644, "FILE: others than its owner may use it (mode 0644): chmod 600 it, and consider whether it is still a secret"},
		{"readable by the group", fixedKey, 0o640, "FILE: others than its owner may use it (mode 0640): chmod 600 it, and consider whether it is still a secret"},
		{"too long", strings.Repeat("#", 5000), 0o600, "FILE: too long: more than 4096 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := put(t, c.text, c.mode)
			_, err := ReadKeys(file)
			if want := "cluster key: " + strings.ReplaceAll(c.want, "FILE", file); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	dir := t.TempDir()
	if _, err := ReadKeys(dir); err == nil || err.Error() != "cluster key: "+dir+": not a regular file" {
		t.Errorf("a directory: %v", err)
	}
}

// TestDerived says that what is derived never changes: nodes of different
// versions of the software would be strangers to each other.
func TestDerived(t *testing.T) {
	k, err := ParseKey(fixedKey)
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(k.GossipKey()); got != "ySaXrYl8Ggep8cA1caPtz1H4X34EM0e71ub5YvchHfw=" {
		t.Errorf("gossip key %s", got)
	}
	a, err := newAuthority(k.admissionKey())
	if err != nil {
		t.Fatal(err)
	}
	if got := Fingerprint(a.key); got != "a99f6d162138e609" {
		t.Errorf("authority %s", got)
	}
	b, err := newAuthority(k.admissionKey())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.cert.Raw, b.cert.Raw) {
		t.Error("the authority's certificate is another one each time")
	}
}
