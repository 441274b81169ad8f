package ethtool

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeVeth makes an interface in a network namespace that the test enters for
// good.
func makeVeth(t *testing.T) netlink.Link {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "et0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "et1"}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("et0")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestFeatures sees features change that are switched in another way.
func TestFeatures(t *testing.T) {
	makeVeth(t)
	for _, on := range []bool{false, true, false} {
		if err := SetOffloads("et0", Offloads{RxVLAN: on, TxVLAN: on}); err != nil {
			t.Fatal(err)
		}
		got, err := Features("et0")
		if err != nil || got["rx-vlan-hw-parse"] != on || got["tx-vlan-hw-insert"] != on {
			t.Errorf("%v, %v of %d features, %v; want both %v", got["rx-vlan-hw-parse"], got["tx-vlan-hw-insert"], len(got), err, on)
		}
	}
	_, err := Features("nobody")
	if want := "ethtool: nobody: read features: no such device"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestXDPFeatures asks of a veth, which has native XDP and no zero copy.
func TestXDPFeatures(t *testing.T) {
	f, err := GetXDPFeatures(makeVeth(t).Attrs().Index)
	if err != nil || !f.Native || !f.Redirect || f.ZeroCopy {
		t.Errorf("%+v, %v", f, err)
	}
	_, err = GetXDPFeatures(4000)
	if want := "ask for the XDP features of interface 4000: no such device"; !errors.Is(err, unix.ENODEV) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestNoReceiveSideScaling asks an interface that has none, and reads the bits
// that one with it would answer.
func TestNoReceiveSideScaling(t *testing.T) {
	makeVeth(t)
	_, err := Indirection("et0")
	if want := "ethtool: et0: read how queues are shared out: operation not supported"; !errors.Is(err, unix.EOPNOTSUPP) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = GetHash("et0", UDP4)
	if want := "ethtool: et0: read what packets are spread by: operation not supported"; !errors.Is(err, unix.EOPNOTSUPP) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	for data, want := range map[uint64]Hash{0: {}, 0x30: {Addresses: true}, 0xf0: {true, true}, 0xd0: {Ports: true}, 0x10: {}} {
		if got := hashOf(data); got != want {
			t.Errorf("%#x: %+v, want %+v", data, got, want)
		}
	}
	if size := unsafe.Sizeof(ethtoolRxnfc{}); size != 192 {
		t.Errorf("struct ethtool_rxnfc has 192 bytes, not %d", size)
	}
}
