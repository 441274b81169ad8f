package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of <linux/ethtool.h>.
type ethtoolValue struct {
	cmd  uint32
	data uint32
}

// ethtoolChannels is struct ethtool_channels of <linux/ethtool.h>.
type ethtoolChannels struct {
	cmd                                         uint32
	maxRX, maxTX, maxOther, maxCombined         uint32
	rxCount, txCount, otherCount, combinedCount uint32
}

// ifreqPointer is struct ifreq of <linux/if.h> with its union used as a pointer.
type ifreqPointer struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// SetTxChecksumOffload says whether the host leaves the checksums of its own
// packets to the (virtual) hardware, which on a veth means: unfinished.
func (i *Interface) SetTxChecksumOffload(on bool) error {
	v := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
	if on {
		v.data = 1
	}
	if err := i.ethtool(unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("host %s: interface %s: tx checksum offload: %w", i.Host.Name, i.Name, err)
	}
	return nil
}

// SetQueues changes how many receive and transmit queues the interface uses,
// at most as many as it was made with.
func (i *Interface) SetQueues(rx, tx int) error {
	c := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	if err := i.ethtool(unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("host %s: interface %s: reading queues: %w", i.Host.Name, i.Name, err)
	}
	c.cmd = unix.ETHTOOL_SCHANNELS
	c.rxCount, c.txCount = uint32(rx), uint32(tx)
	if err := i.ethtool(unsafe.Pointer(&c)); err != nil {
		return fmt.Errorf("host %s: interface %s: %d rx and %d tx queues: %w", i.Host.Name, i.Name, rx, tx, err)
	}
	return nil
}

func (i *Interface) ethtool(arg unsafe.Pointer) error {
	return i.Host.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req := ifreqPointer{data: arg}
		copy(req.name[:unix.IFNAMSIZ-1], i.Name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
