package preflight

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"fairlead/configs"
	"fairlead/dataplane/packet"
	"fairlead/dataplane/replay"
	"fairlead/xdp/ethtool"
)

// nativeXDP are drivers known to have native XDP; those that are true also have
// zero copy for AF_XDP. Drivers that are not listed may have either.
var nativeXDP = map[string]bool{
	"atlantic": false, "bnxt_en": false, "dpaa2-eth": false, "ena": false, "fec": false, "gve": true, "hv_netvsc": false,
	"i40e": true, "ice": true, "igb": true, "igc": true, "ixgbe": true, "ixgbevf": false, "lan966x-switch": false, "mana": false,
	"mlx4_en": false, "mlx5_core": true, "mvneta": false, "mvpp2": false, "nfp": true, "qede": false, "rvu_nicpf": true, "sfc": false,
	"stmmac": true, "tsnep": true, "tun": false, "veth": false, "virtio_net": true, "vmxnet3": false,
}

func (c *checker) interfaces() {
	if len(c.cfg.Interfaces) == 0 {
		c.add(Error, "interfaces", "none is configured: name at least one in [[interface]]")
	}
	for i := range c.cfg.Interfaces {
		want := &c.cfg.Interfaces[i]
		link, err := netlink.LinkByName(want.Name)
		var missing netlink.LinkNotFoundError
		switch {
		case errors.As(err, &missing):
			c.add(Error, subject(want), "there is no such interface")
			c.do("correct its name in [[interface]]", "ip -br link")
		case err != nil:
			c.add(Error, subject(want), "%v", err)
		default:
			c.link(want, link)
		}
	}
}

func subject(in *configs.Interface) string { return "interface " + in.Name }

// link checks an interface that is there.
func (c *checker) link(want *configs.Interface, link netlink.Link) {
	attrs := link.Attrs()
	if attrs.Flags&net.FlagLoopback != 0 {
		c.add(Error, subject(want), "it is the loopback interface, which no traffic comes in by")
		return
	}
	if attrs.EncapType != "ether" || len(attrs.HardwareAddr) != 6 {
		c.add(Error, subject(want), "it is no Ethernet interface (%s)", attrs.EncapType)
		return
	}
	if attrs.Flags&net.FlagUp == 0 {
		c.add(Warning, subject(want), "it is down")
		c.do("bring it up", "ip link set dev %s up", want.Name)
	} else if attrs.OperState == netlink.OperDown || attrs.OperState == netlink.OperLowerLayerDown {
		c.add(Warning, subject(want), "it has no carrier")
		c.do("look at the cable and at the switch's port", "ethtool %s", want.Name)
	}
	if attrs.MasterIndex != 0 {
		c.add(Warning, subject(want), "it belongs to %s, which no longer sees traffic for VIPs", nameOf(attrs.MasterIndex))
		c.do("take it out of there, if that needs to see traffic for VIPs", "ip link set dev %s nomaster", want.Name)
	}
	driver, err := ethtool.GetDriver(want.Name)
	if err != nil {
		c.add(Warning, subject(want), "%v", err)
	}
	queues := c.channels(want)
	c.note(want, attrs, driver.Name, queues)
	c.driver(want, driver.Name)
	c.fits(want, attrs.MTU)
	if o, err := ethtool.GetOffloads(want.Name); err == nil && o.LRO {
		c.add(Warning, subject(want), "large receive offload is on, and packets come glued together: `ethtool -K %s lro off`", want.Name)
		c.do("switch it off", "ethtool -K %s lro off", want.Name)
	}
}

// note says what the interface is.
func (c *checker) note(want *configs.Interface, attrs *netlink.LinkAttrs, driver string, queues int) {
	if driver == "" {
		driver = "unknown"
	}
	c.add(Note, subject(want), "driver %s, MTU %d, %d of its queues are used, address %s", driver, attrs.MTU, queues, attrs.HardwareAddr)
}

// channels checks the number of queues and returns how many are used.
func (c *checker) channels(want *configs.Interface) int {
	have, err := ethtool.GetChannels(want.Name)
	if err != nil {
		c.add(Error, subject(want), "%v", err)
		return 0
	}
	queues := have.RX
	switch asked := want.Queues; {
	case asked > have.RX:
		c.add(Error, subject(want), "it has %d queues, the configuration wants %d: change it with `ethtool -L %s combined %d`", have.RX, asked, want.Name, asked)
		c.do("give it as many, or ask for fewer", "ethtool -L %s combined %d", want.Name, asked)
		return 0
	case asked > 0:
		queues = asked
	case c.cfg.Dataplane.Queues > 0:
		queues = min(have.RX, c.cfg.Dataplane.Queues)
	}
	if queues < have.RX {
		c.add(Warning, subject(want), "%d of its %d queues have no worker; VIP traffic that arrives there meets the fail action", have.RX-queues, have.RX)
		c.do("leave queues out, or give the interface fewer", "ethtool -L %s combined %d", want.Name, queues)
	}
	c.queues += queues
	return queues
}

// driver guesses what the driver can do.
func (c *checker) driver(want *configs.Interface, name string) {
	zeroCopy, native := nativeXDP[name]
	switch {
	case name == "":
	case !native && want.XDPMode == configs.XDPNative:
		c.add(Warning, subject(want), "driver %s is not known to have native XDP, which the configuration insists on", name)
	case !native && want.XDPMode == configs.XDPAuto:
		c.add(Warning, subject(want), "driver %s is not known to have native XDP; generic XDP is slower", name)
	}
	if name != "" && !zeroCopy && want.ZeroCopy == configs.ZeroCopyOn {
		c.add(Warning, subject(want), "driver %s is not known to have zero copy, which the configuration insists on", name)
	}
}

// fits checks that the longest frame of the link fits a chunk.
func (c *checker) fits(want *configs.Interface, mtu int) {
	d := &c.cfg.Dataplane
	room := d.FrameSize - replay.KernelHeadroom - d.Headroom
	longest := mtu + packet.EthernetLen + packet.MaxVLANs*packet.VLANLen
	if longest <= room {
		return
	}
	advice := "lower the MTU"
	if d.FrameSize < 4096 {
		advice = "set frame_size = 4096 or lower the MTU"
	}
	c.add(Warning, subject(want), "its frames of up to %d bytes do not fit: %d less %d of headroom leave %d, and longer ones are dropped; %s",
		longest, d.FrameSize, replay.KernelHeadroom+d.Headroom, room, advice)
}

func nameOf(index int) string {
	if link, err := netlink.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}
