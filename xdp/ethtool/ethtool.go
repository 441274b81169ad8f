// Package ethtool asks and tells a network interface what AF_XDP has to know:
// its driver, its queues, its MTU, and the offloads that stand between a frame
// on the wire and a frame in a ring. Interfaces are named within the network
// namespace of the calling thread.
package ethtool

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Channels are the queues of an interface.
type Channels struct {
	RX, TX int // in use: combined ones count for both

	// Combined is how many of them are combined, and the maxima are what
	// SetChannels may ask for; all 0 where the driver does not say.
	Combined                  int
	MaxRX, MaxTX, MaxCombined int
}

// ethtoolChannels is struct ethtool_channels.
type ethtoolChannels struct {
	cmd                                         uint32
	maxRX, maxTX, maxOther, maxCombined         uint32
	rxCount, txCount, otherCount, combinedCount uint32
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// Flags of ETHTOOL_GFLAGS (enum ethtool_flags).
const (
	flagTXVLAN = 1 << 7
	flagRXVLAN = 1 << 8
	flagLRO    = 1 << 15
)

// GetChannels tells how many queues the interface has. Where the driver does
// not say, it is the number the interface was made with.
func GetChannels(ifname string) (Channels, error) {
	c := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	err := do(ifname, unsafe.Pointer(&c))
	if errors.Is(err, unix.EOPNOTSUPP) {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return Channels{}, fmt.Errorf("ethtool: %s: read number of queues: %w", ifname, err)
		}
		return Channels{RX: link.Attrs().NumRxQueues, TX: link.Attrs().NumTxQueues}, nil
	}
	if err != nil {
		return Channels{}, fmt.Errorf("ethtool: %s: read number of queues: %w", ifname, err)
	}
	return Channels{
		RX:       int(c.rxCount + c.combinedCount),
		TX:       int(c.txCount + c.combinedCount),
		Combined: int(c.combinedCount),
		MaxRX:    int(c.maxRX), MaxTX: int(c.maxTX), MaxCombined: int(c.maxCombined),
	}, nil
}

// SetChannels sets the number of queues of an interface with separate ones
// for receiving and sending, such as veth. It needs CAP_NET_ADMIN.
func SetChannels(ifname string, rx, tx int) error {
	c := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	err := do(ifname, unsafe.Pointer(&c))
	if err == nil {
		c.cmd, c.rxCount, c.txCount = unix.ETHTOOL_SCHANNELS, uint32(rx), uint32(tx)
		err = do(ifname, unsafe.Pointer(&c))
	}
	if err != nil {
		return fmt.Errorf("ethtool: %s: set number of queues to %d rx, %d tx: %w", ifname, rx, tx, err)
	}
	return nil
}

// Driver identifies an interface's driver.
type Driver struct {
	Name     string // as in "ixgbe", "veth"
	Version  string
	Firmware string
	Bus      string // such as a PCI address; empty for virtual interfaces
}

// GetDriver tells which driver the interface has.
func GetDriver(ifname string) (Driver, error) {
	fd, err := socket()
	if err != nil {
		return Driver{}, err
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, ifname)
	if err != nil {
		return Driver{}, fmt.Errorf("ethtool: %s: read driver: %w", ifname, err)
	}
	return Driver{
		Name:     unix.ByteSliceToString(info.Driver[:]),
		Version:  unix.ByteSliceToString(info.Version[:]),
		Firmware: unix.ByteSliceToString(info.Fw_version[:]),
		Bus:      unix.ByteSliceToString(info.Bus_info[:]),
	}, nil
}

// MTU is the interface's MTU: the longest packet, without the Ethernet header.
func MTU(ifname string) (int, error) {
	fd, err := socket()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(ifname)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("ethtool: %s: read MTU: %w", ifname, err)
	}
	return int(ifr.Uint32()), nil
}

// TxChecksumOffload reports whether the host's stack leaves checksums to be
// finished by the interface. On a veth that means that frames arrive at the
// peer with the pseudo-header's sum only.
func TxChecksumOffload(ifname string) (bool, error) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM}
	if err := do(ifname, unsafe.Pointer(&v)); err != nil {
		return false, fmt.Errorf("ethtool: %s: read transmit checksum offload: %w", ifname, err)
	}
	return v.data != 0, nil
}

// SetTxChecksumOffload switches transmit checksum offload, and with it
// segmentation offload, which depends on it. It needs CAP_NET_ADMIN.
func SetTxChecksumOffload(ifname string, on bool) error {
	v := ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}
	if on {
		v.data = 1
	}
	if err := do(ifname, unsafe.Pointer(&v)); err != nil {
		return fmt.Errorf("ethtool: %s: switch transmit checksum offload: %w", ifname, err)
	}
	return nil
}

// Offloads are those that change what a received frame looks like.
type Offloads struct {
	RxVLAN bool // VLAN tags are taken off before an XDP program sees the frame
	TxVLAN bool
	LRO    bool // received TCP segments are merged
}

// GetOffloads tells which of them are on.
func GetOffloads(ifname string) (Offloads, error) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GFLAGS}
	if err := do(ifname, unsafe.Pointer(&v)); err != nil {
		return Offloads{}, fmt.Errorf("ethtool: %s: read offloads: %w", ifname, err)
	}
	return Offloads{RxVLAN: v.data&flagRXVLAN != 0, TxVLAN: v.data&flagTXVLAN != 0, LRO: v.data&flagLRO != 0}, nil
}

// SetOffloads switches them. It needs CAP_NET_ADMIN; what a driver has fixed
// is an error.
func SetOffloads(ifname string, o Offloads) error {
	v := ethtoolValue{cmd: unix.ETHTOOL_GFLAGS}
	err := do(ifname, unsafe.Pointer(&v))
	if err == nil {
		v.cmd = unix.ETHTOOL_SFLAGS
		v.data &^= flagRXVLAN | flagTXVLAN | flagLRO
		for _, f := range []struct {
			on  bool
			bit uint32
		}{{o.RxVLAN, flagRXVLAN}, {o.TxVLAN, flagTXVLAN}, {o.LRO, flagLRO}} {
			if f.on {
				v.data |= f.bit
			}
		}
		err = do(ifname, unsafe.Pointer(&v))
	}
	if err != nil {
		return fmt.Errorf("ethtool: %s: switch offloads: %w", ifname, err)
	}
	return nil
}

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("ethtool: open socket: %w", err)
	}
	return fd, nil
}

// do runs the ethtool command that data, one of its structs, begins with.
func do(ifname string, data unsafe.Pointer) error {
	fd, err := socket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// struct ifreq: the name, then a union of which the pointer is used.
	var ifr struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	if ifname == "" || len(ifname) >= len(ifr.name) {
		return unix.ENODEV
	}
	copy(ifr.name[:], ifname)
	ifr.data = data
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); e != 0 {
		return e
	}
	return nil
}
