package decap

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vipLabel marks the IPv4 addresses that SetupHost adds, so that a later start
// knows them for its own.
const vipLabel = "lo:fairlead"

// Host is a machine that has been given VIPs.
type Host struct {
	undo []func() error // in the order in which it was done
}

// SetupHost prepares the machine (the calling thread's network namespace) for
// packets to VIPs that arrive through ifname without the wire being told of the
// VIPs:
//
//   - each VIP is added to lo, as /32 or /128, never chosen as the source of a
//     new connection;
//   - arp_ignore is at least 1 and arp_announce 2, on ifname and everywhere: the
//     machine neither answers ARP for a VIP nor asks in its name. Neighbour
//     discovery needs nothing: Linux answers for addresses of the interface
//     only;
//   - strict reverse-path filtering becomes loose on ifname: a client's packets
//     come out of the tunnel where its replies need not go.
//
// When it returns, the machine takes packets to all VIPs. Nothing that is there
// already is touched, and settings that are stricter stay. Close undoes what was
// done. VIPs that an earlier process added in this way and could not remove are
// taken over; what it did to the settings then stays for good.
func SetupHost(ifname string, vips []netip.Addr) (*Host, error) {
	h := &Host{}
	if err := h.setup(ifname, vips); err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s for VIPs: %w", ifname, err), h.Close())
	}
	return h, nil
}

func (h *Host) setup(ifname string, vips []netip.Addr) error {
	if _, err := netlink.LinkByName(ifname); err != nil {
		return err
	}
	// Silence comes first: an address must not be answered for in between.
	if err := h.silenceARP(ifname); err != nil {
		return err
	}
	if err := h.loosenReversePath(ifname); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for _, vip := range vips {
		if err := h.addVIP(lo, vip.Unmap()); err != nil {
			return fmt.Errorf("add %s to lo: %w", vip, err)
		}
	}
	return nil
}

// silenceARP raises arp_ignore and arp_announce. The kernel takes the larger of
// an interface's value and that of "all".
func (h *Host) silenceARP(ifname string) error {
	for _, s := range []struct {
		name string
		want int
	}{{"arp_ignore", 1}, {"arp_announce", 2}} {
		for _, conf := range []string{"all", ifname} {
			now, err := readSysctl(conf, s.name)
			if err != nil {
				return err
			}
			if now >= s.want {
				continue
			}
			if err := h.setSysctl(conf, s.name, now, s.want); err != nil {
				return err
			}
		}
	}
	return nil
}

// Values of rp_filter (RFC 3704): off, strict, loose. The kernel takes the
// larger of an interface's value and that of "all".
const (
	rpFilterStrict = 1
	rpFilterLoose  = 2
)

func (h *Host) loosenReversePath(ifname string) error {
	all, err := readSysctl("all", "rp_filter")
	if err != nil {
		return err
	}
	own, err := readSysctl(ifname, "rp_filter")
	if err != nil {
		return err
	}
	if max(all, own) != rpFilterStrict {
		return nil
	}
	return h.setSysctl(ifname, "rp_filter", own, rpFilterLoose)
}

// setSysctl writes a value; Close puts the earlier one back unless somebody has
// changed it since.
func (h *Host) setSysctl(conf, name string, before, value int) error {
	if err := writeSysctl(conf, name, value); err != nil {
		return err
	}
	h.undo = append(h.undo, func() error {
		now, err := readSysctl(conf, name)
		if errors.Is(err, unix.ENOENT) {
			return nil // the interface is gone
		}
		if err != nil || now != value {
			return err
		}
		return writeSysctl(conf, name, before)
	})
	return nil
}

// hostAddress is how a VIP stands on lo: with host scope (IPv4) or deprecated
// (IPv6), so that no new connection leaves from it.
func hostAddress(vip netip.Addr) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(vip.BitLen(), vip.BitLen())}}
	if vip.Is4() {
		a.Label = vipLabel
		a.Scope = unix.RT_SCOPE_HOST
		return a
	}
	a.Flags = unix.IFA_F_NODAD
	a.ValidLft = math.MaxUint32
	a.PreferedLft = 0
	return a
}

// addVIP adds a VIP to lo unless some interface has the address.
func (h *Host) addVIP(lo netlink.Link, vip netip.Addr) error {
	if !vip.IsValid() || vip.Zone() != "" || vip.IsUnspecified() || vip.IsMulticast() || vip.IsLoopback() {
		return errors.New("not an address that clients can reach")
	}
	found, ours, err := findAddress(lo, vip)
	if err != nil {
		return err
	}
	if found && !ours {
		return nil
	}
	if !found {
		if err := netlink.AddrAdd(lo, hostAddress(vip)); err != nil {
			return err
		}
	}
	h.undo = append(h.undo, func() error {
		err := netlink.AddrDel(lo, hostAddress(vip))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove %s from lo: %w", vip, err)
		}
		return nil
	})
	return awaitLocal(vip)
}

// localTime bounds how long awaitLocal waits.
const localTime = 5 * time.Second

// awaitLocal waits until packets to vip reach the machine itself. The kernel
// makes the route to a new IPv6 address a little later, and drops what comes
// before that.
func awaitLocal(vip netip.Addr) error {
	for deadline := time.Now().Add(localTime); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(vip.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("the kernel made no local route to it"), err)
		}
	}
}

// findAddress reports whether any interface has the address, and whether it
// stands on lo in the way that addVIP adds it.
func findAddress(lo netlink.Link, vip netip.Addr) (found, ours bool, err error) {
	family := unix.AF_INET
	if vip.Is6() {
		family = unix.AF_INET6
	}
	all, err := netlink.AddrList(nil, family)
	if err != nil {
		return false, false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		if !a.IP.Equal(vip.AsSlice()) {
			continue
		}
		found = true
		ones, bits := a.Mask.Size()
		if a.LinkIndex != lo.Attrs().Index || ones != bits {
			continue
		}
		if vip.Is4() {
			ours = ours || a.Label == vipLabel
		} else {
			ours = ours || a.Flags&unix.IFA_F_DEPRECATED != 0
		}
	}
	return found, ours, nil
}

// Close undoes what SetupHost did, last things first: the VIPs go before the
// silence about them does.
func (h *Host) Close() error {
	var errs []error
	for len(h.undo) > 0 {
		last := len(h.undo) - 1
		errs = append(errs, h.undo[last]())
		h.undo = h.undo[:last]
	}
	return errors.Join(errs...)
}
