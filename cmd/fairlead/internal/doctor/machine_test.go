package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/configs"
	"fairlead/xdp/ethtool"
)

// enter moves the rest of the test into a new network namespace. The thread is
// never given back.
func enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (needs root): %v", err)
	}
	// What is looked at below /proc/sys and /sys/class/net is that of the
	// namespace of the thread, or of the process: /proc/sys follows the thread.
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// veth makes an interface that is as it should be; its other end is name with
// "-p".
func veth(t *testing.T, name string, mtu, queues int) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumRxQueues, attrs.NumTxQueues = name, mtu, queues, queues
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerMTU, v.PeerNumRxQueues, v.PeerNumTxQueues = name+"-p", uint32(mtu), uint32(queues), uint32(queues)
	must(t, netlink.LinkAdd(v))
	for _, end := range []string{name, name + "-p"} {
		link, err := netlink.LinkByName(end)
		must(t, err)
		must(t, netlink.LinkSetUp(link))
	}
	for _, end := range []string{name, name + "-p"} {
		must(t, ethtool.SetTxChecksumOffload(end, false))
		run(t, "ethtool", "-K", end, "gro", "on")
	}
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link
}

func parse(t *testing.T, text string) *configs.Config {
	t.Helper()
	cfg, err := configs.Parse("test.toml", []byte("[xdp]\npin_path = \"\"\n"+text))
	must(t, err)
	return cfg
}

const eth0 = "[[interface]]\nname = \"eth0\"\n"

// linesOf are the findings of some checks, as lines.
func linesOf(r Report, checks ...string) (lines []string) {
	for _, f := range r.Findings {
		if slices.Contains(checks, f.Check) {
			lines = append(lines, fmt.Sprintf("%s: %s", strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Status, f.Check, f.Subject)), f.Found))
		}
	}
	slices.Sort(lines)
	return lines
}

func compare(t *testing.T, r Report, checks []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := linesOf(r, checks...); !slices.Equal(got, want) {
		t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// find is the finding of a check that is not well.
func find(t *testing.T, r Report, check string) Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check == check && f.Status != OK {
			if f.Advice == "" {
				t.Errorf("%s: no advice: %+v", check, f)
			}
			return f
		}
	}
	t.Fatalf("nothing is wrong with %s: %v", check, linesOf(r, check))
	return Finding{}
}

// tree writes files below a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content+"\n"), 0o644))
	}
	return dir
}

// real is the machine's own.
var real = system{proc: "/proc", sys: "/sys", cgroups: "/sys/fs/cgroup"}

// TestGoodInterface finds nothing wrong with an interface that is as it should
// be, and mends one by the commands that the findings give.
func TestGoodInterface(t *testing.T) {
	enter(t)
	veth(t, "eth0", 1500, 2)
	checks := []string{"interface", "xdp_driver", "xdp_redirect", "xdp_program", "offloads", "checksums", "interface_kind", "rp_filter"}
	well := func(when string) {
		t.Helper()
		for _, f := range examine(Subjects{Config: parse(t, eth0)}, real).Findings {
			if slices.Contains(checks, f.Check) && f.Status != OK {
				t.Errorf("%s: %+v", when, f)
			}
		}
	}
	well("a good interface")

	must(t, ethtool.SetTxChecksumOffload("eth0-p", true))
	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/eth0/rp_filter", []byte("1"), 0))
	link, err := netlink.LinkByName("eth0")
	must(t, err)
	must(t, netlink.LinkSetDown(link))
	r := examine(Subjects{Config: parse(t, eth0)}, real)
	if r.Status != Error {
		t.Errorf("the report says %s", r.Status)
	}
	for check, want := range map[string]Finding{
		"checksums": {Error, "checksums", "eth0", "its other end eth0-p leaves checksums to be finished by an interface that does not do so: no connection gets through a rewrite",
			"switch transmit checksum offload off there", "ethtool -K eth0-p tx off"},
		"rp_filter": {Warning, "rp_filter", "eth0", "the host drops what it would answer by another interface (strict rp_filter): replies to health checks, and what it routes, when there are several ways",
			"make it loose", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		"interface": {Warning, "interface", "eth0", "it is down", "bring it up", "ip link set dev eth0 up"},
	} {
		got := find(t, r, check)
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		run(t, strings.Fields(got.Command)...)
	}
	well("mended")
}

// TestRedirect finds a veth that nothing can be redirected to.
func TestRedirect(t *testing.T) {
	enter(t)
	veth(t, "eth0", 1500, 1)
	run(t, "ethtool", "-K", "eth0-p", "gro", "off")
	got := find(t, examine(Subjects{Config: parse(t, eth0)}, real), "xdp_redirect")
	if got.Status != Warning || got.Command != "ethtool -K PEER gro on" {
		t.Errorf("%+v", got)
	}
	if lines := linesOf(examine(Subjects{Config: parse(t, eth0+"[dataplane]\nflow_memo = \"off\"\n")}, real), "xdp_redirect"); len(lines) > 0 {
		t.Errorf("without flow memos: %q", lines)
	}
}

// TestKinds asserts what is said of interfaces that stand on others.
func TestKinds(t *testing.T) {
	enter(t)
	below := veth(t, "eth0", 1500, 1)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "over", below.Attrs().Index
	must(t, netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	attrs = netlink.NewLinkAttrs()
	attrs.Name = "br0"
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	r := examine(Subjects{Config: parse(t, eth0+"[[interface]]\nname = \"over\"\n[[interface]]\nname = \"br0\"\n[[interface]]\nname = \"gone\"\n")}, real)
	compare(t, r, []string{"interface_kind"},
		"ok interface_kind eth0: it stands on no other interface (veth)",
		"warning interface_kind br0: it is a bridge, with generic XDP only, and sees what is for the bridge itself alone",
		"warning interface_kind over: it is a macvlan on another interface, with generic XDP only",
	)
	if got := find(t, r, "interface"); got.Subject != "gone" || got.Found != "there is no such interface" || got.Command != "ip -br link" {
		t.Errorf("%+v", got)
	}
}

// TestKindsThatKernelsMayLack asserts what is said of a bond and of a VLAN, which
// the kernel that the test runs on need not have.
func TestKindsThatKernelsMayLack(t *testing.T) {
	d := &doctor{}
	for _, link := range []netlink.Link{&netlink.Bond{}, &netlink.Vlan{}, &netlink.GenericLink{LinkType: "team"}, &netlink.IPVlan{}} {
		d.kind(&nic{Interface: &configs.Interface{Name: link.Type()}, link: link})
	}
	compare(t, Report{Findings: d.found}, []string{"interface_kind"},
		"warning interface_kind bond: it is a bond: AF_XDP has no zero copy on it, and which member a frame came by cannot be told",
		"warning interface_kind ipvlan: it is an ipvlan on another interface, with generic XDP only",
		"warning interface_kind team: it is a team device, with generic XDP only",
		"warning interface_kind vlan: it is a VLAN on another interface, with generic XDP only",
	)
	for _, f := range d.found {
		if f.Advice == "" {
			t.Errorf("no advice: %+v", f)
		}
	}
}

// TestTunnelRoom compares tunnels' headers with the MTU.
func TestTunnelRoom(t *testing.T) {
	enter(t)
	veth(t, "eth0", 1500, 1)
	service := `
[tunnel]
source_ipv4 = "198.18.10.1"
[[pool]]
name = "web"
[[pool.backend]]
address = "198.18.10.11"
[[service]]
name = "web"
vip = "198.18.0.10"
protocol = "tcp"
port = 80
pool = "web"
method = "gue"
`
	got := find(t, examine(Subjects{Config: parse(t, eth0+service)}, real), "tunnel_mtu")
	want := Finding{Warning, "tunnel_mtu", "eth0", "tunnels add 32 bytes, and no interface carries more than 1500: clients' full-sized packets do not fit and must be sent smaller",
		"raise the MTU of the way to the backends, on every switch and backend of it first", "ip link set dev eth0 mtu 1532"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	run(t, strings.Fields(got.Command)...)
	compare(t, examine(Subjects{Config: parse(t, eth0+service)}, real), []string{"tunnel_mtu"},
		"ok tunnel_mtu eth0: packets of 1500 bytes and 32 of tunnel headers fit its MTU of 1532")
}
