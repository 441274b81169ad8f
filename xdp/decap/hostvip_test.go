package decap

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settings are the values that SetupHost may change, by "conf/name".
func settings(t *testing.T) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for _, conf := range []string{"all", "eth", "lo", "other"} {
		for _, name := range []string{"arp_ignore", "arp_announce", "rp_filter"} {
			value, err := readSysctl(conf, name)
			if err != nil {
				t.Fatal(err)
			}
			got[conf+"/"+name] = value
		}
	}
	return got
}

func set(t *testing.T, conf, name string, value int) {
	t.Helper()
	if err := writeSysctl(conf, name, value); err != nil {
		t.Fatal(err)
	}
}

// onLo lists the addresses of lo but for its own.
func onLo(t *testing.T) []string {
	t.Helper()
	all, err := netlink.AddrList(byName(t, "lo"), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		if !a.IP.IsLoopback() {
			got = append(got, a.IPNet.String())
		}
	}
	return got
}

func setupHost(t *testing.T, vips ...netip.Addr) *Host {
	t.Helper()
	h, err := SetupHost("eth", vips)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func closeHost(t *testing.T, h *Host) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSetupHost(t *testing.T) {
	for _, c := range []struct {
		name   string
		before map[string]int // differences from all zero
		during map[string]int
	}{
		{
			"defaults", nil,
			map[string]int{"all/arp_ignore": 1, "all/arp_announce": 2, "eth/arp_ignore": 1, "eth/arp_announce": 2},
		},
		{
			"strict reverse path on all",
			map[string]int{"all/rp_filter": 1},
			map[string]int{"all/arp_ignore": 1, "all/arp_announce": 2, "eth/arp_ignore": 1, "eth/arp_announce": 2, "all/rp_filter": 1, "eth/rp_filter": 2},
		},
		{
			"strict reverse path on the interface",
			map[string]int{"eth/rp_filter": 1},
			map[string]int{"all/arp_ignore": 1, "all/arp_announce": 2, "eth/arp_ignore": 1, "eth/arp_announce": 2, "eth/rp_filter": 2},
		},
		{
			"loose already, stricter already",
			map[string]int{"all/rp_filter": 2, "eth/rp_filter": 1, "all/arp_ignore": 2, "eth/arp_ignore": 1, "all/arp_announce": 1, "eth/arp_announce": 2},
			map[string]int{"all/rp_filter": 2, "eth/rp_filter": 1, "all/arp_ignore": 2, "eth/arp_ignore": 1, "all/arp_announce": 2, "eth/arp_announce": 2},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			newNamespace(t)
			newPair(t, "eth", 1500)
			newPair(t, "other", 1500)
			with := func(differences map[string]int) map[string]int {
				all := settings(t)
				for k := range all {
					all[k] = differences[k]
				}
				return all
			}
			for _, conf := range []string{"all", "eth", "lo", "other"} {
				for _, name := range []string{"arp_ignore", "arp_announce", "rp_filter"} {
					set(t, conf, name, c.before[conf+"/"+name])
				}
			}
			for range 2 { // the second time finds nothing of the first
				h := setupHost(t, vip4, vip6)
				if got, want := settings(t), with(c.during); !reflect.DeepEqual(got, want) {
					t.Errorf("settings %v, want %v", got, want)
				}
				if got, want := onLo(t), []string{vip4.String() + "/32", vip6.String() + "/128"}; !reflect.DeepEqual(got, want) {
					t.Errorf("lo has %v, want %v", got, want)
				}
				closeHost(t, h)
				if got, want := settings(t), with(c.before); !reflect.DeepEqual(got, want) {
					t.Errorf("settings afterwards %v, want %v", got, want)
				}
				if got := onLo(t); got != nil {
					t.Errorf("lo still has %v", got)
				}
				closeHost(t, h)
			}
		})
	}
}

// TestVIPIsNoSource checks that a machine never starts a connection from a VIP,
// even where it has no other address.
func TestVIPIsNoSource(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	addAddress(t, near, backend6.String()+"/64")
	h := setupHost(t, vip4, vip6)
	defer closeHost(t, h)
	addAddress(t, near, backend4.String()+"/24")
	addGateway(t, near, "0.0.0.0/0", balancer4.String())
	addGateway(t, near, "::/0", balancer6.String())
	// Near the VIPs, so that the longest common prefix speaks for them.
	for dst, want := range map[string]netip.Addr{"203.0.113.11:9": backend4, "[2001:db8:1::11]:9": backend6} {
		c, err := net.Dial("udp", dst)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(); got != want {
			t.Errorf("to %s from %v, want %v", dst, got, want)
		}
		c.Close()
	}
}

// TestSetupHostLeavesWhatIsThere finds VIPs on the machine: those of the
// operator stay, those of an earlier process that died are taken over.
func TestSetupHostLeavesWhatIsThere(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	lo := byName(t, "lo")
	addAddress(t, lo, vip4.String()+"/32")
	addAddress(t, near, vip6.String()+"/64")
	before := onLo(t)
	closeHost(t, setupHost(t, vip4, vip6))
	if got := onLo(t); !reflect.DeepEqual(got, before) {
		t.Errorf("lo has %v, want %v", got, before)
	}

	setupHost(t, other4, other6) // and is gone without Close
	closeHost(t, setupHost(t, other4, other6))
	if got := onLo(t); !reflect.DeepEqual(got, before) {
		t.Errorf("lo has %v, want %v", got, before)
	}

	// Close does not undo what the operator has done in the meantime.
	h := setupHost(t, other4, other6)
	set(t, "eth", "arp_announce", 1)
	if err := netlink.AddrDel(lo, hostAddress(other4)); err != nil {
		t.Fatal(err)
	}
	closeHost(t, h)
	if got, err := readSysctl("eth", "arp_announce"); err != nil || got != 1 {
		t.Errorf("arp_announce is %d, %v", got, err)
	}

	// The interface may be gone by then.
	h = setupHost(t, other4)
	if err := netlink.LinkDel(near); err != nil {
		t.Fatal(err)
	}
	closeHost(t, h)
	if got := onLo(t); !reflect.DeepEqual(got, before) {
		t.Errorf("lo has %v, want %v", got, before)
	}
}

func TestSetupHostErrors(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	if _, err := SetupHost("nosuch", nil); err == nil || err.Error() != "set up nosuch for VIPs: Link not found" {
		t.Errorf("no such interface: %v", err)
	}
	for addr, want := range map[netip.Addr]string{
		{}:                                  "set up eth for VIPs: add invalid IP to lo: not an address that clients can reach",
		netip.MustParseAddr("127.0.0.9"):    "set up eth for VIPs: add 127.0.0.9 to lo: not an address that clients can reach",
		netip.MustParseAddr("224.0.0.1"):    "set up eth for VIPs: add 224.0.0.1 to lo: not an address that clients can reach",
		netip.MustParseAddr("fe80::1%eth0"): "set up eth for VIPs: add fe80::1%eth0 to lo: not an address that clients can reach",
	} {
		if _, err := SetupHost("eth", []netip.Addr{vip4, addr}); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %q", addr, err, want)
		}
		if got := onLo(t); got != nil {
			t.Errorf("%v: a failed call left %v on lo", addr, got)
		}
	}
	if got, err := readSysctl("eth", "arp_ignore"); err != nil || got != 0 {
		t.Errorf("a failed call left arp_ignore at %d, %v", got, err)
	}
	if err := netlink.LinkDel(near); err != nil && !errors.Is(err, unix.ENODEV) {
		t.Fatal(err)
	}
}
