package ethtool_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"fairlead/xdp/ethtool"
)

// inNamespace moves the test into a network namespace of its own. The thread
// is not unlocked: it ends with the test's goroutine.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
}

func addVeth(t *testing.T, name, peer string, queues int) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues, attrs.MTU = name, queues, queues, 1400
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		t.Fatal(err)
	}
}

func TestFactsOfAVeth(t *testing.T) {
	inNamespace(t)
	addVeth(t, "et0", "et1", 4)

	if d, err := ethtool.GetDriver("et0"); err != nil || d.Name != "veth" {
		t.Errorf("driver %+v, %v; want veth", d, err)
	}
	if mtu, err := ethtool.MTU("et0"); err != nil || mtu != 1400 {
		t.Errorf("MTU %d, %v; want 1400", mtu, err)
	}
	c, err := ethtool.GetChannels("et0")
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxRX != 4 || c.MaxTX != 4 {
		t.Errorf("channels %+v, want at most 4", c)
	}
	if err := ethtool.SetChannels("et0", 3, 2); err != nil {
		t.Fatal(err)
	}
	if c, err := ethtool.GetChannels("et0"); err != nil || c.RX != 3 || c.TX != 2 {
		t.Errorf("channels %+v, %v; want 3 rx, 2 tx", c, err)
	}
	if err := ethtool.SetChannels("et0", 9, 9); !errors.Is(err, unix.EINVAL) ||
		err.Error() != "ethtool: et0: set number of queues to 9 rx, 9 tx: invalid argument" {
		t.Errorf("9 queues of 4: %v", err)
	}
}

func TestOffloads(t *testing.T) {
	inNamespace(t)
	addVeth(t, "et0", "et1", 1)
	for _, on := range []bool{false, true, false} {
		if err := ethtool.SetTxChecksumOffload("et0", on); err != nil {
			t.Fatal(err)
		}
		if got, err := ethtool.TxChecksumOffload("et0"); err != nil || got != on {
			t.Errorf("transmit checksum offload %v, %v; want %v", got, err, on)
		}
	}
	for _, want := range []ethtool.Offloads{{}, {RxVLAN: true, TxVLAN: true}, {}} {
		if err := ethtool.SetOffloads("et0", want); err != nil {
			t.Fatal(err)
		}
		if got, err := ethtool.GetOffloads("et0"); err != nil || got != want {
			t.Errorf("offloads %+v, %v; want %+v", got, err, want)
		}
	}
}

// A bridge has no channels to ask for; the count it was made with stands in.
func TestChannelsOfADriverThatDoesNotSay(t *testing.T) {
	inNamespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "etbr"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	if c, err := ethtool.GetChannels("etbr"); err != nil || c.RX != 1 || c.TX != 1 {
		t.Errorf("channels %+v, %v; want one each", c, err)
	}
}

func TestNoSuchInterface(t *testing.T) {
	inNamespace(t)
	_, channels := ethtool.GetChannels("nope")
	_, driver := ethtool.GetDriver("nope")
	_, mtu := ethtool.MTU("nope")
	_, long := ethtool.GetChannels("a-name-that-is-too-long-for-linux")
	for _, c := range []struct {
		err  error
		want string
	}{
		{channels, "ethtool: nope: read number of queues: no such device"},
		{driver, "ethtool: nope: read driver: no such device"},
		{mtu, "ethtool: nope: read MTU: no such device"},
		{long, "ethtool: a-name-that-is-too-long-for-linux: read number of queues: no such device"},
		{ethtool.SetTxChecksumOffload("nope", false), "ethtool: nope: switch transmit checksum offload: no such device"},
		{ethtool.SetOffloads("nope", ethtool.Offloads{}), "ethtool: nope: switch offloads: no such device"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("error %v, want %q", c.err, c.want)
		}
	}
}
