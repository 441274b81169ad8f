package node

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// hearMulticast has the interfaces receive all multicast frames for as long as
// the returned descriptor is open: who looks for an IPv6 VIP asks the VIP's
// solicited-node group (RFC 4291 section 2.7.1), which the host itself has not
// joined, so a NIC would filter it out. The socket receives nothing.
func hearMulticast(ports []port) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("receive multicast: open packet socket: %w", err)
	}
	for i := range ports {
		if ports[i].index == 0 {
			continue
		}
		request := unix.PacketMreq{Ifindex: int32(ports[i].index), Type: unix.PACKET_MR_ALLMULTI}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &request); err != nil {
			return -1, errors.Join(fmt.Errorf("receive multicast on %s: %w", ports[i].Name, err), unix.Close(fd))
		}
	}
	return fd, nil
}
