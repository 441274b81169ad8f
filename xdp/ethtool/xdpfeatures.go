package ethtool

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// XDPFeatures are what the driver of an interface can do with XDP, as the
// kernel says since 6.3.
type XDPFeatures struct {
	Native   bool // programs run in the driver
	Redirect bool // frames may be redirected to another interface
	Receive  bool // frames that are redirected to it are sent; a driver's answer may change
	ZeroCopy bool // AF_XDP sockets may share memory with it
	Frags    bool // programs may see frames of several buffers
}

// Of <linux/netdev.h>.
const (
	netdevFamily       = "netdev"
	netdevVersion      = 1
	netdevCmdDevGet    = 1
	netdevAttrIfIndex  = 1
	netdevAttrFeatures = 3

	netdevBasic    = 1 << 0
	netdevRedirect = 1 << 1
	netdevNDOXmit  = 1 << 2
	netdevZeroCopy = 1 << 3
	netdevRxSG     = 1 << 5
)

// genericHeader is struct genlmsghdr.
type genericHeader [4]byte

// Len is the header's length.
func (h genericHeader) Len() int { return len(h) }

// Serialize is the header as it is sent.
func (h genericHeader) Serialize() []byte { return h[:] }

// GetXDPFeatures asks the kernel. An older one that does not say is an error.
func GetXDPFeatures(ifindex int) (XDPFeatures, error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return XDPFeatures{}, fmt.Errorf("netlink family %s: %w", netdevFamily, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genericHeader{netdevCmdDevGet, netdevVersion})
	req.AddData(nl.NewRtAttr(netdevAttrIfIndex, nl.Uint32Attr(uint32(ifindex))))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return XDPFeatures{}, fmt.Errorf("ask for the XDP features of interface %d: %w", ifindex, err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofGenlmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[nl.SizeofGenlmsg:])
		if err != nil {
			return XDPFeatures{}, fmt.Errorf("XDP features of interface %d: %w", ifindex, err)
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevAttrFeatures && len(a.Value) == 8 {
				bits := binary.NativeEndian.Uint64(a.Value)
				return XDPFeatures{
					Native: bits&netdevBasic != 0, Redirect: bits&netdevRedirect != 0, Receive: bits&netdevNDOXmit != 0,
					ZeroCopy: bits&netdevZeroCopy != 0, Frags: bits&netdevRxSG != 0,
				}, nil
			}
		}
	}
	return XDPFeatures{}, fmt.Errorf("interface %d: the kernel does not tell its XDP features", ifindex)
}
