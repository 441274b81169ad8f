package rig

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// ICMP and ICMPv6 types (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// pingAgain is how long an echo reply may take before another request is sent.
const pingAgain = 250 * time.Millisecond

// Ping sends echo requests from a host to an address until one is answered
// with the same bytes, or ctx is done.
func Ping(ctx context.Context, h *lab.Host, to netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := h.Dial(ctx, network, to.String())
	if err != nil {
		return fmt.Errorf("ping %s: %w", to, err)
	}
	defer c.Close()
	conn := c.(*net.IPConn)
	message := echo(request, uint16(os.Getpid()))
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		// While a link is down sending fails, and may succeed later.
		_, _ = conn.Write(message)
		if err := conn.SetReadDeadline(time.Now().Add(pingAgain)); err != nil {
			return err
		}
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				break
			}
			if n == len(message) && buf[0] == reply && bytes.Equal(buf[4:n], message[4:]) {
				return nil
			}
		}
	}
	return fmt.Errorf("ping %s from %s: no answer: %w", to, h.Name, context.Cause(ctx))
}

// echo is an ICMP echo message. The kernel makes ICMPv6 checksums itself.
func echo(typ byte, id uint16) []byte {
	m := make([]byte, 64)
	m[0] = typ
	binary.BigEndian.PutUint16(m[4:], id)
	for i := 8; i < len(m); i++ {
		m[i] = byte(i)
	}
	var sum uint32
	for i := 0; i < len(m); i += 2 {
		sum += uint32(m[i])<<8 | uint32(m[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	return m
}

// NeighborMAC is the Ethernet address under which a host knows another.
func NeighborMAC(n *lab.Node, addr netip.Addr) (string, error) {
	all, err := n.Netlink().NeighList(n.Interface.Index, family(addr))
	if err != nil {
		return "", fmt.Errorf("neighbours of %s: %w", n.Name, err)
	}
	for _, one := range all {
		if one.IP.Equal(addr.AsSlice()) && len(one.HardwareAddr) > 0 {
			return one.HardwareAddr.String(), nil
		}
	}
	return "", fmt.Errorf("%s knows no neighbour %s", n.Name, addr)
}

// ForgetNeighbors has a host ask for all its neighbours again.
func ForgetNeighbors(n *lab.Node) error {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := n.Netlink().NeighList(n.Interface.Index, f)
		if err != nil {
			return fmt.Errorf("neighbours of %s: %w", n.Name, err)
		}
		for i := range all {
			if all[i].State&unix.NUD_NOARP != 0 {
				continue // multicast: not asked for
			}
			if err := n.Netlink().NeighDel(&all[i]); err != nil {
				return fmt.Errorf("neighbour %s of %s: %w", all[i].IP, n.Name, err)
			}
		}
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
