package health

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// How marked packets find the device. The mark is compared as a whole, and
// consists of bits that others do not use with masks: not those of Kubernetes,
// Calico, Cilium or Tailscale.
const (
	fwMark       = 0xfa
	routeTable   = 17985
	rulePriority = 77 // before the main table, after the local one

	devicePattern = "fl-check%d"
	// deviceMTU leaves room for the outer headers on every path that carries
	// IPv6. It is the smallest MTU of IPv6 itself (RFC 8200 section 5).
	deviceMTU = 1280

	deviceQueue = 4096 // packets that wait for us: thousands of checks may begin at a time

	addrGenModeNone = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
)

// families are those that rules and routes are made for.
var families = []int{unix.AF_INET, unix.AF_INET6}

// device is the TUN device and the socket that its packets leave by.
type device struct {
	file       *os.File
	packet     int // AF_PACKET socket
	name       string
	index      int
	err4, err6 error // what keeps packets of a family from getting there
}

func newDevice() (*device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	d := &device{packet: -1}
	if err := d.open(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	d.file = os.NewFile(uintptr(fd), d.name)
	d.mend()
	return d, nil
}

func (d *device) open(fd int) error {
	request, err := unix.NewIfreq(devicePattern)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("TUN device: %w", err)
	}
	d.name = request.Name()
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	d.index = link.Attrs().Index
	// No address of its own: nothing is to be sent into it but checks. Without
	// IPv6 there is no such setting, and no need for it.
	if err := netlink.LinkSetIP6AddrGenMode(link, addrGenModeNone); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: address generation: %w", d.name, err)
	}
	if err := netlink.LinkSetMTU(link, deviceMTU); err != nil {
		return fmt.Errorf("%s: MTU: %w", d.name, err)
	}
	if err := netlink.LinkSetTxQLen(link, deviceQueue); err != nil {
		return fmt.Errorf("%s: queue: %w", d.name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: up: %w", d.name, err)
	}
	if d.packet, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

// mend makes what leads to the device what it should be, and reports whether
// something was missing that had been there.
func (d *device) mend() (mended bool) {
	for _, family := range families {
		err := &d.err4
		if family == unix.AF_INET6 {
			err = &d.err6
		}
		before := *err
		var missing bool
		missing, *err = d.route(family)
		mended = mended || missing && before == nil
	}
	return mended
}

// route sees to it that marked packets of a family are routed into the device.
func (d *device) route(family int) (missing bool, err error) {
	rules, err := ourRules(family)
	if err != nil {
		return false, err
	}
	if len(rules) == 0 {
		missing = true
		if err := netlink.RuleAdd(rule(family)); err != nil && !errors.Is(err, unix.EEXIST) {
			return missing, fmt.Errorf("rule: %w", err)
		}
	}
	routes, err := ourRoutes(family)
	if err != nil {
		return missing, err
	}
	for i := range routes {
		if routes[i].LinkIndex == d.index {
			return missing, nil
		}
	}
	route := &netlink.Route{LinkIndex: d.index, Table: routeTable, Dst: anywhere(family), Family: family}
	if family == unix.AF_INET {
		route.Scope = netlink.SCOPE_LINK
	}
	// In place of that of another process: this is the one that checks now.
	if err := netlink.RouteReplace(route); err != nil {
		return true, fmt.Errorf("route: %w", err)
	}
	return true, nil
}

func anywhere(family int) *net.IPNet {
	if family == unix.AF_INET {
		return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

func rule(family int) *netlink.Rule {
	r := netlink.NewRule()
	mask := uint32(0xffffffff)
	r.Family, r.Mark, r.Mask, r.Table, r.Priority = family, fwMark, &mask, routeTable, rulePriority
	return r
}

// ourRules are the rules of this or of another process that lead to the device.
func ourRules(family int) ([]netlink.Rule, error) {
	rules, err := netlink.RuleListFiltered(family, rule(family), netlink.RT_FILTER_TABLE|netlink.RT_FILTER_MARK)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return rules, nil
}

func ourRoutes(family int) ([]netlink.Route, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: routeTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return routes, nil
}

// close ends what the closing of the file has begun: the device is gone, and
// unless another process has one of its own by now, the rules go too.
func (d *device) close() error {
	// The routes go with the device, which the kernel removes by and by.
	if link, err := netlink.LinkByIndex(d.index); err == nil && link.Attrs().Name == d.name {
		for _, family := range families {
			route := &netlink.Route{LinkIndex: d.index, Table: routeTable, Dst: anywhere(family), Family: family}
			if family == unix.AF_INET {
				route.Scope = netlink.SCOPE_LINK
			}
			netlink.RouteDel(route) //nolint:errcheck // it may be gone
		}
	}
	return errors.Join(unix.Close(d.packet), removeStale())
}

// removeStale removes rules that lead nowhere: no process has a device.
func removeStale() error {
	var errs []error
	for _, family := range families {
		rules, err := ourRules(family)
		if err != nil || len(rules) == 0 {
			continue // what cannot be listed was not made
		}
		if routes, err := ourRoutes(family); err != nil || len(routes) > 0 {
			continue
		}
		for range rules {
			if err := netlink.RuleDel(rule(family)); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("rule: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// strictFilter reports whether the kernel drops IPv4 packets that arrive on an
// interface other than the one that it would answer by.
func strictFilter(index int) (name string, strict bool) {
	device, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", false
	}
	setting := func(of string) string {
		data, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + of + "/rp_filter")
		if err != nil {
			return "0"
		}
		return strings.TrimSpace(string(data))
	}
	return device.Name, max(setting("all"), setting(device.Name)) == "1"
}
