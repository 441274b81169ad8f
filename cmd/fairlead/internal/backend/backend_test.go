package backend_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
	"fairlead/perf/lab/traffic"
	"fairlead/perf/rig"
	"fairlead/xdp/decap"
)

var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairlead-backend-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = rig.Build(dir); err == nil {
		err = os.Chmod(dir, 0o755) // a test runs the binary as another user
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

var (
	balancer = netip.MustParseAddr("198.18.0.1")
	server   = netip.MustParseAddr("198.18.0.11")
	client   = netip.MustParseAddr("198.18.20.2")
	vip4     = netip.MustParseAddr("198.18.100.1")
	vip6     = netip.MustParseAddr("2001:db8:100::1")
)

// world is a backend beside a load balancer that a test plays.
type world struct {
	t        *testing.T
	ctx      context.Context
	lab      *lab.Lab
	backend  *lab.Host
	eth0     *lab.Interface // the backend's
	balancer *lab.Interface // the load balancer's, on the same cable
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, ctx: ctx, lab: l}
	w.backend = w.host("b1")
	lb := w.host("lb")
	w.eth0, w.balancer = w.cable(w.backend, "eth0", lb, "eth0")
	for _, p := range []struct {
		on *lab.Interface
		a  netip.Addr
	}{{w.eth0, server}, {w.balancer, balancer}} {
		if err := p.on.AddAddress(netip.PrefixFrom(p.a, 24)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.backend.AddDefaultRoute(balancer); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) host(name string) *lab.Host {
	w.t.Helper()
	h, err := w.lab.AddHost(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

func (w *world) cable(a *lab.Host, aName string, b *lab.Host, bName string) (*lab.Interface, *lab.Interface) {
	w.t.Helper()
	x, y, err := w.lab.Cable(a, aName, b, bName, lab.LinkConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	return x, y
}

// command is `fairlead backend` with arguments.
func command(args ...string) *exec.Cmd {
	return exec.Command(binary, append([]string{"backend"}, args...)...)
}

// start runs `fairlead backend` until it is ready.
func (w *world) start(cmd *exec.Cmd) *lab.Process {
	w.t.Helper()
	p, err := w.backend.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.WaitOutput(w.ctx, "backend is ready"); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// stop asks the process to end, which must succeed, and returns what it said.
func (w *world) stop(p *lab.Process) string {
	w.t.Helper()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	if err := p.Wait(w.ctx); err != nil {
		w.t.Errorf("%v\n%s", err, p.Output())
	}
	return string(p.Output())
}

// refused runs `fairlead backend`, which must fail with the given message.
func (w *world) refused(cmd *exec.Cmd, want string) {
	w.t.Helper()
	p, err := w.backend.Start(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	status := "exit status 1"
	if strings.HasPrefix(want, "unknown command") {
		status = "exit status 2"
	}
	if err := p.Wait(w.ctx); err == nil || err.Error() != status {
		w.t.Errorf("%v: %v, want %s", cmd.Args[1:], err, status)
	}
	var errors []string // log lines begin with the time
	for line := range strings.Lines(string(p.Output())) {
		if !strings.HasPrefix(line, "time=") {
			errors = append(errors, line)
		}
	}
	if got := strings.Join(errors, ""); got != "fairlead: "+want+"\n" {
		w.t.Errorf("%v:\n%s\nwant: fairlead: %s", cmd.Args[1:], got, want)
	}
}

// state is all that `fairlead backend` may change.
func (w *world) state() string {
	w.t.Helper()
	var b strings.Builder
	links, err := w.backend.Netlink().LinkList()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range links {
		fmt.Fprintf(&b, "%s xdp %v\n", l.Attrs().Name, l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached)
		addrs, err := w.backend.Netlink().AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() {
				fmt.Fprintf(&b, "%s %s\n", l.Attrs().Name, a.IPNet)
			}
		}
		for _, conf := range []string{"all", l.Attrs().Name} {
			for _, name := range []string{"arp_ignore", "arp_announce", "rp_filter"} {
				value, err := w.backend.ReadSysctl("net.ipv4.conf." + conf + "." + name)
				if err != nil {
					w.t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s %s %s\n", conf, name, value)
			}
		}
	}
	return b.String()
}

// has says whether all lines are in a state.
func has(state string, lines ...string) bool {
	for _, line := range lines {
		if !strings.Contains("\n"+state, "\n"+line+"\n") {
			return false
		}
	}
	return true
}

// question is a frame from the load balancer: a UDP packet of the client to the
// VIP, wrapped in IPv4.
func (w *world) question(t *testing.T, from netip.Addr, text string) []byte {
	t.Helper()
	inner := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: client.AsSlice(), DstIP: vip4.AsSlice()}
	udp := &layers.UDP{SrcPort: 4000, DstPort: 53}
	if err := udp.SetNetworkLayerForChecksum(inner); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: w.balancer.MAC, DstMAC: w.eth0.MAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolIPv4, SrcIP: from.AsSlice(), DstIP: server.AsSlice()},
		inner, udp, gopacket.Payload(text))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// ask sends tunnelled questions from addresses, and returns when the one from the
// load balancer, which must be the last, is answered as a client wants it.
func (w *world) ask(from ...netip.Addr) {
	w.t.Helper()
	wire, err := w.balancer.Host.PacketConn("eth0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer wire.Close()
	if err := wire.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	for _, a := range from {
		if err := wire.WriteFrame(w.question(w.t, a, "a question from "+a.String())); err != nil {
			w.t.Fatal(err)
		}
	}
	for {
		frame, err := wire.ReadFrame()
		if err != nil {
			w.t.Fatalf("no answer: %v", err)
		}
		if !bytes.Contains(frame, []byte("a question from ")) {
			continue // the stack's own
		}
		if !bytes.HasSuffix(frame, []byte("a question from "+balancer.String())) {
			w.t.Fatal("a question from elsewhere was answered")
		}
		ip := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if !ip.SrcIP.Equal(net.IP(vip4.AsSlice())) || !ip.DstIP.Equal(net.IP(client.AsSlice())) {
			w.t.Errorf("the answer goes from %v to %v", ip.SrcIP, ip.DstIP)
		}
		return
	}
}

// TestServes has a real server answer a tunnelled question straight to the
// client, and none that comes from elsewhere; in the end all is as it was.
func TestServes(t *testing.T) {
	w := newWorld(t)
	// Strict filtering and no silence, as distributions have it.
	for _, s := range []string{"all.rp_filter", "eth0.rp_filter"} {
		if err := w.backend.Sysctl("net.ipv4.conf."+s, "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := w.state()
	p := w.start(command("--interface", "eth0", "--vip", vip4.String(), "--vip", vip6.String(), "--from", balancer.String(), "--report", "10ms"))
	if s := w.state(); !has(s, "eth0 xdp true", "lo "+vip4.String()+"/32", "lo "+vip6.String()+"/128",
		"all arp_ignore 1", "eth0 arp_ignore 1", "all arp_announce 2", "eth0 arp_announce 2", "eth0 rp_filter 2") {
		t.Errorf("while it runs:\n%s", s)
	}
	if _, err := traffic.ServeUDP(w.backend, netip.AddrPortFrom(vip4, 53).String()); err != nil {
		t.Fatal(err)
	}
	w.ask(netip.MustParseAddr("198.18.0.99"), balancer)
	// The counters are told while it runs, and at the end.
	if err := p.WaitOutput(w.ctx, "ipip_4in4=1"); err != nil {
		t.Error(err)
	}
	said := w.stop(p)
	if !regexp.MustCompile(`(?m)^time=\S+ level=INFO msg="backend stops"\n` +
		`time=\S+ level=INFO msg=packets interface=eth0 decapsulated=1 (passed=\d+ )?ipip_4in4=1 rejected_source=1\n$`).MatchString(said) {
		t.Errorf("it ended with:\n%s", said)
	}
	if strings.Contains(said, "WARN") {
		t.Errorf("it warns:\n%s", said)
	}
	if after := w.state(); after != before {
		t.Errorf("it left:\n%s\nthere was:\n%s", after, before)
	}
}

// TestNoProgram is a backend of l2 services only.
func TestNoProgram(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	p := w.start(command("-i", "eth0", "--vip", vip4.String(), "--mode", "none"))
	if s := w.state(); !has(s, "eth0 xdp false", "lo "+vip4.String()+"/32", "all arp_ignore 1", "all arp_announce 2") {
		t.Errorf("while it runs:\n%s", s)
	}
	if said := w.stop(p); strings.Contains(said, "msg=packets") || strings.Contains(said, "WARN") {
		t.Errorf("it said:\n%s", said)
	}
	if after := w.state(); after != before {
		t.Errorf("it left:\n%s\nthere was:\n%s", after, before)
	}
}

// TestWarnings leaves out what keeps strangers' packets off.
func TestWarnings(t *testing.T) {
	w := newWorld(t)
	said := w.stop(w.start(command("-i", "eth0", "--mode", "generic")))
	for _, want := range []string{
		`level=INFO msg="decapsulation attached" interface=eth0 mode=generic frags=false adopted=false reason=""`,
		`level=WARN msg="tunnel packets are accepted from anywhere: name the load balancers with --from"`,
		`level=WARN msg="every tunnel packet to this machine is taken, and no VIP is added to lo: name the VIPs with --vip"`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %s in:\n%s", want, said)
		}
	}
}

// TestSeveralInterfaces is a backend with two ways to it, given as a list.
func TestSeveralInterfaces(t *testing.T) {
	w := newWorld(t)
	w.cable(w.backend, "eth1", w.balancer.Host, "eth1")
	before := w.state()
	p := w.start(command("--interface", "eth0,eth1", "--vip", vip4.String()+","+vip6.String(), "--from", balancer.String()))
	if s := w.state(); !has(s, "eth0 xdp true", "eth1 xdp true", "eth1 arp_ignore 1", "eth0 arp_ignore 1") {
		t.Errorf("while it runs:\n%s", s)
	}
	if said := w.stop(p); strings.Count(said, "msg=packets") != 2 {
		t.Errorf("it said:\n%s", said)
	}
	if after := w.state(); after != before {
		t.Errorf("it left:\n%s\nthere was:\n%s", after, before)
	}
}

// TestRefusals are starts that cannot succeed; they change nothing, and nothing
// of what another process has made.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	w.refused(command("--interface", "eth7", "--vip", vip4.String()), "interface eth7: no such network interface")
	w.refused(command("--interface", "eth0,eth7", "--vip", vip4.String()), "interface eth7: no such network interface")
	w.refused(command("--vip", vip4.String()), "--interface is needed: name the interface that load balancers' packets arrive on")
	w.refused(command("--interface", "eth0", "extra"), `unknown command "extra" for "fairlead backend"`)
	nobody := command("--interface", "eth0", "--vip", vip4.String())
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	w.refused(nobody, "CAP_NET_ADMIN and CAP_BPF missing: run it as root, or give it the capabilities")
	if after := w.state(); after != before {
		t.Errorf("refused starts left:\n%s\nthere was:\n%s", after, before)
	}

	first := w.start(command("--interface", "eth0", "--vip", vip4.String(), "--from", balancer.String()))
	before = w.state()
	w.refused(command("--interface", "eth0", "--vip", vip4.String()),
		"another fairlead backend runs on this machine; one serves several interfaces and VIPs")
	if after := w.state(); after != before {
		t.Errorf("a second start made:\n%s\nthere was:\n%s", after, before)
	}
	w.stop(first)

	var other *decap.Decap
	err := w.backend.Do(func() (err error) {
		other, err = decap.Attach(w.eth0.Index, "eth0", decap.Config{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	before = w.state()
	w.refused(command("--interface", "eth0", "--vip", vip4.String()),
		"attach decapsulation to eth0: another XDP program is attached to the interface")
	if after := w.state(); after != before {
		t.Errorf("beside another program:\n%s\nthere was:\n%s", after, before)
	}
}

// TestCapabilities runs without root, with the two capabilities that it asks
// for.
func TestCapabilities(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	cmd := command("--interface", "eth0", "--vip", vip4.String(), "--vip", vip6.String(), "--from", balancer.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_BPF},
	}
	p := w.start(cmd)
	if s := w.state(); !has(s, "eth0 xdp true", "lo "+vip4.String()+"/32", "lo "+vip6.String()+"/128", "all arp_ignore 1") {
		t.Errorf("while it runs:\n%s", s)
	}
	w.stop(p)
	if after := w.state(); after != before {
		t.Errorf("it left:\n%s\nthere was:\n%s", after, before)
	}
}

// TestInterfaceGone ends with an error when there is nothing left to do, and
// takes the VIPs away all the same.
func TestInterfaceGone(t *testing.T) {
	w := newWorld(t)
	p := w.start(command("--interface", "eth0", "--vip", vip4.String(), "--from", balancer.String()))
	if err := w.eth0.Delete(); err != nil {
		t.Fatal(err)
	}
	// A new interface of the same name has no program.
	w.cable(w.backend, "eth0", w.balancer.Host, "eth0")
	if err := p.Wait(w.ctx); err == nil || err.Error() != "exit status 1" {
		t.Errorf("it ended with %v", err)
	}
	const want = "\nfairlead: interface eth0 is gone, or another has its name\n"
	if out := string(p.Output()); !strings.HasSuffix(out, want) {
		t.Errorf("it said:\n%s", out)
	}
	if s := w.state(); !has(s, "eth0 xdp false", "all arp_ignore 0", "all arp_announce 0") || strings.Contains(s, vip4.String()) {
		t.Errorf("it left:\n%s", s)
	}
}

// TestKilled starts it anew after it was killed: it takes over what it finds.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	args := []string{"--interface", "eth0", "--vip", vip4.String(), "--vip", vip6.String(), "--from", balancer.String()}
	p := w.start(command(args...))
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if s := w.state(); !has(s, "eth0 xdp false", "lo "+vip4.String()+"/32", "all arp_ignore 1") {
		t.Errorf("a killed process left:\n%s", s)
	}
	p = w.start(command(args...))
	if s := w.state(); !has(s, "eth0 xdp true", "lo "+vip4.String()+"/32", "lo "+vip6.String()+"/128") {
		t.Errorf("while it runs again:\n%s", s)
	}
	w.stop(p)
	if s := w.state(); !has(s, "eth0 xdp false") || strings.Contains(s, vip4.String()) || strings.Contains(s, vip6.String()) {
		t.Errorf("it left:\n%s", s)
	}
}

// TestPinned is killed and goes on serving; the next process takes over, and
// its end is the end of all.
func TestPinned(t *testing.T) {
	w := newWorld(t)
	bpffs := t.TempDir()
	if err := unix.Mount("bpf", bpffs, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(bpffs, unix.MNT_DETACH)
	args := []string{"--interface", "eth0", "--vip", vip4.String(), "--from", balancer.String(), "--pin", bpffs + "/backend"}
	p := w.start(command(args...))
	if _, err := traffic.ServeUDP(w.backend, netip.AddrPortFrom(vip4, 53).String()); err != nil {
		t.Fatal(err)
	}
	w.ask(balancer)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	w.ask(netip.MustParseAddr("198.18.0.99"), balancer)
	p = w.start(command(args...))
	if out := string(p.Output()); !strings.Contains(out, "adopted=true") {
		t.Errorf("it said:\n%s", out)
	}
	w.ask(balancer)
	w.stop(p)
	if s := w.state(); !has(s, "eth0 xdp false") || strings.Contains(s, vip4.String()) {
		t.Errorf("it left:\n%s", s)
	}
	if left, err := os.ReadDir(bpffs + "/backend"); err != nil || len(left) != 0 {
		t.Errorf("pins are left: %v, %v", left, err)
	}
}
