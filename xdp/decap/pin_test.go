package decap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newBPFFS mounts a BPF file system of the test's own.
func newBPFFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v (these tests need root)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// abandon leaves what a killed process does: only the pin holds the program.
func abandon(t *testing.T, d *Decap) {
	t.Helper()
	if err := errors.Join(d.link.Close(), d.objects.Close()); err != nil {
		t.Fatal(err)
	}
}

// program is the number of the program that runs on an interface, 0 for none.
func program(t *testing.T, name string) uint32 {
	t.Helper()
	if x := byName(t, name).Attrs().Xdp; x != nil && x.Attached {
		return x.ProgId
	}
	return 0
}

func TestPin(t *testing.T) {
	for _, c := range []struct {
		name         string
		mtu          int
		first, again Mode
		want         Attached
	}{
		{"native", 1500, ModeAuto, ModeAuto, Attached{Mode: ModeNative, Adopted: true}},
		{"native again", 1500, ModeNative, ModeNative, Attached{Mode: ModeNative, Adopted: true}},
		{"large frames", 9000, ModeAuto, ModeAuto, Attached{Mode: ModeNative, Adopted: true, Frags: true,
			Reason: "MTU 9000 needs a program that accepts frames in several buffers"}},
		{"generic", 1500, ModeGeneric, ModeGeneric, Attached{Mode: ModeGeneric, Adopted: true}},
		{"generic is kept", 1500, ModeGeneric, ModeAuto, Attached{Mode: ModeGeneric, Adopted: true,
			Reason: "an earlier process attached it in generic mode"}},
		{"native to generic", 1500, ModeNative, ModeGeneric, Attached{Mode: ModeGeneric}},
		{"generic to native", 1500, ModeGeneric, ModeNative, Attached{Mode: ModeNative}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newNamespace(t)
			near, _ := newPair(t, "eth", c.mtu)
			index := near.Attrs().Index
			dir := filepath.Join(newBPFFS(t), "fairlead", "backend") // is made
			pin := filepath.Join(dir, "decap"+strconv.Itoa(index))

			first, err := Attach(index, "eth", Config{Mode: c.first, PinPath: dir})
			if err != nil {
				t.Fatal(err)
			}
			if first.Attached().Adopted {
				t.Error("the first has adopted something")
			}
			before := program(t, "eth")
			abandon(t, first)
			if now := program(t, "eth"); now != before || now == 0 {
				t.Fatalf("program %d runs after the process, %d before", now, before)
			}
			second, err := Attach(index, "eth", Config{Mode: c.again, PinPath: dir})
			if err != nil {
				t.Fatal(err)
			}
			c.want.IfIndex, c.want.Name = index, "eth"
			if got := second.Attached(); got != c.want {
				t.Errorf("attached %+v, want %+v", got, c.want)
			}
			if now := program(t, "eth"); now == before || now == 0 {
				t.Errorf("program %d runs after program %d was replaced", now, before)
			}
			if counts, err := second.Counters(); err != nil || counts.Decapsulated() != 0 {
				t.Errorf("counters %+v, %v", counts, err)
			}
			if err := second.Close(); err != nil {
				t.Fatal(err)
			}
			if now := program(t, "eth"); now != 0 {
				t.Errorf("program %d runs after Close", now)
			}
			if _, err := os.Lstat(pin); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the pin is left: %v", err)
			}
		})
	}
}

// TestPinStale finds pins of interfaces that are gone, or have lost the program.
func TestPinStale(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	index, dir := near.Attrs().Index, newBPFFS(t)
	pin := filepath.Join(dir, "decap"+strconv.Itoa(index))

	// The program of a link that was detached from outside.
	d, err := Attach(index, "eth", Config{PinPath: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.link.Detach(); err != nil {
		t.Fatal(err)
	}
	abandon(t, d)
	if d, err = Attach(index, "eth", Config{PinPath: dir}); err != nil {
		t.Fatal(err)
	}
	if a := d.Attached(); a.Adopted || program(t, "eth") == 0 {
		t.Errorf("attached %+v, program %d", a, program(t, "eth"))
	}

	// The link of another interface under this one's number.
	other, _ := newPair(t, "other", 1500)
	abandon(t, d)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	l := pinElsewhere(t, other, pin)
	defer l.Close()
	if d, err = Attach(index, "eth", Config{PinPath: dir}); err != nil {
		t.Fatal(err)
	}
	if a := d.Attached(); a.Adopted {
		t.Errorf("attached %+v", a)
	}
	if program(t, "other") == 0 {
		t.Error("the program of another interface is gone")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// The interface was made anew, perhaps with the same number.
	if d, err = Attach(index, "eth", Config{PinPath: dir}); err != nil {
		t.Fatal(err)
	}
	abandon(t, d)
	if err := netlink.LinkDel(near); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = "eth", index
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "ethp"}); err != nil {
		t.Fatal(err)
	}
	if d, err = Attach(index, "eth", Config{PinPath: dir}); err != nil {
		t.Fatal(err)
	}
	if a := d.Attached(); a.Adopted || program(t, "eth") == 0 {
		t.Errorf("attached %+v, program %d", a, program(t, "eth"))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// pinElsewhere attaches to an interface and pins the link at a path that is not
// the interface's own.
func pinElsewhere(t *testing.T, device netlink.Link, path string) link.Link {
	t.Helper()
	d, err := Attach(device.Attrs().Index, device.Attrs().Name, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.link.Pin(path); err != nil {
		t.Fatal(err)
	}
	return d.link
}

func TestPinErrors(t *testing.T) {
	newNamespace(t)
	near, _ := newPair(t, "eth", 1500)
	index, dir := near.Attrs().Index, newBPFFS(t)

	plain := t.TempDir()
	_, err := Attach(index, "eth", Config{PinPath: plain})
	want := "attach decapsulation to eth: pin path " + plain + " is on no BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}

	// Something else has the pin's name: nothing is attached.
	pin := filepath.Join(dir, "decap"+strconv.Itoa(index))
	if err := os.Mkdir(pin, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Attach(index, "eth", Config{PinPath: dir})
	if err == nil || !strings.HasPrefix(err.Error(), "attach decapsulation to eth: open pin "+pin+": ") {
		t.Errorf("%v", err)
	}
	if now := program(t, "eth"); now != 0 {
		t.Errorf("program %d runs", now)
	}
}
