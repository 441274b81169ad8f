package ethtool

import (
	"bytes"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of <linux/ethtool.h>.
const (
	ethSSFeatures = 4    // the set of strings that names the features
	ethGStringLen = 32   // bytes of one name
	maxFeatures   = 1024 // more than any kernel has
)

// ethtoolSSetInfo is struct ethtool_sset_info for one set.
type ethtoolSSetInfo struct {
	cmd, _ uint32
	mask   uint64
	length uint32
}

// ethtoolGStrings is struct ethtool_gstrings.
type ethtoolGStrings struct {
	cmd, set, length uint32
	names            [maxFeatures][ethGStringLen]byte
}

// ethtoolGFeatures is struct ethtool_gfeatures.
type ethtoolGFeatures struct {
	cmd, size uint32
	blocks    [maxFeatures / 32]struct{ available, requested, active, neverChanged uint32 }
}

// Features tells which of an interface's features are on, by the names that
// `ethtool -k` has in its longer lists, such as "rx-gro-hw".
func Features(ifname string) (map[string]bool, error) {
	fail := func(err error) (map[string]bool, error) {
		return nil, fmt.Errorf("ethtool: %s: read features: %w", ifname, err)
	}
	info := ethtoolSSetInfo{cmd: unix.ETHTOOL_GSSET_INFO, mask: 1 << ethSSFeatures}
	if err := do(ifname, unsafe.Pointer(&info)); err != nil {
		return fail(err)
	}
	if info.mask == 0 || info.length > maxFeatures {
		return fail(fmt.Errorf("the kernel names %d, at most %d are expected", info.length, maxFeatures))
	}
	names := ethtoolGStrings{cmd: unix.ETHTOOL_GSTRINGS, set: ethSSFeatures, length: info.length}
	if err := do(ifname, unsafe.Pointer(&names)); err != nil {
		return fail(err)
	}
	values := ethtoolGFeatures{cmd: unix.ETHTOOL_GFEATURES, size: (info.length + 31) / 32}
	if err := do(ifname, unsafe.Pointer(&values)); err != nil {
		return fail(err)
	}
	on := make(map[string]bool, info.length)
	for i := range info.length {
		name, _, _ := bytes.Cut(names.names[i][:], []byte{0})
		if len(name) > 0 {
			on[string(name)] = values.blocks[i/32].active>>(i%32)&1 != 0
		}
	}
	return on, nil
}
