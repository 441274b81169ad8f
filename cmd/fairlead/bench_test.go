package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead/cmd/fairlead/internal/selftest"
	"fairlead/dataplane/packet/packettest"
	"fairlead/perf/lab"
)

// benchLab is a host with two queues, cabled to another.
func benchLab(t *testing.T) (node, peer *lab.Interface) {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := l.AddHost("node")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.AddHost("peer")
	if err != nil {
		t.Fatal(err)
	}
	node, peer, err = l.Cable(a, "eth0", b, "eth0", lab.LinkConfig{Queues: 2})
	if err != nil {
		t.Fatal(err)
	}
	return node, peer
}

// benchOn runs `fairlead bench` on a host.
func benchOn(t *testing.T, at *lab.Interface, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, append([]string{"bench", "--duration", "100ms"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	p, err := at.Host.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Wait(ctx)
	return out.String(), errs.String(), err
}

func benchReport(t *testing.T, at *lab.Interface, args ...string) *selftest.Interface {
	t.Helper()
	stdout, stderr, err := benchOn(t, at, append(args, "-o", "json")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	var r selftest.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if r.Interface == nil || r.Memory != nil || r.CPUs < 1 || r.Kernel == "" {
		t.Fatalf("report %s", stdout)
	}
	return r.Interface
}

// TestBenchInMemory measures as shortly as can be: every case is there.
func TestBenchInMemory(t *testing.T) {
	result := fairlead(t, t.TempDir(), "bench", "--duration", "10ms", "--flows", "1,5000", "-o", "json")
	if result.code != 0 {
		t.Fatalf("status %d\n%s", result.code, result.stderr)
	}
	var r selftest.Report
	if err := json.Unmarshal([]byte(result.stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, result.stdout)
	}
	if want := 4 * 2 * 2; len(r.Memory) != want || strings.Count(result.stderr, "in memory: ") != want {
		t.Fatalf("%d results, want %d:\n%s", len(r.Memory), want, result.stderr)
	}
	if r.Interface != nil || r.CPUs < 1 || r.Kernel == "" {
		t.Errorf("report %s", result.stdout)
	}
	for _, m := range r.Memory {
		if m.One.NS <= 0 || m.One.Mpps <= 0 || (m.All != nil) != (r.CPUs > 1) || m.All != nil && m.All.All <= 0 {
			t.Errorf("%+v, %+v", m, m.All)
		}
	}
}

// TestBenchLooks asserts that without --traffic an interface is looked at only.
func TestBenchLooks(t *testing.T) {
	node, _ := benchLab(t)
	i := benchReport(t, node, "--interface", "eth0")
	if i.Name != "eth0" || i.Driver != "veth" || i.MTU != 1500 || i.MAC != node.MAC.String() || i.Queues.RX != 2 || i.Queues.TX != 2 || i.Rings != nil || i.Traffic != nil {
		t.Errorf("%+v", i)
	}
	note := "note: interface eth0: driver veth, MTU 1500, 2 of its queues are used, address " + node.MAC.String()
	if !slices.Contains(i.Findings, note) {
		t.Errorf("findings %q lack %q", i.Findings, note)
	}
	stdout, _, err := benchOn(t, node, "--interface", "eth0")
	if err != nil || !strings.Contains(stdout, "\neth0: driver veth, MTU 1500, address ") || !strings.Contains(stdout, "Nothing was received or sent: see --traffic.\n") {
		t.Errorf("%v:\n%s", err, stdout)
	}
}

// TestBenchTraffic has the interface receive and send: nothing leaves it before
// it is asked to, what does is what the manual says, and nothing stays.
func TestBenchTraffic(t *testing.T) {
	node, peer := benchLab(t)
	seen, err := peer.Host.PacketConn(peer.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	i := benchReport(t, node, "--interface", "eth0", "--traffic")
	checkBenchTraffic(t, i.Traffic, 0)
	if err := seen.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for frame, err := seen.ReadFrame(); err == nil; frame, err = seen.ReadFrame() {
		if frame[12] == 0x08 && frame[13] == 0x00 {
			t.Fatalf("sent without being asked: %x", frame)
		}
	}
	notAttached(t, node)

	i = benchReport(t, node, "--interface", "eth0", "--traffic", "--transmit", "--to", peer.MAC.String())
	checkBenchTraffic(t, i.Traffic, 2)
	if err := seen.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := seen.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if frame[12] != 0x08 || frame[13] != 0x00 {
			continue
		}
		if err := packettest.Verify(frame); err != nil {
			t.Errorf("%v\n%x", err, frame)
		}
		if !bytes.Equal(frame[:6], peer.MAC) || !bytes.Equal(frame[6:12], node.MAC) || frame[22] != 1 ||
			!bytes.Equal(frame[26:34], []byte{198, 18, 0, 1, 198, 18, 0, 2}) || len(frame) != 60 {
			t.Errorf("sent %x", frame)
		}
		break
	}
	notAttached(t, node)
	stdout, stderr, err := benchOn(t, node, "--interface", "eth0", "--traffic", "--transmit", "--to", peer.MAC.String())
	if err != nil || !strings.Contains(stdout, "XDP mode: native") || !strings.Contains(stdout, "AF_XDP: copy mode (") {
		t.Errorf("%v:\n%s%s", err, stdout, stderr)
	}
}

func checkBenchTraffic(t *testing.T, r *selftest.Traffic, sending int) {
	t.Helper()
	if r == nil || r.XDPMode != "native" || r.ZeroCopy || r.CopyReason == "" || len(r.Transmit) != sending {
		t.Fatalf("%+v", r)
	}
	if q := r.Receive; q.Queue != 0 || q.Mpps <= 0 || q.NS <= 0 || q.Offered < q.Mpps {
		t.Errorf("received: %+v", q)
	}
	for n, q := range r.Transmit {
		if q.Queue != n || q.Mpps <= 0 || q.NS <= 0 {
			t.Errorf("sent: %+v", q)
		}
	}
}

// notAttached asserts that an interface has no XDP program any more.
func notAttached(t *testing.T, at *lab.Interface) {
	t.Helper()
	link, err := at.Host.Netlink().LinkByName(at.Name)
	if err != nil {
		t.Fatal(err)
	}
	if x := link.Attrs().Xdp; x != nil && x.Attached {
		t.Errorf("program %d is still attached", x.ProgId)
	}
}

// TestBenchRefuses asserts what is said when a test cannot be made.
func TestBenchRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--traffic"}, "fairlead: traffic needs an interface: name it with --interface\n"},
		{[]string{"--transmit"}, "fairlead: --transmit needs --to, the Ethernet address to send to\n"},
		{[]string{"--to", "02:00:00:00:00:01"}, "fairlead: --to says where frames are sent: it needs --transmit\n"},
		{[]string{"--transmit", "--to", "peer"}, "fairlead: --to: \"peer\" is no Ethernet address\n"},
		{[]string{"--interface", "eth0", "--transmit", "--to", "02:00:00:00:00:01"}, "fairlead: frames are sent only when traffic is asked for as well: add --traffic\n"},
		{[]string{"--duration", "1h"}, "fairlead: a measurement takes 10ms to 10s, not 1h0m0s\n"},
		{[]string{"--flows", "0"}, "fairlead: there can be 1 to 10000000 flows, not [0]\n"},
		{[]string{"-o", "xml"}, "fairlead: invalid argument \"xml\" for \"-o, --output\" flag: it is table, wide, json or yaml\n"},
	} {
		code := 2
		if strings.Contains(c.want, "a measurement takes") || strings.Contains(c.want, "there can be") || strings.Contains(c.want, "traffic") {
			code = 1 // what the measurement itself refuses
		}
		r := fairlead(t, t.TempDir(), append([]string{"bench"}, c.args...)...)
		if r.code != code || r.stderr != c.want || r.stdout != "" {
			t.Errorf("%q: status %d\n%s%swant %s", c.args, r.code, r.stdout, r.stderr, c.want)
		}
	}
}

// TestBenchInterfaceInUse asserts that the program of somebody else, here of
// another test, is left alone.
func TestBenchInterfaceInUse(t *testing.T) {
	node, _ := benchLab(t)
	cmd := exec.Command(program, "bench", "--interface", "eth0", "--traffic", "--duration", "10s")
	first, err := node.Host.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := first.WaitOutput(ctx, "receiving on queue 0 of eth0"); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := benchOn(t, node, "--interface", "eth0", "--traffic")
	if want := "; stop what uses it, perhaps a running Fairlead, before this test\n"; err == nil || !strings.HasSuffix(stderr, want) {
		t.Errorf("%v: %s", err, stderr)
	}
	// Told to end, it takes its program off.
	if err := first.Stop(10 * time.Second); err != nil {
		t.Logf("interrupted: %v", err)
	}
	notAttached(t, node)
}
