package neighbor

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// What golang.org/x/sys/unix has no name for, from <linux/neighbour.h> and
// <linux/rtnetlink.h>.
const (
	ndaProtocol    = 12     // NDA_PROTOCOL
	ndaFlagsExt    = 15     // NDA_FLAGS_EXT
	extManaged     = 1      // NTF_EXT_MANAGED: the kernel keeps the entry resolved
	skipStatistics = 1 << 3 // RTEXT_FILTER_SKIP_STATS
)

// ourProtocol marks the neighbour entries that are managed for us, so that
// those which a killed process has left are found.
const ourProtocol = 0xfa

// States of a neighbour entry.
const (
	fixedStates  = unix.NUD_PERMANENT | unix.NUD_NOARP // set by hand, or in no need of resolution
	usableStates = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | fixedStates
)

// link is an interface of the host.
type link struct {
	index    int
	name     string
	alt      []string // further names
	mac      [6]byte
	ethernet bool // mac is an Ethernet address
	mtu      int
	flags    uint32 // IFF_...
}

// called reports whether the interface has a name.
func (l *link) called(name string) bool { return l.name == name || slices.Contains(l.alt, name) }

// parseLink reads an RTM_NEWLINK or RTM_DELLINK. Those that speak of a
// bridge's ports (family AF_BRIDGE) say nothing of the interface itself and
// are refused.
func parseLink(body []byte) (l link, ok bool) {
	if len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return l, false
	}
	l.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	l.flags = binary.NativeEndian.Uint32(body[8:])
	for kind, v := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(v)
		case unix.IFLA_ADDRESS:
			l.ethernet = len(v) == len(l.mac)
			copy(l.mac[:], v)
		case unix.IFLA_MTU:
			if len(v) == 4 {
				l.mtu = int(binary.NativeEndian.Uint32(v))
			}
		case unix.IFLA_PROP_LIST:
			for kind, v := range attributes(v) {
				if kind == unix.IFLA_ALT_IFNAME {
					l.alt = append(l.alt, unix.ByteSliceToString(v))
				}
			}
		}
	}
	return l, true
}

// putLinks asks for all interfaces.
func putLinks(e *encoder) {
	var fixed [unix.SizeofIfInfomsg]byte
	e.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP, fixed[:]...)
	e.attribute32(unix.IFLA_EXT_MASK, skipStatistics)
}

// entry is one entry of the kernel's neighbour tables.
type entry struct {
	index    int
	addr     netip.Addr
	mac      [6]byte
	ethernet bool // mac is an Ethernet address
	state    uint16
	managed  bool
	protocol uint8
}

// usable reports whether the kernel itself would send to the entry's MAC.
func (n *entry) usable() bool {
	return n.state&usableStates != 0 && n.ethernet && n.mac != [6]byte{}
}

// parseEntry reads an RTM_NEWNEIGH or RTM_DELNEIGH of an IP neighbour.
func parseEntry(body []byte) (n entry, ok bool) {
	if len(body) < unix.SizeofNdMsg || body[0] != unix.AF_INET && body[0] != unix.AF_INET6 || body[10]&unix.NTF_PROXY != 0 {
		return n, false
	}
	n.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	n.state = binary.NativeEndian.Uint16(body[8:])
	for kind, v := range attributes(body[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_DST:
			n.addr, ok = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			n.ethernet = len(v) == len(n.mac)
			copy(n.mac[:], v)
		case ndaFlagsExt:
			n.managed = len(v) == 4 && binary.NativeEndian.Uint32(v)&extManaged != 0
		case ndaProtocol:
			if len(v) == 1 {
				n.protocol = v[0]
			}
		}
	}
	return n, ok
}

func ndmsg(index int, family uint8, flags uint8) []byte {
	fixed := make([]byte, unix.SizeofNdMsg)
	fixed[0] = family
	binary.NativeEndian.PutUint32(fixed[4:], uint32(index))
	fixed[10] = flags
	return fixed
}

// putEntries asks for all neighbours of both families.
func putEntries(e *encoder) {
	e.begin(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, ndmsg(0, unix.AF_UNSPEC, 0)...)
}

// putEntry asks for one neighbour.
func putEntry(e *encoder, index int, a netip.Addr) {
	e.begin(unix.RTM_GETNEIGH, 0, ndmsg(index, family(a), 0)...)
	e.attribute(unix.NDA_DST, a.AsSlice()...)
}

// putManage has the kernel resolve a neighbour now, and keep it resolved
// (Linux 5.16; earlier ones resolve it this once). Such entries do not count
// among those that the table's size limits and are not collected.
//
// It must not be used on a permanent entry, which it would unmake.
func putManage(e *encoder, index int, a netip.Addr) {
	e.begin(unix.RTM_NEWNEIGH, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		ndmsg(index, family(a), unix.NTF_USE|unix.NTF_EXT_LEARNED)...)
	e.attribute(unix.NDA_DST, a.AsSlice()...)
	e.attribute(ndaProtocol, ourProtocol)
	e.attribute32(ndaFlagsExt, extManaged)
}

// putProbe has the kernel ask a neighbour that it believes to be there at once
// whether it is. Its address stays in use until it is known not to answer, after
// three questions a second apart. The kernel leaves the state of a managed entry
// alone, so this makes it one that is not: putManage must come right after it.
func putProbe(e *encoder, index int, a netip.Addr) {
	fixed := ndmsg(index, family(a), unix.NTF_EXT_LEARNED)
	binary.NativeEndian.PutUint16(fixed[8:], unix.NUD_PROBE)
	e.begin(unix.RTM_NEWNEIGH, unix.NLM_F_ACK|unix.NLM_F_REPLACE, fixed...)
	e.attribute(unix.NDA_DST, a.AsSlice()...)
	e.attribute(ndaProtocol, ourProtocol)
}

// putRelease leaves a neighbour to the kernel again, which forgets it when
// nobody uses it.
func putRelease(e *encoder, index int, a netip.Addr) {
	e.begin(unix.RTM_NEWNEIGH, unix.NLM_F_ACK|unix.NLM_F_REPLACE, ndmsg(index, family(a), unix.NTF_USE)...)
	e.attribute(unix.NDA_DST, a.AsSlice()...)
	e.attribute(ndaProtocol, unix.RTPROT_KERNEL)
}

// downFlags say of a way that its interface carries nothing.
const downFlags = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN

// route is the kernel's answer to the question where packets to an address go.
type route struct {
	err   error // there is none
	kind  uint8 // RTN_...
	paths []path
}

// path is one way of a route.
type path struct {
	index  int
	via    netip.Addr // the zero Addr: the destination is on the link
	weight int        // against the other ways of the route, from 1
	down   bool       // its interface carries nothing at the moment
}

// putLookup asks for the entry of the routing tables that is used for an
// address, with all of its ways; given an interface (index not 0), for the one
// that leads out of it. It is the entry that is asked for (FIB match) and not
// what the kernel would make of it: that is one way of several, and with an
// interface any address on its link.
func putLookup(e *encoder, a netip.Addr, index int) {
	fixed := make([]byte, unix.SizeofRtMsg)
	fixed[0], fixed[1] = family(a), uint8(a.BitLen())
	binary.NativeEndian.PutUint32(fixed[8:], unix.RTM_F_LOOKUP_TABLE|unix.RTM_F_FIB_MATCH)
	e.begin(unix.RTM_GETROUTE, 0, fixed...)
	e.attribute(unix.RTA_DST, a.AsSlice()...)
	if index != 0 {
		e.attribute32(unix.RTA_OIF, uint32(index))
	}
}

// parseRoute reads the answer to putLookup.
func parseRoute(m *message) (r route) {
	if r.err = m.err(); r.err != nil {
		return r
	}
	if m.kind != unix.RTM_NEWROUTE || len(m.body) < unix.SizeofRtMsg {
		r.err = unix.EPROTO
		return r
	}
	r.kind = m.body[7]
	single := path{weight: 1, down: binary.NativeEndian.Uint32(m.body[8:])&downFlags != 0}
	for kind, v := range attributes(m.body[unix.SizeofRtMsg:]) {
		if kind == unix.RTA_MULTIPATH {
			r.paths = appendPaths(r.paths, v)
			continue
		}
		single.attribute(kind, v)
	}
	if single.index != 0 {
		r.paths = append(r.paths, single)
	}
	return r
}

func (p *path) attribute(kind uint16, v []byte) {
	switch kind {
	case unix.RTA_OIF:
		if len(v) == 4 {
			p.index = int(int32(binary.NativeEndian.Uint32(v)))
		}
	case unix.RTA_GATEWAY:
		p.via, _ = netip.AddrFromSlice(v)
	case unix.RTA_VIA: // a gateway of another family (RFC 5549): family, address
		if len(v) > 2 {
			p.via, _ = netip.AddrFromSlice(v[2:])
		}
	}
}

// appendPaths reads the list of struct rtnexthop of a multipath route.
func appendPaths(paths []path, b []byte) []path {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		p := path{index: int(int32(binary.NativeEndian.Uint32(b[4:]))), weight: int(b[3]) + 1, down: b[2]&downFlags != 0}
		for kind, v := range attributes(b[unix.SizeofRtNexthop:size]) {
			p.attribute(kind, v)
		}
		paths = append(paths, p)
		b = b[min(align(size), len(b)):]
	}
	return paths
}

// parsePrefix reads which destinations an RTM_NEWROUTE or RTM_DELROUTE is
// about.
func parsePrefix(body []byte) (p netip.Prefix, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return p, false
	}
	var dst netip.Addr
	switch body[0] {
	case unix.AF_INET:
		dst = netip.IPv4Unspecified()
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return p, false // of multicast, MPLS and the like
	}
	for kind, v := range attributes(body[unix.SizeofRtMsg:]) {
		if kind == unix.RTA_DST {
			if a, ok := netip.AddrFromSlice(v); ok {
				dst = a
			}
		}
	}
	p, err := dst.Prefix(int(body[1]))
	return p, err == nil
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
