package ethtool

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FlowType is a kind of packet that an interface spreads over its queues by
// fields of its own.
type FlowType uint32

// The flow types (enum in <linux/ethtool.h>).
const (
	TCP4 FlowType = 0x01
	UDP4 FlowType = 0x02
	TCP6 FlowType = 0x05
	UDP6 FlowType = 0x06
)

// Bits of the fields that are hashed.
const (
	hashSource      = 1 << 4
	hashDestination = 1 << 5
	hashPorts       = 1<<6 | 1<<7 // the first four bytes behind the IP header
)

// Hash is what an interface spreads packets by.
type Hash struct {
	Addresses bool // both
	Ports     bool // both
}

// ethtoolRxnfc is struct ethtool_rxnfc.
type ethtoolRxnfc struct {
	cmd, flowType uint32
	data          uint64
	fs            [168]byte // struct ethtool_rx_flow_spec
	rules         uint32
	_             [4]byte
}

// GetHash tells what an interface spreads packets of a type by. Interfaces that
// have no receive-side scaling answer unix.EOPNOTSUPP.
func GetHash(ifname string, of FlowType) (Hash, error) {
	c := ethtoolRxnfc{cmd: unix.ETHTOOL_GRXFH, flowType: uint32(of)}
	if err := do(ifname, unsafe.Pointer(&c)); err != nil {
		return Hash{}, fmt.Errorf("ethtool: %s: read what packets are spread by: %w", ifname, err)
	}
	return hashOf(c.data), nil
}

func hashOf(data uint64) Hash {
	const addresses = hashSource | hashDestination
	return Hash{Addresses: data&addresses == addresses, Ports: data&hashPorts == hashPorts}
}

// maxIndirection is the longest table that is read.
const maxIndirection = 4096

// ethtoolRxfhIndir is struct ethtool_rxfh_indir.
type ethtoolRxfhIndir struct {
	cmd, size uint32
	table     [maxIndirection]uint32
}

// Indirection tells which queue each slot of the interface's hash leads to.
// Interfaces that have no receive-side scaling answer unix.EOPNOTSUPP.
func Indirection(ifname string) ([]uint32, error) {
	c := ethtoolRxfhIndir{cmd: unix.ETHTOOL_GRXFHINDIR}
	err := do(ifname, unsafe.Pointer(&c)) // without room: how long it is
	if err == nil && c.size > maxIndirection {
		err = fmt.Errorf("%d slots, at most %d are expected", c.size, maxIndirection)
	}
	if err == nil {
		c.cmd = unix.ETHTOOL_GRXFHINDIR
		err = do(ifname, unsafe.Pointer(&c))
	}
	if err != nil {
		return nil, fmt.Errorf("ethtool: %s: read how queues are shared out: %w", ifname, err)
	}
	return c.table[:min(c.size, maxIndirection)], nil
}
