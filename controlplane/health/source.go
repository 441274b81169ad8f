package health

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// source is the address of this node that a check of an address through the
// tunnel comes from, and that its answer comes to: the one by which the node
// would speak to the backend itself; over the other family, to the address
// that is asked; else one of the interface that leads to the backend.
func (t *tunnel) source(backend, to netip.Addr) (netip.Addr, error) {
	towards := backend
	if backend.Is4() != to.Is4() {
		towards = to
	}
	if a, err := sourceTowards(towards); err == nil && a.Is4() == to.Is4() {
		return a, nil
	}
	if t.nextHop != nil {
		if hop, ok := t.nextHop(backend); ok {
			if a, ok := addressOf(hop.Interface, to.Is4()); ok {
				return a, nil
			}
		}
	}
	return netip.Addr{}, own(errors.New("this node has no address of the VIP's family that answers could come to: give the check a source"))
}

// sourceTowards is the source address that the kernel chooses towards another.
func sourceTowards(to netip.Addr) (netip.Addr, error) {
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(to, 9))); err != nil { // which sends nothing
		return netip.Addr{}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, err
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(n.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(n.Addr), nil
	}
	return netip.Addr{}, unix.EAFNOSUPPORT
}

// addressOf is the first address of a family that an interface has for
// everybody.
func addressOf(index int, is4 bool) (netip.Addr, bool) {
	device, err := net.InterfaceByIndex(index)
	if err != nil {
		return netip.Addr{}, false
	}
	addresses, err := device.Addrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addresses {
		n, is := a.(*net.IPNet)
		if !is {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().Is4() == is4 && ip.IsGlobalUnicast() {
			return ip.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
