package neighbor_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// backends lists the addresses of both families.
func (r *rig) backends() (addrs []netip.Addr) {
	for _, b := range r.Backends {
		addrs = append(addrs, b.IPv4, b.IPv6)
	}
	return addrs
}

// TestOnLink finds backends in the segment itself, both families, and the first
// view already has all of them.
func TestOnLink(t *testing.T) {
	r := newRig(t, lab.Config{})
	r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends(), Settle: patience})
	o := r.until("first view", func(*model.Observations) bool { return true })
	for i, arm := range []lab.Arm{r.Front, r.Back} {
		want := model.Interface{Name: arm.Interface.Name, Index: arm.Interface.Index, MAC: [6]byte(arm.Interface.MAC), MTU: 1500}
		if o.Interfaces[i] != want {
			t.Errorf("interface %d is %+v, want %+v", i, o.Interfaces[i], want)
		}
	}
	for _, b := range r.Backends {
		for _, a := range []netip.Addr{b.IPv4, b.IPv6} {
			if got, want := o.NextHops[a], r.behind(b.Interface); got != want {
				t.Errorf("%s: %+v, want %+v", a, got, want)
			}
		}
	}
	if len(o.NextHops) != 2*len(r.Backends) {
		t.Errorf("%d next hops for %d addresses", len(o.NextHops), 2*len(r.Backends))
	}
}

// TestManaged shows that the kernel keeps entries resolved for us, and that it
// no longer does when the watcher ends.
func TestManaged(t *testing.T) {
	r := newRig(t, lab.Config{Backends: 1})
	b := r.Backends[0]
	w := r.watch(neighbor.Config{Interfaces: r.both(), Targets: r.backends()})
	for _, a := range []netip.Addr{b.IPv4, b.IPv6} {
		r.untilHop(a, r.behind(b.Interface))
		if n := r.entry(a); n == nil || n.FlagsExt&netlink.NTF_EXT_MANAGED == 0 {
			t.Errorf("the entry of %s is not managed: %+v", a, n)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{b.IPv4, b.IPv6} {
		if n := r.entry(a); n == nil || n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 || n.Flags&netlink.NTF_EXT_LEARNED != 0 {
			t.Errorf("the entry of %s is not the kernel's own again: %+v", a, n)
		}
	}
}
