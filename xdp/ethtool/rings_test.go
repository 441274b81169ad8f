package ethtool_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/xdp/ethtool"
)

// TestRings asks interfaces without hardware, and one that is not there.
func TestRings(t *testing.T) {
	inNamespace(t)
	addVeth(t, "et0", "et1", 1)
	_, err := ethtool.GetRings("et0")
	if want := "ethtool: et0: read sizes of rings: operation not supported"; !errors.Is(err, unix.EOPNOTSUPP) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = ethtool.GetRings("nobody")
	if want := "ethtool: nobody: read sizes of rings: no such device"; !errors.Is(err, unix.ENODEV) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
