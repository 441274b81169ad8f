package doctor

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"fairlead/controlplane/api"
)

// run runs a command in the test's namespace.
func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// attach attaches an XDP program of some name until the test ends.
func attach(t *testing.T, index int, name string, flags link.XDPAttachFlags) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}) // XDP_PASS
	must(t, err)
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: flags})
	must(t, err)
	t.Cleanup(func() { l.Close(); p.Close() })
	return p
}

// TestAnotherProgram finds an XDP program that is not the node's.
func TestAnotherProgram(t *testing.T) {
	enter(t)
	index := veth(t, "eth0", 1500, 1).Attrs().Index
	p := attach(t, index, "somebody", link.XDPDriverMode)
	info, err := p.Info()
	must(t, err)
	id, _ := info.ID()
	got := find(t, examine(Subjects{Config: parse(t, eth0)}, real), "xdp_program")
	want := Finding{Error, "xdp_program", "eth0", fmt.Sprintf("another XDP program is attached: somebody (number %d); the node cannot attach its own", id),
		"stop what attached it, or take it off", "ip link set dev eth0 xdp off"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestHiddenProgram looks at XDP programs with the rights of a container, which may
// not find them by their numbers.
func TestHiddenProgram(t *testing.T) {
	enter(t)
	p := attach(t, veth(t, "eth0", 1500, 1).Attrs().Index, programName, link.XDPDriverMode)
	info, err := p.Info()
	must(t, err)
	id, _ := info.ID()
	config := parse(t, eth0)

	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, some [2]unix.CapUserData
	must(t, unix.Capget(&header, &all[0]))
	some = all
	some[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	must(t, unix.Capset(&header, &some[0])) // of this thread, which is locked
	defer func() { must(t, unix.Capset(&header, &all[0])) }()

	compare(t, examine(Subjects{Config: config, Node: &api.Summary{}}, real), []string{"xdp_program"},
		"ok xdp_program eth0: the node's XDP program is attached, in the driver (native)")
	got := find(t, examine(Subjects{Config: config}, real), "xdp_program")
	want := Finding{Warning, "xdp_program", "eth0", fmt.Sprintf("an XDP program is attached (number %d), and only root with CAP_SYS_ADMIN can see which: the node cannot attach its own where there is another", id),
		"look at it on the machine itself", fmt.Sprintf("bpftool prog show id %d", id)}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestModes tells native from generic XDP.
func TestModes(t *testing.T) {
	for _, c := range []struct {
		flags  link.XDPAttachFlags
		config string
		want   string
	}{
		{link.XDPDriverMode, eth0, "ok xdp_program eth0: the node's XDP program is attached, in the driver (native)"},
		{link.XDPGenericMode, eth0, "warning xdp_program eth0: the XDP program runs in the network stack (generic), though the driver has native XDP"},
		{link.XDPGenericMode, eth0 + "xdp_mode = \"generic\"\n", "ok xdp_program eth0: the node's XDP program is attached, in the network stack (generic)"},
	} {
		t.Run("", func(t *testing.T) {
			enter(t)
			attach(t, veth(t, "eth0", 1500, 1).Attrs().Index, programName, c.flags)
			config := parse(t, c.config)
			compare(t, examine(Subjects{Config: config, Node: &api.Summary{}}, real), []string{"xdp_program"}, c.want)
			compare(t, examine(Subjects{Config: config}, real), []string{"xdp_program"},
				"warning xdp_program eth0: the node's XDP program is attached, and no node answers: if none runs, packets to VIPs meet their fail action")
		})
	}
}

// TestFirewall finds rules about VIPs among real ones.
func TestFirewall(t *testing.T) {
	enter(t)
	veth(t, "eth0", 1500, 1)
	cfg := parse(t, eth0+"[[vip]]\naddress = \"198.18.0.10\"\n[[vip]]\naddress = \"2001:db8::10\"\n")
	examined := func() Report { return examine(Subjects{Config: cfg}, real) }
	run(t, "nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ip saddr 0.0.0.0/0 tcp dport 22 accept; add rule inet t c ip daddr 198.18.1.0/24 drop")
	compare(t, examined(), []string{"firewall"}, "ok firewall: the host's firewall has no rule about a VIP")
	run(t, "nft", "add rule inet t c ip6 daddr 2001:db8::/64 drop")
	got := find(t, examined(), "firewall")
	want := Finding{Warning, "firewall", "2001:db8::10", `the host's firewall has a rule about a VIP, which never sees its packets: "ip6 daddr 2001:db8::/64 drop"`, "use source_ranges of the service in its place", ""}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	run(t, "nft", "insert rule inet t c ip daddr { 192.0.2.1, 198.18.0.10 } tcp dport 443 accept")
	if got := find(t, examined(), "firewall"); got.Subject != "198.18.0.10" {
		t.Errorf("%+v", got)
	}
}
