package steer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

func TestAttachCounts(t *testing.T) {
	for _, mode := range []Mode{ModeAuto, ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			newNamespace(t)
			p := newPair(t, "lb", 1500, 1)
			s := open(t, "")
			setLocals(t, s, ours()...)
			a := attach(t, s, p, mode)
			want := Attached{IfIndex: p.ifindex(), Name: "lb", Mode: mode}
			if mode == ModeAuto {
				want.Mode = ModeNative
			}
			if a != want {
				t.Errorf("attached %+v, want %+v", a, want)
			}
			wantRunning(t, p, want.Mode)
			tx := newSender(t, p.far)
			tx.send(t, udp(t, client4, vip4, 10))
			tx.send(t, udp(t, client4, silent4, 10))
			tx.send(t, udp(t, client4, host4, 10))
			eventually(t, "three frames counted", func() bool {
				return counters(t, s, p.ifindex()) == Counters{Passed: 1, FailDropped: 1, FailPassed: 1}
			})
		})
	}
}

// TestInterfacesCountApart attaches to two interfaces: addresses are shared,
// counters and sockets are not.
func TestInterfacesCountApart(t *testing.T) {
	newNamespace(t)
	a, b := newPair(t, "a", 1500, 1), newPair(t, "b", 1500, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, a, ModeAuto)
	attach(t, s, b, ModeGeneric)
	setSocket(t, s, a, 0, newTestSocket(t, a, 0))
	for _, p := range []pair{a, b} {
		newSender(t, p.far).send(t, udp(t, client4, vip4, 10))
	}
	eventually(t, "both counted", func() bool {
		return counters(t, s, a.ifindex()) == Counters{Redirected: 1} && counters(t, s, b.ifindex()) == Counters{FailDropped: 1}
	})
	all, err := s.Counters()
	if err != nil || len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" {
		t.Errorf("counters %+v, %v", all, err)
	}
}

// TestLargeMTU attaches where a frame may be larger than one buffer. Frames
// that fit go on as always; larger ones to our addresses are dropped and
// counted, or follow the fail action; the host gets its own.
func TestLargeMTU(t *testing.T) {
	newNamespace(t)
	path := pinPath(t)
	p := newPair(t, "lb", 9000, 1)
	s := open(t, path)
	setLocals(t, s, ours()...)
	want := Attached{
		IfIndex: p.ifindex(), Name: "lb", Mode: ModeNative, Frags: true,
		Reason: "MTU 9000 needs a program that accepts frames in several buffers: larger ones are dropped and counted as oversize",
	}
	if a := attach(t, s, p, ModeAuto); a != want {
		t.Fatalf("attached %+v, want %+v", a, want)
	}
	tx := newSender(t, p.far)
	check := func(want Counters) {
		t.Helper()
		var got Counters
		ok := func() bool { got = counters(t, s, p.ifindex()); return got == want }
		tx.send(t, udp(t, client4, vip4, 8000))
		tx.send(t, udp(t, client6, silent6, 8000))
		tx.send(t, udp(t, client4, host4, 8000))
		tx.send(t, udp(t, client4, vip4, 1000))
		defer func() {
			if t.Failed() {
				t.Logf("counters %+v, want %+v", got, want)
			}
		}()
		eventually(t, "counters", ok)
	}
	check(Counters{FailDropped: 2, FailPassed: 1, Passed: 1})

	sock := newTestSocket(t, p, 0)
	setSocket(t, s, p, 0, sock)
	check(Counters{FailDropped: 2, FailPassed: 1, Passed: 2, Oversize: 2, Redirected: 1})

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	want.Adopted = true
	if a := attach(t, s, p, ModeAuto); a != want {
		t.Errorf("attached %+v, want %+v", a, want)
	}
	check(Counters{FailDropped: 2, FailPassed: 1, Passed: 3, Oversize: 4, Redirected: 2})
}

// TestLargeMTUGeneric needs no frames in several buffers: the kernel makes one.
func TestLargeMTUGeneric(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 9000, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	if a, want := attach(t, s, p, ModeGeneric), (Attached{IfIndex: p.ifindex(), Name: "lb", Mode: ModeGeneric}); a != want {
		t.Errorf("attached %+v, want %+v", a, want)
	}
	tx := newSender(t, p.far)
	tx.send(t, udp(t, client4, vip4, 8000))
	eventually(t, "one frame", func() bool { return counters(t, s, p.ifindex()) == Counters{FailDropped: 1} })
}

// TestNativeImpossible uses an interface whose driver has no XDP, and a veth
// whose queues are too few.
func TestNativeImpossible(t *testing.T) {
	newNamespace(t)
	s := open(t, "")
	lo := byName(t, "lo")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "few"
	attrs.NumRxQueues, attrs.NumTxQueues = 1, 1
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "fewp", PeerNumRxQueues: 1, PeerNumTxQueues: 4}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		l    netlink.Link
		want string
	}{
		{lo, "native XDP: the driver does not support it, or not with this MTU: operation not supported"},
		{byName(t, "few"), "native XDP: the interface has too few queues for it (a veth needs as many receive queues as its peer has transmit queues): no space left on device"},
	} {
		name, index := c.l.Attrs().Name, c.l.Attrs().Index
		_, err := s.Attach(index, name, ModeNative)
		if want := "attach to " + name + ": " + c.want; name != "lo" && (err == nil || err.Error() != want) {
			t.Errorf("native: %v, want %q", err, want)
		}
		if name == "lo" && (err == nil || !strings.HasPrefix(err.Error(), "attach to lo: with MTU 65536: "+c.want)) {
			t.Errorf("native: %v", err)
		}
		a, err := s.Attach(index, name, ModeAuto)
		if err != nil || a.Mode != ModeGeneric || !strings.Contains(a.Reason, c.want) {
			t.Errorf("auto: %+v, %v, want the reason %q", a, err, c.want)
		}
	}
}

func TestAttachErrors(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	if _, err := s.Attach(p.ifindex(), "lb", "fast"); err == nil || err.Error() != `attach to lb: unknown mode "fast"` {
		t.Errorf("unknown mode: %v", err)
	}
	if _, err := s.Attach(9999, "gone", ModeAuto); err == nil || err.Error() != "attach to gone: Link not found" {
		t.Errorf("no such interface: %v", err)
	}

	// Somebody else's program stays, in every mode.
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	var other objectObjects
	if err := spec.LoadAndAssign(&other, nil); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	foreign, err := link.AttachXDP(link.XDPOptions{Program: other.Steer, Interface: p.ifindex(), Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	info, err := foreign.Info()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{ModeAuto, ModeNative, ModeGeneric} {
		_, err := s.Attach(p.ifindex(), "lb", mode)
		want := fmt.Sprintf("attach to lb: another XDP program is attached to the interface (program %d): detach it first (ip link set dev lb xdp off, or remove its link)", info.Program)
		if !errors.Is(err, ErrInUse) || err.Error() != want {
			t.Errorf("%s: %v, want %q", mode, err, want)
		}
	}
	if err := errors.Join(foreign.Detach(), foreign.Close()); err != nil {
		t.Fatal(err)
	}
	attach(t, s, p, ModeAuto)
}
