package preflight

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead/configs"
	"fairlead/controlplane/model"
)

func TestPasswordsOfBGP(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	peer := func(last byte, path string) model.BGPPeer {
		return model.BGPPeer{Address: netip.AddrFrom4([4]byte{198, 18, 0, last}), PasswordFile: path}
	}
	cfg := configs.Default()
	cfg.BGP.Peers = []model.BGPPeer{
		peer(1, file("good", "secret\n")), peer(2, ""), peer(3, filepath.Join(dir, "none")), peer(4, file("empty", "\n")),
		peer(5, file("two", "a\nb\n")), peer(6, file("long", strings.Repeat("x", 81))), peer(7, dir),
	}
	c := &checker{cfg: cfg}
	c.bgp()
	var got []string
	for _, f := range c.found {
		got = append(got, f.Level.String()+" "+f.String())
	}
	want := []string{
		"error [[bgp.peer]] 198.18.0.3: password file " + dir + "/none: no such file or directory",
		"error [[bgp.peer]] 198.18.0.4: password file " + dir + "/empty: it is empty",
		"error [[bgp.peer]] 198.18.0.5: password file " + dir + "/two: it has more than one line",
		"error [[bgp.peer]] 198.18.0.6: password file " + dir + "/long: the password has 81 bytes, and the kernel takes 80",
		"error [[bgp.peer]] 198.18.0.7: password file " + dir + ": is a directory",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
