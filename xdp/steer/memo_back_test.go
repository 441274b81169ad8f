package steer

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// TestMemoSendsBack asserts that a packet which leaves by the interface it came
// in by is sent back at once (XDP_TX) where the driver can, goes up where the
// interface cannot send at all, and that an interface that memos are left out of
// sends everything up.
func TestMemoSendsBack(t *testing.T) {
	l := newMemoLab(t)
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap"}, Mode: netlink.TUNTAP_MODE_TAP, Queues: 1}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range tap.Fds {
			f.Close()
		}
	})
	if err := netlink.LinkSetUp(tap); err != nil {
		t.Fatal(err)
	}
	index := tap.Attrs().Index
	run := func(ifindex int) uint32 {
		w := l.ways()[0]
		w.route.Ifindex = uint32(ifindex)
		if w.route.Op == opNATForward {
			w.entry.ViaLo = uint64(ifindex)
		}
		l.set(w, 0)
		l.runner = runner{t, l.s.ifaces[ifindex].prog, ifindex}
		got, _ := l.run(w.frame)
		return got
	}
	a, err := l.s.Attach(index, "tap", ModeNative)
	if err != nil || !a.SendsBack {
		t.Fatalf("attached %+v, %v", a, err)
	}
	if got := run(index); got != xdpTX {
		t.Errorf("a driver that sends back: %s", actionName(got))
	}
	if l.s.memo.expel(l.in.ifindex()); run(l.in.ifindex()) != xdpDrop {
		t.Error("a veth that cannot send takes the packet all the same")
	}
	l.s.SetMemoOptions(l.in.ifindex(), MemoOptions{SendBack: SendBackTX})
	if a := attach(t, l.s, l.in, ModeNative); !a.SendsBack || run(l.in.ifindex()) != xdpTX {
		t.Errorf("a veth that is said to send back: %+v", a)
	}
	l.s.SetMemoOptions(index, MemoOptions{LeaveOut: true})
	if _, err := l.s.Attach(index, "tap", ModeNative); err != nil {
		t.Fatal(err)
	}
	if got := run(index); got != xdpDrop {
		t.Errorf("an interface that memos are left out of: %s", actionName(got))
	}
}
