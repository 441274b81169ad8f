package neighbor_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead/controlplane/model"
	"fairlead/controlplane/neighbor"
	"fairlead/perf/lab"
)

// patience is how long a test waits for what must happen.
const patience = 15 * time.Second

// rig is a lab whose load balancer runs a watcher.
type rig struct {
	t *testing.T
	*lab.Topology
	log logBuffer

	mu    sync.Mutex
	views []*model.Observations
	news  chan struct{}
}

func newRig(t *testing.T, cfg lab.Config) *rig {
	t.Helper()
	topo, err := lab.TwoArm(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{t: t, Topology: topo, news: make(chan struct{}, 1)}
}

// both are the two interfaces of the load balancer.
func (r *rig) both() []neighbor.Interface {
	return []neighbor.Interface{{Name: r.Front.Interface.Name}, {Name: r.Back.Interface.Name}}
}

// watch runs a watcher until the test ends.
func (r *rig) watch(cfg neighbor.Config) (w *neighbor.Watcher) {
	r.t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	err := r.LB.Do(func() (err error) {
		w, err = neighbor.Watch(context.Background(), cfg, r.take)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := w.Close(); err != nil {
			r.t.Error(err)
		}
		if r.t.Failed() {
			r.t.Logf("log:\n%s", r.log.String())
		}
	})
	return w
}

func (r *rig) take(o *model.Observations) {
	r.mu.Lock()
	r.views = append(r.views, o)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// last is the latest view, nil before the first.
func (r *rig) last() *model.Observations {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.views) == 0 {
		return nil
	}
	return r.views[len(r.views)-1]
}

// until waits for a view that fulfils cond.
func (r *rig) until(what string, cond func(*model.Observations) bool) *model.Observations {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		if o := r.last(); o != nil && cond(o) {
			return o
		}
		select {
		case <-r.news:
		case <-deadline:
			r.t.Fatalf("not after %v: %s\nlast view: %+v\nlog:\n%s", patience, what, r.last(), r.log.String())
		}
	}
}

// untilHop waits until an address has a next hop.
func (r *rig) untilHop(a netip.Addr, want model.NextHop) *model.Observations {
	r.t.Helper()
	return r.until(fmt.Sprintf("%s by %+v", a, want), func(o *model.Observations) bool {
		got, ok := o.NextHops[a]
		return ok && got == want
	})
}

// untilNoHop waits until there is no way to an address.
func (r *rig) untilNoHop(a netip.Addr) {
	r.t.Helper()
	r.until(fmt.Sprintf("no way to %s", a), func(o *model.Observations) bool {
		_, ok := o.NextHops[a]
		return !ok
	})
}

// untilTrue polls for what no view tells of.
func (r *rig) untilTrue(what string, cond func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not after %v: %s\nlog:\n%s", patience, what, r.log.String())
		}
	}
}

// must fails the test at an error of the lab.
func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// behind is a resolved next hop out of the second arm.
func (r *rig) behind(i *lab.Interface) model.NextHop {
	return model.NextHop{Interface: r.Back.Interface.Name, MAC: [6]byte(i.MAC), Resolved: true}
}

// entry is the kernel's neighbour entry on the second arm, nil for none.
func (r *rig) entry(a netip.Addr) *netlink.Neigh {
	r.t.Helper()
	all, err := r.LB.Netlink().NeighList(r.Back.Interface.Index, 0)
	r.must(err)
	for i := range all {
		if got, ok := netip.AddrFromSlice(all[i].IP); ok && got.Unmap() == a {
			return &all[i]
		}
	}
	return nil
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// route makes packets of the load balancer for dst go by a gateway, on the
// second arm.
func (r *rig) route(dst string, via netip.Addr) {
	r.t.Helper()
	r.must(r.LB.Netlink().RouteReplace(r.routeTo(dst, via)))
}

func (r *rig) routeTo(dst string, via netip.Addr) *netlink.Route {
	return &netlink.Route{Dst: prefix(dst), Gw: via.AsSlice(), LinkIndex: r.Back.Interface.Index}
}

func prefix(s string) *net.IPNet {
	p := netip.MustParsePrefix(s)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// link is an interface as netlink has it.
func (r *rig) link(i *lab.Interface) netlink.Link {
	r.t.Helper()
	l, err := i.Host.Netlink().LinkByName(i.Name)
	r.must(err)
	return l
}

// setMAC gives an interface another Ethernet address.
func (r *rig) setMAC(i *lab.Interface, mac [6]byte) {
	r.t.Helper()
	r.must(i.Host.Netlink().LinkSetHardwareAddr(r.link(i), mac[:]))
	i.MAC = mac[:]
}

// logged counts the log lines that have all of the given texts.
func (r *rig) logged(texts ...string) (n int) {
lines:
	for line := range strings.Lines(r.log.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		n++
	}
	return n
}

// hurry shortens the timers of the load balancer's second arm, so that a
// neighbour that does not answer is given up in less than a second.
func (r *rig) hurry() {
	r.t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		of := "net." + family + ".neigh." + r.Back.Interface.Name
		r.must(r.LB.Sysctl(of+".base_reachable_time_ms", "200"))
		r.must(r.LB.Sysctl(of+".delay_first_probe_time", "1"))
		r.must(r.LB.Sysctl(of+".retrans_time_ms", "50"))
	}
}

func hardware(mac string) net.HardwareAddr {
	m, err := net.ParseMAC(mac)
	if err != nil {
		panic(err)
	}
	return m
}

// ip runs ip(8) on the load balancer.
func (r *rig) ip(args ...string) {
	r.t.Helper()
	r.must(r.LB.Do(func() error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}))
}
