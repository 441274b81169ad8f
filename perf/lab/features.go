package lab

import (
	"bytes"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes and numbers of <linux/ethtool.h>.
const (
	ethSSFeatures = 4    // the set of strings that names a device's features
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

// ethtoolSFeatures is struct ethtool_sfeatures.
type ethtoolSFeatures struct {
	cmd, size uint32
	blocks    [maxFeatures / 32]struct{ valid, requested uint32 }
}

// SetFeatures switches features of the device, by the names that ethtool -k
// shows in detail, for example "tx-vlan-hw-insert".
func (i *Interface) SetFeatures(on bool, names ...string) error {
	known, err := i.features()
	if err != nil {
		return fmt.Errorf("host %s: interface %s: features: %w", i.Host.Name, i.Name, err)
	}
	set := ethtoolSFeatures{cmd: unix.ETHTOOL_SFEATURES, size: uint32(len(known)+31) / 32}
	for _, name := range names {
		bit := slices.Index(known, name)
		if bit < 0 {
			return fmt.Errorf("host %s: interface %s: the kernel knows no feature %q", i.Host.Name, i.Name, name)
		}
		set.blocks[bit/32].valid |= 1 << (bit % 32)
		if on {
			set.blocks[bit/32].requested |= 1 << (bit % 32)
		}
	}
	if err := i.ethtool(unsafe.Pointer(&set)); err != nil {
		return fmt.Errorf("host %s: interface %s: features %q: %w", i.Host.Name, i.Name, names, err)
	}
	return nil
}

// features are the names of all features, in the order of their bits.
func (i *Interface) features() ([]string, error) {
	info := ethtoolSSetInfo{cmd: unix.ETHTOOL_GSSET_INFO, mask: 1 << ethSSFeatures}
	if err := i.ethtool(unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	if info.mask == 0 || info.length > maxFeatures {
		return nil, fmt.Errorf("the kernel names %d, at most %d are expected", info.length, maxFeatures)
	}
	strings := ethtoolGStrings{cmd: unix.ETHTOOL_GSTRINGS, set: ethSSFeatures, length: info.length}
	if err := i.ethtool(unsafe.Pointer(&strings)); err != nil {
		return nil, err
	}
	names := make([]string, info.length)
	for n := range names {
		name, _, _ := bytes.Cut(strings.names[n][:], []byte{0})
		names[n] = string(name)
	}
	return names, nil
}
