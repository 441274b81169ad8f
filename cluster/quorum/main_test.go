package quorum

import (
	"fmt"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"fairlead/controlplane/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(i int) model.BackendKey {
	return model.BackendKey{Pool: fmt.Sprintf("pool-%d", i/2), Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 80)}
}
