package doctor

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/controlplane/model"
	"fairlead/xdp/ethtool"
)

// Outer headers of a tunnel, in bytes.
const (
	ipip4, ipip6 = 20, 40
	gue4, gue6   = 32, 52
)

// nic is one configured interface that is there.
type nic struct {
	*configs.Interface
	link   netlink.Link
	driver string
	queues int // that get a worker
}

// interfaces looks at every configured interface. That one is missing, down or
// without queues the preflight says.
func (d *doctor) interfaces() {
	for _, n := range d.nics() {
		d.xdp(&n)
		d.offloads(&n)
		d.kind(&n)
		d.spread(&n)
		d.returnPath(&n)
		d.rings(&n)
	}
	d.tunnelRoom()
}

// nics are the configured interfaces that are there.
func (d *doctor) nics() (all []nic) {
	for i := range d.cfg.Interfaces {
		n := nic{Interface: &d.cfg.Interfaces[i]}
		var err error
		if n.link, err = netlink.LinkByName(n.Name); err != nil {
			continue
		}
		if driver, err := ethtool.GetDriver(n.Name); err == nil {
			n.driver = driver.Name
		}
		if c, err := ethtool.GetChannels(n.Name); err == nil {
			n.queues = c.RX
			if n.Queues > 0 {
				n.queues = min(c.RX, n.Queues)
			} else if q := d.cfg.Dataplane.Queues; q > 0 {
				n.queues = min(c.RX, q)
			}
		}
		all = append(all, n)
	}
	return all
}

// programName is that of the node's XDP program.
const programName = "steer"

// xdp looks at what the driver can do, and at what is attached.
func (d *doctor) xdp(n *nic) {
	features, err := ethtool.GetXDPFeatures(n.link.Attrs().Index)
	known := err == nil
	attached := n.link.Attrs().Xdp
	if attached != nil && attached.Attached {
		d.program(n, attached, known && features.Native)
	}
	switch {
	case !known:
		d.ok("xdp_driver", n.Name, "what driver %s can do with XDP the kernel does not tell (since 6.3 it does)", n.driver)
	case !features.Native:
		d.add(Finding{Status: Warning, Check: "xdp_driver", Subject: n.Name, Found: fmt.Sprintf("driver %s has no native XDP: generic XDP is several times slower", n.driver),
			Advice: "use an interface with a driver that has it"})
	case features.ZeroCopy:
		d.ok("xdp_driver", n.Name, "driver %s has native XDP and zero copy", n.driver)
	default:
		d.ok("xdp_driver", n.Name, "driver %s has native XDP, without zero copy: packets are copied into the sockets, and flow_memo saves that", n.driver)
	}
	if known && features.Native && !features.Receive && d.cfg.Dataplane.FlowMemo != configs.FlowMemoOff && !features.ZeroCopy {
		f := Finding{Status: Warning, Check: "xdp_redirect", Subject: n.Name, Found: "the driver does not send what XDP redirects to it, so the XDP program forwards no flows out of it by itself"}
		if n.driver == "veth" {
			f.Advice, f.Command = "switch GRO on at its other end", "ethtool -K PEER gro on"
		} else {
			f.Advice = "attach an XDP program to it: some drivers send only then; a running node does that"
		}
		if d.Node != nil || n.driver == "veth" {
			d.add(f)
		}
	}
}

// program looks at the XDP program that is attached.
func (d *doctor) program(n *nic, attached *netlink.LinkXdp, native bool) {
	const generic = 2 // XDP_ATTACHED_SKB
	name := "unknown"
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(attached.ProgId))
	if err == nil {
		if info, err := p.Info(); err == nil {
			name = info.Name
		}
		p.Close()
	}
	// A container of the DaemonSet may not look at programs by their numbers. A node
	// that forwards has its own one attached, which leaves no room for another.
	hidden := errors.Is(err, unix.EPERM)
	if hidden && d.Node != nil {
		name = programName
	}
	switch {
	case hidden && d.Node == nil:
		d.add(Finding{Status: Warning, Check: "xdp_program", Subject: n.Name, Found: fmt.Sprintf("an XDP program is attached (number %d), and only root with CAP_SYS_ADMIN can see which: the node cannot attach its own where there is another", attached.ProgId),
			Advice: "look at it on the machine itself", Command: fmt.Sprintf("bpftool prog show id %d", attached.ProgId)})
	case name != programName:
		d.add(Finding{Status: Error, Check: "xdp_program", Subject: n.Name, Found: fmt.Sprintf("another XDP program is attached: %s (number %d); the node cannot attach its own", name, attached.ProgId),
			Advice: "stop what attached it, or take it off", Command: "ip link set dev " + n.Name + " xdp off"})
	case d.Node == nil && d.PID == 0:
		d.add(Finding{Status: Warning, Check: "xdp_program", Subject: n.Name, Found: "the node's XDP program is attached, and no node answers: if none runs, packets to VIPs meet their fail action",
			Advice: "start the node", Command: "systemctl start fairlead"})
	case attached.AttachMode == generic && native && n.XDPMode != configs.XDPGeneric:
		d.add(Finding{Status: Warning, Check: "xdp_program", Subject: n.Name, Found: "the XDP program runs in the network stack (generic), though the driver has native XDP",
			Advice: "look in the node's log why it was refused: mostly an MTU that is too large or too few queues; then restart the node"})
	case attached.AttachMode == generic:
		d.ok("xdp_program", n.Name, "the node's XDP program is attached, in the network stack (generic)")
	default:
		d.ok("xdp_program", n.Name, "the node's XDP program is attached, in the driver (native)")
	}
}

// offloads looks at what changes frames before XDP sees them.
func (d *doctor) offloads(n *nic) {
	features, err := ethtool.Features(n.Name)
	if err != nil {
		d.add(Finding{Status: Warning, Check: "offloads", Subject: n.Name, Found: err.Error(), Advice: "look at them with ethtool", Command: "ethtool -k " + n.Name})
		return
	}
	bad := false
	hurts := func(name, what, off string) {
		if features[name] {
			bad = true
			d.add(Finding{Status: Warning, Check: "offloads", Subject: n.Name, Found: what, Advice: "switch it off", Command: "ethtool -K " + n.Name + " " + off})
		}
	}
	hurts("rx-gro-hw", "the interface glues packets of a flow together (rx-gro-hw), and they are too long to be forwarded", "rx-gro-hw off")
	if tagged := d.tagged(n); len(tagged) > 0 {
		hurts("rx-vlan-hw-parse", fmt.Sprintf("VLAN tags are taken off before XDP sees frames (rx-vlan-offload), and %s shows that there are some: tagged traffic for VIPs is not told from untagged", tagged[0]), "rxvlan off")
	}
	bad = d.partialChecksums(n) || bad
	if !bad {
		d.ok("offloads", n.Name, "no offload changes what XDP sees")
	}
}

// tagged are the VLAN interfaces on top of an interface.
func (d *doctor) tagged(n *nic) (names []string) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	for _, l := range all {
		if l.Type() == "vlan" && l.Attrs().ParentIndex == n.link.Attrs().Index {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// partialChecksums looks whether frames arrive with checksums that their sender
// has left to its interface, which only is one in name. It reports whether it
// found any.
func (d *doctor) partialChecksums(n *nic) bool {
	if n.driver != "veth" {
		return false
	}
	// The peer can be looked at where it is in the same namespace.
	peer, err := netlink.LinkByIndex(n.link.Attrs().ParentIndex)
	if err != nil || peer.Type() != "veth" || peer.Attrs().ParentIndex != n.link.Attrs().Index {
		d.ok("checksums", n.Name, "its other end is elsewhere; frames that are sent there must carry complete checksums (ethtool -K PEER tx off)")
		return false
	}
	name := peer.Attrs().Name
	if on, err := ethtool.TxChecksumOffload(name); err != nil || !on {
		return false
	}
	d.add(Finding{Status: Error, Check: "checksums", Subject: n.Name, Found: fmt.Sprintf("its other end %s leaves checksums to be finished by an interface that does not do so: no connection gets through a rewrite", name),
		Advice: "switch transmit checksum offload off there", Command: "ethtool -K " + name + " tx off"})
	return true
}

// kinds are interfaces that stand on others.
var kinds = map[string]struct{ found, advice string }{
	"vlan":    {"it is a VLAN on another interface, with generic XDP only", "name the interface below in [[interface]]; tags are kept"},
	"bond":    {"it is a bond: AF_XDP has no zero copy on it, and which member a frame came by cannot be told", "name the members in [[interface]] and let the switch spread traffic over them by routing"},
	"team":    {"it is a team device, with generic XDP only", "name the members in [[interface]]"},
	"bridge":  {"it is a bridge, with generic XDP only, and sees what is for the bridge itself alone", "name the port in [[interface]]"},
	"macvlan": {"it is a macvlan on another interface, with generic XDP only", "name the interface below in [[interface]]"},
	"ipvlan":  {"it is an ipvlan on another interface, with generic XDP only", "name the interface below in [[interface]]"},
}

// kind looks at what kind of interface it is.
func (d *doctor) kind(n *nic) {
	if k, stands := kinds[n.link.Type()]; stands {
		d.add(Finding{Status: Warning, Check: "interface_kind", Subject: n.Name, Found: k.found, Advice: k.advice})
		return
	}
	d.ok("interface_kind", n.Name, "it stands on no other interface (%s)", n.link.Type())
}

// spread looks at how the interface spreads packets over its queues.
func (d *doctor) spread(n *nic) {
	table, err := ethtool.Indirection(n.Name)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		if n.queues > 1 {
			d.ok("rss", n.Name, "the driver tells nothing of how it spreads packets over %d queues", n.queues)
		}
		return
	case err != nil:
		d.add(Finding{Status: Warning, Check: "rss", Subject: n.Name, Found: err.Error(), Advice: "look at it with ethtool", Command: "ethtool -x " + n.Name})
		return
	}
	d.add(indirection(n.Name, table, n.queues))
	for _, of := range []struct {
		name string
		typ  ethtool.FlowType
	}{{"udp4", ethtool.UDP4}, {"udp6", ethtool.UDP6}, {"tcp4", ethtool.TCP4}, {"tcp6", ethtool.TCP6}} {
		if h, err := ethtool.GetHash(n.Name, of.typ); err == nil {
			d.add(hashed(n.Name, of.name, h))
		}
	}
}

// indirection judges which queues the slots of the hash lead to, of which the
// first so many get a worker.
func indirection(name string, table []uint32, queues int) Finding {
	used := make(map[uint32]bool)
	outside := 0
	for _, q := range table {
		used[q] = true
		if int(q) >= queues {
			outside++
		}
	}
	equal := fmt.Sprintf("ethtool -X %s equal %d", name, queues)
	switch {
	case outside > 0:
		return Finding{Status: Error, Check: "rss", Subject: name, Found: fmt.Sprintf("%d of %d slots of its hash lead to queues without a worker; what arrives there meets the fail action", outside, len(table)),
			Advice: "spread over the queues that have one", Command: equal}
	case len(used) < queues:
		return Finding{Status: Warning, Check: "rss", Subject: name, Found: fmt.Sprintf("packets are spread over %d queues of %d", len(used), queues), Advice: "spread over all of them", Command: equal}
	}
	return Finding{Status: OK, Check: "rss", Subject: name, Found: fmt.Sprintf("packets are spread over all %d queues", queues)}
}

// hashed judges what packets of a type are spread by.
func hashed(name, typ string, h ethtool.Hash) Finding {
	switch {
	case !h.Addresses:
		return Finding{Status: Warning, Check: "rss_hash", Subject: name, Found: typ + " packets are not spread by both addresses", Advice: "spread by addresses and ports",
			Command: fmt.Sprintf("ethtool -N %s rx-flow-hash %s sdfn", name, typ)}
	case !h.Ports:
		return Finding{Status: Warning, Check: "rss_hash", Subject: name, Found: typ + " packets are spread by addresses alone: all flows between two hosts, tunnels among them, share one queue", Advice: "spread by ports, too",
			Command: fmt.Sprintf("ethtool -N %s rx-flow-hash %s sdfn", name, typ)}
	}
	return Finding{Status: OK, Check: "rss_hash", Subject: name, Found: typ + " packets are spread by addresses and ports"}
}

// returnPath looks at the filter that drops what the host would not answer by
// the interface it came by. Of VIP traffic it sees nothing.
func (d *doctor) returnPath(n *nic) {
	all, _ := number(d.sys.proc, "sys/net/ipv4/conf/all/rp_filter")
	own, ok := number(d.sys.proc, "sys/net/ipv4/conf", n.Name, "rp_filter")
	if !ok {
		return
	}
	if max(all, own) == 1 {
		d.add(Finding{Status: Warning, Check: "rp_filter", Subject: n.Name, Found: "the host drops what it would answer by another interface (strict rp_filter): replies to health checks, and what it routes, when there are several ways",
			Advice: "make it loose", Command: "sysctl -w net.ipv4.conf." + n.Name + ".rp_filter=2"})
		return
	}
	d.ok("rp_filter", n.Name, "the return path filter is not strict (%d)", max(all, own))
}

// rings looks at the interface's own descriptor rings, and at what they have
// lost.
func (d *doctor) rings(n *nic) {
	lost := 0
	for _, counter := range []string{"rx_missed_errors", "rx_fifo_errors", "rx_over_errors"} {
		count, _ := number(d.sys.sys, "class/net", n.Name, "statistics", counter)
		lost = max(lost, count) // they mostly count the same
	}
	if lost > 0 {
		d.add(Finding{Status: Warning, Check: "nic_losses", Subject: n.Name, Found: fmt.Sprintf("the interface has lost %d frames for want of room since it was made", lost),
			Advice: "see whether the number rises; then give it more queues with a worker each, or longer rings", Command: "ethtool -S " + n.Name})
	} else {
		d.ok("nic_losses", n.Name, "the interface has lost no frame for want of room")
	}
	r, err := ethtool.GetRings(n.Name)
	if err != nil || r.MaxRX == 0 {
		return // nothing to set
	}
	if want := min(r.MaxRX, 1024); r.RX < want {
		d.add(Finding{Status: Warning, Check: "nic_rings", Subject: n.Name, Found: fmt.Sprintf("its receive rings hold %d frames of at most %d; a burst overruns them", r.RX, r.MaxRX),
			Advice: "make them longer", Command: fmt.Sprintf("ethtool -G %s rx %d", n.Name, want)})
		return
	}
	d.ok("nic_rings", n.Name, "its receive rings hold %d frames", r.RX)
}

// tunnelRoom looks whether a client's full-sized packet fits its tunnel.
func (d *doctor) tunnelRoom() {
	need := 0
	for i := range d.cfg.State.Services {
		s := &d.cfg.State.Services[i]
		for j := range d.cfg.State.Pools {
			if d.cfg.State.Pools[j].Name == s.Pool {
				need = max(need, overhead(s.Method, d.cfg.State.Pools[j].Backends))
			}
		}
	}
	if need == 0 {
		return
	}
	most, name := 0, ""
	for _, n := range d.nics() {
		if m := n.link.Attrs().MTU; m > most {
			most, name = m, n.Name
		}
	}
	const common = 1500
	if name != "" && most < common+need {
		d.add(Finding{Status: Warning, Check: "tunnel_mtu", Subject: name, Found: fmt.Sprintf("tunnels add %d bytes, and no interface carries more than %d: clients' full-sized packets do not fit and must be sent smaller", need, most),
			Advice: "raise the MTU of the way to the backends, on every switch and backend of it first", Command: fmt.Sprintf("ip link set dev %s mtu %d", name, common+need)})
		return
	}
	if name != "" {
		d.ok("tunnel_mtu", name, "packets of %d bytes and %d of tunnel headers fit its MTU of %d", common, need, most)
	}
}

// overhead is what a method adds to packets for some backends.
func overhead(m model.Method, backends []model.Backend) (most int) {
	for i := range backends {
		is4 := backends[i].Address.Is4()
		switch {
		case m == model.IPIP && is4:
			most = max(most, ipip4)
		case m == model.IPIP:
			most = max(most, ipip6)
		case m == model.GUE && is4:
			most = max(most, gue4)
		case m == model.GUE:
			most = max(most, gue6)
		}
	}
	return most
}
