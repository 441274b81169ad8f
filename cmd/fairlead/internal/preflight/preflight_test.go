package preflight

import (
	"fmt"
	"os/user"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/configs"
)

// machine is a network namespace that the rest of the test runs in.
type machine struct{ t *testing.T }

// newMachine enters a new network namespace. The thread is never given back,
// so that no other goroutine comes to run in it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (needs root): %v", err)
	}
	return &machine{t}
}

// veth makes an interface of so many queues, whose other end is name with "-p".
func (m *machine) veth(name string, mtu, queues int) netlink.Link {
	m.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.NumRxQueues, attrs.NumTxQueues = name, mtu, queues, queues
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "-p"}
	if err := netlink.LinkAdd(v); err != nil {
		m.t.Fatal(err)
	}
	for _, end := range []string{name, name + "-p"} {
		link, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		m.t.Fatal(err)
	}
	return link
}

func (m *machine) address(link netlink.Link, cidr string) {
	m.t.Helper()
	a, err := netlink.ParseAddr(cidr)
	if err == nil {
		a.Flags = unix.IFA_F_NODAD
		err = netlink.AddrAdd(link, a)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func parse(t *testing.T, text string) *configs.Config {
	t.Helper()
	cfg, err := configs.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// listed are the findings as lines, without notes and what depends on the
// machine that the test runs on.
func listed(found []Finding) []string {
	var out []string
	for _, f := range found {
		if f.Level != Note && f.Subject != "kernel" && f.Subject != "memory" && !strings.HasPrefix(f.Subject, "pin_path") {
			out = append(out, fmt.Sprintf("%s: %s", f.Level, f))
		}
	}
	return out
}

func compare(t *testing.T, found []Finding, want ...string) {
	t.Helper()
	if got := listed(found); !slices.Equal(got, want) {
		t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const service = `
[[pool]]
name = "web"
[[pool.backend]]
address = "198.18.10.11:80"
[[snat]]
address = "198.18.10.2"
[[service]]
name = "web"
vip = "198.18.0.10"
protocol = "tcp"
port = 80
pool = "web"
`

// TestGoodMachine finds nothing to complain of, and says what there is.
func TestGoodMachine(t *testing.T) {
	m := newMachine(t)
	link := m.veth("eth0", 1500, 2)
	m.address(link, "198.18.10.1/24")
	cfg := parse(t, service+"[[interface]]\nname = \"eth0\"\n")
	found := Machine(cfg)
	compare(t, found)
	if err := Errors(found); err != nil {
		t.Error(err)
	}
	compare(t, Routes(cfg))
	want := fmt.Sprintf("interface eth0: driver veth, MTU 1500, 2 of its queues are used, address %s", link.Attrs().HardwareAddr)
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Note && f.String() == want }) {
		t.Errorf("no note %q in %v", want, found)
	}
	memory := "memory: packets of 2 queues take 32 MiB, the flow table up to "
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Note && strings.HasPrefix(f.String(), memory) }) {
		t.Errorf("no note %q in %v", memory, found)
	}
}

// TestInterfaces asserts what is said of interfaces that will not do.
func TestInterfaces(t *testing.T) {
	m := newMachine(t)
	m.veth("few", 1500, 2)
	m.veth("some", 1500, 4)
	m.veth("large", 3000, 1)
	down := m.veth("down", 1500, 1)
	if err := netlink.LinkSetDown(down); err != nil {
		t.Fatal(err)
	}
	m.veth("cut", 1500, 1)
	peer, err := netlink.LinkByName("cut-p")
	if err == nil {
		err = netlink.LinkSetDown(peer)
	}
	if err != nil {
		t.Fatal(err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	port := m.veth("port", 1500, 1)
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		t.Fatal(err)
	}
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatal(err)
	}
	found := Machine(parse(t, `
[[interface]]
name = "absent"
[[interface]]
name = "few"
queues = 3
zero_copy = "on"
[[interface]]
name = "some"
queues = 3
[[interface]]
name = "large"
[[interface]]
name = "down"
[[interface]]
name = "cut"
[[interface]]
name = "port"
[[interface]]
name = "br0"
xdp_mode = "native"
[[interface]]
name = "tun0"
[[interface]]
name = "lo"
`))
	compare(t, found,
		"error: interface absent: there is no such interface",
		"error: interface few: it has 2 queues, the configuration wants 3: change it with `ethtool -L few combined 3`",
		"error: interface tun0: it is no Ethernet interface (none)",
		"error: interface lo: it is the loopback interface, which no traffic comes in by",
		"warning: interface few: driver veth is not known to have zero copy, which the configuration insists on",
		"warning: interface some: 1 of its 4 queues have no worker; VIP traffic that arrives there meets the fail action",
		"warning: interface large: its frames of up to 3022 bytes do not fit: 2048 less 512 of headroom leave 1536, and longer ones are dropped; set frame_size = 4096 or lower the MTU",
		"warning: interface down: it is down",
		"warning: interface cut: it has no carrier",
		"warning: interface port: it belongs to br0, which no longer sees traffic for VIPs",
		"warning: interface br0: it is down",
		"warning: interface br0: driver bridge is not known to have native XDP, which the configuration insists on",
	)
	want := "interface absent: there is no such interface\n" +
		"interface few: it has 2 queues, the configuration wants 3: change it with `ethtool -L few combined 3`\n" +
		"interface tun0: it is no Ethernet interface (none)\n" +
		"interface lo: it is the loopback interface, which no traffic comes in by"
	if err := Errors(found); err == nil || err.Error() != want {
		t.Errorf("errors %v, want %s", err, want)
	}
	compare(t, Machine(parse(t, "")), "error: interfaces: none is configured: name at least one in [[interface]]")
}

// TestAddresses finds the addresses that the host has itself, and backends
// without a way.
func TestAddresses(t *testing.T) {
	m := newMachine(t)
	link := m.veth("eth0", 1500, 1)
	other := m.veth("eth1", 1500, 1)
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.address(link, "198.18.10.2/24")
	m.address(link, "2001:db8:10::2/64")
	m.address(other, "198.18.20.1/24")
	m.address(lo, "198.18.0.10/32")
	cfg := parse(t, service+`
[[interface]]
name = "eth0"
[[neighbor]]
address = "192.0.2.9"
mac = "02:00:00:00:00:09"
interface = "eth0"
[[snat]]
address = "2001:db8:10::1-2001:db8:10::3"
[[vip]]
address = "198.18.0.10"
[[pool]]
name = "far"
[[pool.backend]]
address = "198.18.20.11"
name = "beside"
[[pool.backend]]
address = "192.0.2.1"
name = "nowhere"
[[pool.backend]]
address = "192.0.2.9"
[[pool.backend]]
address = "2001:db8:10::11"
`)
	compare(t, Machine(cfg),
		"error: snat 198.18.10.2: the host has this address itself, on eth0: replies to the host's own connections would be taken from it",
		"error: snat 2001:db8:10::2: the host has this address itself, on eth0: replies to the host's own connections would be taken from it",
		"warning: vip 198.18.0.10: the host has this address itself, on lo: what it serves there is no longer reached through Fairlead's interfaces",
	)
	compare(t, Routes(cfg),
		"warning: backend beside of pool far: the way to it is through eth1, which is none of Fairlead's interfaces",
		"warning: backend nowhere of pool far: no route to it",
	)
	gateway := parse(t, strings.Replace(service, "198.18.10.11", "192.0.2.1", 1)+"[[interface]]\nname = \"eth0\"\ngateway = \"198.18.10.254\"\n")
	compare(t, Routes(gateway))
}

// TestUser asserts what is said of the data process's user.
func TestUser(t *testing.T) {
	m := newMachine(t)
	m.veth("eth0", 1500, 1)
	const tail = "\n[[interface]]\nname = \"eth0\"\n"
	compare(t, Machine(parse(t, "[dataplane]\nuser = \"no-such-user\""+tail)), "error: user no-such-user: there is no such user for the data process")
	compare(t, Machine(parse(t, "[dataplane]\nuser = \"65533\""+tail)))
	if nobody, err := user.Lookup("nobody"); err != nil || nobody.Uid == "0" {
		t.Errorf("the default user: %+v, %v", nobody, err)
	}
}

// TestLimits asserts what is said when rights, memory and CPUs are lacking.
func TestLimits(t *testing.T) {
	m := newMachine(t)
	m.veth("eth0", 1500, 256) // 1 TiB of frames
	cfg := parse(t, "[dataplane]\nhuge_pages = true\ncpus = [0, 4000]\nframes = 1048576\nframe_size = 4096\nflow_table_size = 100000000\n[[interface]]\nname = \"eth0\"\n")
	found := Machine(cfg)
	for _, want := range []string{"memory: that is more than the ", "huge_pages: ", "cpus: there is no CPU 4000; its workers run wherever the scheduler likes"} {
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Warning && strings.HasPrefix(f.String(), want) }) {
			t.Errorf("no warning %q in %v", want, found)
		}
	}
	dropCapabilities(t)
	found = Machine(cfg)
	want := "capabilities: this process lacks CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, which `fairlead run` needs"
	if !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Warning && f.String() == want }) {
		t.Errorf("no warning %q in %v", want, found)
	}
}

// dropCapabilities takes the effective capabilities of this thread, which ends
// with the test.
func dropCapabilities(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
}

// TestPinPath tells a BPF file system from another.
func TestPinPath(t *testing.T) {
	newMachine(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pins := func() []Finding {
		c := &checker{cfg: parse(t, fmt.Sprintf("[xdp]\npin_path = %q\n", dir+"/a/b"))}
		c.pinPath()
		return c.found
	}
	if got := pins(); len(got) != 1 || got[0].Level != Note || got[0].Text != "it is on no BPF file system yet; run mounts one" {
		t.Errorf("an ordinary folder: %v", got)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	if got := pins(); len(got) != 0 {
		t.Errorf("a BPF file system: %v", got)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	dropCapabilities(t)
	if got := pins(); len(got) != 1 || got[0].Level != Warning || got[0].Text != "it is on no BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf" {
		t.Errorf("without the right to mount: %v", got)
	}
	c := &checker{cfg: parse(t, "[xdp]\npin_path = \"\"\n")}
	if c.pinPath(); len(c.found) != 1 || c.found[0].Level != Note {
		t.Errorf("no pin path: %v", c.found)
	}
}
