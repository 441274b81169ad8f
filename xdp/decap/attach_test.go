package decap

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestAttachErrors(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	index := near.Attrs().Index
	for _, c := range []struct {
		index int
		cfg   Config
		want  string
	}{
		{index, Config{Mode: "fast"}, `attach decapsulation to eth: unknown mode "fast"`},
		{9999, Config{}, "attach decapsulation to eth: Link not found"},
		{index, Config{VIPs: []netip.Addr{{}}}, "attach decapsulation to eth: VIP invalid IP is not the address of a host"},
		{index, Config{VIPs: []netip.Addr{netip.MustParseAddr("ff02::1")}}, "attach decapsulation to eth: VIP ff02::1 is not the address of a host"},
		{index, Config{LoadBalancers: []netip.Prefix{{}}}, "attach decapsulation to eth: load balancer invalid Prefix is not a prefix"},
	} {
		// A fault of the configuration is none of the mode's.
		for _, mode := range []Mode{ModeNative, ModeGeneric} {
			if c.cfg.Mode == "" || c.cfg.Mode == ModeNative {
				c.cfg.Mode = mode
			}
			if _, err := Attach(c.index, "eth", c.cfg); err == nil || err.Error() != c.want {
				t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
			}
		}
	}

	first, err := Attach(index, "eth", Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{ModeAuto, ModeNative, ModeGeneric} {
		_, err := Attach(index, "eth", Config{Mode: mode})
		if !errors.Is(err, ErrInUse) || err.Error() != "attach decapsulation to eth: another XDP program is attached to the interface" {
			t.Errorf("%s on top of another: %v", mode, err)
		}
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	second, err := Attach(index, "eth", Config{})
	if err != nil {
		t.Fatal(err)
	}
	// Close when the interface is gone already.
	if err := netlink.LinkDel(near); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// TestNativeImpossible falls back to generic mode on an interface whose driver
// has no XDP.
func TestNativeImpossible(t *testing.T) {
	newNamespace(t)
	lo := byName(t, "lo").Attrs().Index
	const want = "native XDP: the driver does not support it, or not with this MTU: operation not supported"
	if _, err := Attach(lo, "lo", Config{Mode: ModeNative}); err == nil || !strings.HasPrefix(err.Error(), "attach decapsulation to lo: with MTU 65536: "+want) {
		t.Errorf("native: %v", err)
	}
	d, err := Attach(lo, "lo", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if a := d.Attached(); a.Mode != ModeGeneric || a.Frags || !strings.Contains(a.Reason, want) {
		t.Errorf("attached %+v", a)
	}
}

// childEnv tells the test binary to be the process of TestCapabilities.
const childEnv = "DECAP_TEST_UNPRIVILEGED"

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		if err := unprivileged(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func unprivileged(arg string) error {
	if os.Geteuid() == 0 {
		return errors.New("still root")
	}
	ifindex, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	h, err := SetupHost("eth", []netip.Addr{vip4, vip6})
	if err != nil {
		return err
	}
	d, err := Attach(ifindex, "eth", config())
	if err != nil {
		return err
	}
	if a := d.Attached(); a.Mode != ModeNative || !a.Frags {
		return fmt.Errorf("attached %+v", a)
	}
	if _, err := d.Counters(); err != nil {
		return err
	}
	return errors.Join(d.Close(), h.Close())
}

// TestCapabilities runs the package in a process of another user with nothing
// but CAP_BPF and CAP_NET_ADMIN. The large MTU makes it load both forms of the
// program.
func TestCapabilities(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 9000)
	const nobody = 65534
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + strconv.Itoa(near.Attrs().Index)}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_NET_ADMIN},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
