package bgp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Router discovery (RFC 4861) as unnumbered BGP uses it: routers on a link find
// each other's link-local addresses in router advertisements.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134

	// A hop limit of 255 shows that a packet comes from the link itself (RFC
	// 4861, section 6.1.2).
	linkHopLimit = 255

	firstAdvertisements = 3
	firstInterval       = time.Second
	laterInterval       = 10 * time.Second
	leastInterval       = 500 * time.Millisecond // between answers to solicitations
)

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// search finds the router at the other end of a link, and lets it find us.
type search struct {
	cancel context.CancelFunc
}

// startSearch calls found, on a goroutine of its own, with the link-local
// address of the router that last advertised itself on the interface. It goes
// on until it is cancelled: routers are replaced, and interfaces come and go.
func startSearch(ifname string, log *slog.Logger, running *sync.WaitGroup, found func(netip.Addr)) *search {
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() {
		failing := ""
		for ctx.Err() == nil {
			err := searchOnce(ctx, ifname, found)
			if err != nil && ctx.Err() == nil && err.Error() != failing {
				failing = err.Error()
				log.Warn("unnumbered BGP peer cannot be looked for; it is tried again", "interface", ifname, "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(firstInterval):
			}
		}
	})
	return &search{cancel: cancel}
}

// searchOnce searches until the interface fails.
func searchOnce(ctx context.Context, ifname string, found func(netip.Addr)) error {
	l, err := openLink(ifname)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer l.conn.Close()
	defer stop()

	solicit := []byte{typeSolicitation, 0, 0, 0, 0, 0, 0, 0}
	if err := l.send(allRouters, solicit); err != nil {
		return err
	}
	sent, next := 0, time.Now()
	var last time.Time
	for ctx.Err() == nil {
		if now := time.Now(); !now.Before(next) {
			if err := l.advertise(); err != nil {
				return err
			}
			last, next = now, now.Add(laterInterval)
			if sent++; sent < firstAdvertisements {
				next = now.Add(firstInterval)
			}
		}
		kind, from, err := l.receive(next)
		switch {
		case errors.Is(err, unix.EAGAIN) || isTimeout(err):
		case err != nil:
			return err
		case kind == typeAdvertisement:
			found(from.WithZone(ifname))
		case kind == typeSolicitation:
			if soon := last.Add(leastInterval); soon.Before(next) {
				next = soon
			}
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// link is a raw ICMPv6 socket on one interface.
type link struct {
	conn  *net.IPConn
	index int
	name  string
}

func openLink(ifname string) (*link, error) {
	ifc, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	conn, err := net.ListenIP("ip6:ipv6-icmp", &net.IPAddr{IP: net.IPv6unspecified})
	if err != nil {
		return nil, fmt.Errorf("raw ICMPv6 socket: %w", err)
	}
	l := &link{conn: conn, index: ifc.Index, name: ifname}
	if err := l.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("raw ICMPv6 socket on %s: %w", ifname, err), conn.Close())
	}
	return l, nil
}

func (l *link) prepare() error {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	// The kernel's filter has a bit for every type that is not wanted.
	filter := unix.ICMPv6Filter{}
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0)
	}
	for _, t := range []int{typeSolicitation, typeAdvertisement} {
		filter.Data[t/32] &^= 1 << (t % 32)
	}
	member := &unix.IPv6Mreq{Multiaddr: allRouters.As16(), Interface: uint32(l.index)}
	var set error
	err = raw.Control(func(fd uintptr) {
		s := int(fd)
		set = errors.Join(
			unix.BindToDevice(s, l.name),
			unix.SetsockoptICMPv6Filter(s, unix.IPPROTO_ICMPV6, 1, &filter), // ICMP6_FILTER
			unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, linkHopLimit),
			unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0),
			unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
			unix.SetsockoptIPv6Mreq(s, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, member),
		)
	})
	return errors.Join(err, set)
}

func (l *link) send(to netip.Addr, message []byte) error {
	_, err := l.conn.WriteToIP(message, &net.IPAddr{IP: to.AsSlice(), Zone: l.name})
	return err
}

// advertise says that there is a router here that is nobody's default router:
// its lifetime is 0, so that hosts on the link take no route from it.
func (l *link) advertise() error {
	message := make([]byte, 16)
	message[0] = typeAdvertisement
	message[4] = 64 // hop limit that hosts are to use, as they do anyway
	return l.send(allNodes, message)
}

// receive waits for a message until a moment, and for nothing that did not come
// from the link itself.
func (l *link) receive(until time.Time) (kind byte, from netip.Addr, err error) {
	if err := l.conn.SetReadDeadline(until); err != nil {
		return 0, from, err
	}
	message, control := make([]byte, 1500), make([]byte, 128)
	n, c, _, addr, err := l.conn.ReadMsgIP(message, control)
	if err != nil {
		return 0, from, err
	}
	from, _ = netip.AddrFromSlice(addr.IP)
	if n < 8 || !from.IsLinkLocalUnicast() && message[0] == typeAdvertisement || hopLimit(control[:c]) != linkHopLimit {
		return 0, from, nil
	}
	return message[0], from, nil
}

// hopLimit is the hop limit of a received packet; 0 when the kernel did not say.
func hopLimit(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return 0
}
