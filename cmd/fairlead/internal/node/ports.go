package node

import (
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"fairlead/configs"
	"fairlead/xdp/ethtool"
)

// port is one interface that this node drives. Its place in the list is the
// Port that frames carry.
type port struct {
	configs.Interface
	index  int // the kernel's number, 0 while there is no such interface; another when it is made anew
	mac    [6]byte
	mtu    int
	queues int
	up     bool
}

// mtuLimit bounds an interface's MTU: by the configuration, and by what a frame
// holds. Longer packets never reach a worker, so both ends of a connection must
// be kept from agreeing on them.
func mtuLimit(want *configs.Interface, dp *configs.Dataplane) int {
	if want.MTU == 0 {
		return carries(dp)
	}
	return min(want.MTU, carries(dp))
}

// lookPort reads an interface's facts from the kernel; what the configuration
// says stands in front of them.
func lookPort(want configs.Interface, dp *configs.Dataplane) (port, error) {
	p := port{Interface: want}
	link, err := netlink.LinkByName(want.Name)
	if err != nil {
		return p, fmt.Errorf("interface %s: %w", want.Name, err)
	}
	attrs := link.Attrs()
	p.index, p.mtu, p.mac = attrs.Index, min(attrs.MTU, mtuLimit(&want, dp)), want.MAC
	p.up = attrs.Flags&net.FlagUp != 0
	if p.mac == ([6]byte{}) {
		if len(attrs.HardwareAddr) != 6 {
			return p, fmt.Errorf("interface %s has no Ethernet address; Fairlead needs Ethernet interfaces", want.Name)
		}
		copy(p.mac[:], attrs.HardwareAddr)
	}
	channels, err := ethtool.GetChannels(want.Name)
	have := channels.RX
	if err != nil {
		return p, fmt.Errorf("interface %s: count its queues: %w", want.Name, err)
	}
	// Every queue the interface spreads packets over needs a socket, or what
	// arrives there meets the fail action. Fewer are used only on request.
	p.queues = have
	switch {
	case want.Queues > have:
		return p, fmt.Errorf("interface %s has %d queues, the configuration wants %d: change it with `ethtool -L %s combined %d`", want.Name, have, want.Queues, want.Name, want.Queues)
	case want.Queues > 0:
		p.queues = want.Queues
	case dp.Queues > 0:
		p.queues = min(have, dp.Queues)
	}
	return p, nil
}

// workersFor is how many workers drive these ports: one for each queue number
// that every port has. A port's further queues go to the workers in turn; one
// that is gone has none. It is 0 when all are gone.
func workersFor(ports []port) int {
	n := 0
	for _, p := range ports {
		if p.queues > 0 && (n == 0 || p.queues < n) {
			n = p.queues
		}
	}
	return n
}

// same reports whether sockets that were opened for one list of ports are right
// for another.
func same(a, b []port) bool {
	return slices.EqualFunc(a, b, func(a, b port) bool { return a.index == b.index && a.queues == b.queues })
}

// queueOf is one queue of one port.
type queueOf struct {
	port  int
	queue int
}

// queuesOf lists the queues of worker w out of n.
func queuesOf(ports []port, w, n int) []queueOf {
	var list []queueOf
	for i, p := range ports {
		for q := w; q < p.queues; q += n {
			list = append(list, queueOf{i, q})
		}
	}
	return list
}
