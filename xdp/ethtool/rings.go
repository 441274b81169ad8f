package ethtool

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rings are the sizes of an interface's own descriptor rings, in frames a queue.
type Rings struct {
	RX, TX       int
	MaxRX, MaxTX int
}

// ethtoolRingparam is struct ethtool_ringparam.
type ethtoolRingparam struct {
	cmd, rxMax, rxMiniMax, rxJumboMax, txMax uint32
	rx, rxMini, rxJumbo, tx                  uint32
}

// GetRings tells the sizes of the interface's rings. Interfaces without
// hardware have none (unix.EOPNOTSUPP).
func GetRings(ifname string) (Rings, error) {
	p := ethtoolRingparam{cmd: unix.ETHTOOL_GRINGPARAM}
	if err := do(ifname, unsafe.Pointer(&p)); err != nil {
		return Rings{}, fmt.Errorf("ethtool: %s: read sizes of rings: %w", ifname, err)
	}
	return Rings{RX: int(p.rx), TX: int(p.tx), MaxRX: int(p.rxMax), MaxTX: int(p.txMax)}, nil
}
