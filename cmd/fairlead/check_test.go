package main_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestCheckFile checks the file alone.
func TestCheckFile(t *testing.T) {
	for _, c := range []struct {
		name, config string
		code         int
		out, err     string
	}{
		{"good", replayConfig, 0, "f.toml: 2 services, 2 pools, 2 backends; 0 errors, 0 warnings\n", ""},
		{"several errors", "nonsense = 1\n[dataplane]\nring_size = 1000\n", 1,
			"error: f.toml:1:1: unknown key \"nonsense\" before the first table\n" +
				"error: f.toml:3:13: ring_size: 1000 is not a power of two\n",
			"fairlead: f.toml: 2 errors\n"},
		{"a pool without backends", "[[pool]]\nname = \"p\"\n[[service]]\nname = \"s\"\nvip = \"198.18.0.1\"\nprotocol = \"tcp\"\nport = 1\npool = \"p\"\nmethod = \"l2\"\n", 0,
			"warning: configuration: service \"s\": no backend of pool \"p\" may be chosen\n" +
				"f.toml: 1 service, 1 pool, 0 backends; 0 errors, 1 warning\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "f.toml", []byte(c.config))
			r := fairlead(t, dir, "check", "--offline", "--config", "f.toml")
			if r.code != c.code || r.stdout != c.out || r.stderr != c.err {
				t.Errorf("exit status %d, output\n%s%s\nwant %d\n%s%s", r.code, r.stdout, r.stderr, c.code, c.out, c.err)
			}
		})
	}
	r := fairlead(t, t.TempDir(), "check", "--config", "absent.toml")
	if want := "fairlead: read configuration: open absent.toml: no such file or directory\n"; r.code != 1 || r.stderr != want {
		t.Errorf("exit status %d, %q, want %q", r.code, r.stderr, want)
	}
}

// emptyMachine moves the test, and all that it starts, into a network namespace
// with the interfaces of replayConfig.
func emptyMachine(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (needs root): %v", err)
	}
	for _, name := range []string{"outside", "inside"} {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name + "-p"}); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{name, name + "-p"} {
			link, err := netlink.LinkByName(end)
			if err == nil {
				err = netlink.LinkSetUp(link)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCheckMachine checks a machine that will do, and one where the host has
// the SNAT address, on which run does not start either.
func TestCheckMachine(t *testing.T) {
	emptyMachine(t)
	dir := t.TempDir()
	write(t, dir, "f.toml", []byte(replayConfig+"[xdp]\npin_path = \"\"\n"))
	r := fairlead(t, dir, "check", "-c", "f.toml")
	if r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "note: interface inside: driver veth, MTU 1500, 1 of its queues are used, address ") ||
		!strings.HasSuffix(r.stdout, "f.toml: 2 services, 2 pools, 2 backends; 0 errors, 0 warnings\n") {
		t.Errorf("a good machine: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	inside, err := netlink.LinkByName("inside")
	if err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr("198.18.10.2/24")
	if err == nil {
		err = netlink.AddrAdd(inside, address)
	}
	if err != nil {
		t.Fatal(err)
	}
	const taken = "snat 198.18.10.2: the host has this address itself, on inside: replies to the host's own connections would be taken from it"
	r = fairlead(t, dir, "check", "-c", "f.toml")
	if r.code != 1 || r.stderr != "fairlead: f.toml: 1 error\n" || !strings.HasPrefix(r.stdout, "error: "+taken+"\n") {
		t.Errorf("check: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r = fairlead(t, dir, "run", "-c", "f.toml", "--socket", "")
	if r.code != 1 || lastLine(r.stderr) != "fairlead: "+taken {
		t.Errorf("run: exit status %d\n%s", r.code, r.stderr)
	}
	if link, err := netlink.LinkByName("inside"); err != nil || link.Attrs().Xdp != nil && link.Attrs().Xdp.Attached {
		t.Errorf("run has attached its program all the same: %v", err)
	}
}
