package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
	"fairlead/xdp/steer"
)

// admissionMap is what the kernel calls the map of the queues' accounts. It is
// not pinned; a control process hands it to its successor.
const admissionMap = "admissions"

// TestReplaceProgram replaces the XDP programs of both interfaces again and
// again under traffic, each through its pinned link, as a control process does
// with those of the one before. Nothing is lost.
func TestReplaceProgram(t *testing.T) {
	const rounds = 100 // two programs in each
	l := newLossless(t, 100, 2*time.Minute, "[dataplane]\nflow_memo = \"off\"\n"+largeRings)
	before := l.status()
	from, begin := l.counted.Sent(), time.Now()
	for range rounds {
		l.more(10 + rand.Uint64N(100))
		l.replacePrograms()
	}
	t.Logf("%d programs replaced in %v, while %d datagrams were sent",
		2*rounds, time.Since(begin).Round(time.Millisecond), l.counted.Sent()-from)
	l.end(0)
	for _, s := range l.sites {
		l.spread(s, l.http(s, 60))
	}
	after := l.balance()
	if after.Data.PID != before.Data.PID || after.Generation.Published != before.Generation.Published {
		t.Errorf("the node has not gone on as it was: %+v of generation %+v before, %+v of %+v after",
			before.Data, before.Generation, after.Data, after.Generation)
	}
	for _, name := range []string{"fail_dropped", "fail_passed"} {
		if n := after.Steering[name]; n != 0 {
			t.Errorf("the XDP program found no socket for frames: %s %d", name, n)
		}
	}
	l.must(l.node.Stop())
	l.attached(false)
}

// replacePrograms loads the program anew for each interface and has the pinned
// link run it.
func (w *world) replacePrograms() {
	w.t.Helper()
	interfaces := []*lab.Interface{w.topo.Front.Interface, w.topo.Back.Interface}
	w.must(w.topo.LB.Do(func() (err error) {
		accounts, err := mapOf(w.running(interfaces[0]), admissionMap)
		if err != nil {
			return err
		}
		s, err := steer.Open(steer.Config{PinPath: w.config.PinPath, Adopted: &steer.AdoptedMaps{Admissions: accounts}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		for _, ifc := range interfaces { // in the node's order: this gives each the account that it has
			old := w.running(ifc)
			a, err := s.Attach(ifc.Index, ifc.Name, steer.ModeAuto)
			if err != nil {
				return err
			}
			if !a.Adopted || a.Mode != steer.ModeNative || w.running(ifc) == old {
				return fmt.Errorf("program %d of %s is not replaced, but %d runs: %+v", old, ifc.Name, w.running(ifc), a)
			}
		}
		return nil
	}))
}

// running is the program that the kernel runs on an interface of the node.
func (w *world) running(ifc *lab.Interface) ebpf.ProgramID {
	w.t.Helper()
	link, err := w.topo.LB.Netlink().LinkByIndex(ifc.Index)
	w.must(err)
	if x := link.Attrs().Xdp; x != nil && x.Attached {
		return ebpf.ProgramID(x.ProgId)
	}
	w.t.Fatalf("%s has no XDP program", ifc.Name)
	return 0
}

// mapOf opens a program's map of a name, and gives its descriptor away.
func mapOf(program ebpf.ProgramID, name string) (fd int, err error) {
	p, err := ebpf.NewProgramFromID(program)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return 0, err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return 0, err
		}
		defer m.Close()
		if about, err := m.Info(); err != nil {
			return 0, err
		} else if about.Name == name {
			return unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
		}
	}
	return 0, fmt.Errorf("program %d has no map %s", program, name)
}
