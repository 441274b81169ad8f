package xdp_test

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/xdptest"
)

func newUMEM(t testing.TB, cfg xdp.UMEMConfig) *xdp.UMEM {
	t.Helper()
	u, err := xdp.NewUMEM(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// tryOpen opens a socket inside the lab and returns the error.
func tryOpen(t testing.TB, lab *xdptest.Lab, cfg xdp.SocketConfig) (*xdp.Socket, error) {
	t.Helper()
	var s *xdp.Socket
	var err error
	lab.Do(t, func() error {
		s, err = xdp.Open(cfg)
		return nil
	})
	if s != nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error %v\n want %s", err, want)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	lab := xdptest.New(t, 1, 2)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	good := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u, BindWait: time.Millisecond}
	change := func(f func(*xdp.SocketConfig)) xdp.SocketConfig {
		c := good
		f(&c)
		return c
	}
	if _, err := tryOpen(t, lab, change(func(c *xdp.SocketConfig) { c.Queue = 1 })); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  xdp.SocketConfig
		want string
	}{
		{change(func(c *xdp.SocketConfig) { c.UMEM = nil }),
			"xdp: socket on near0 queue 0: no UMEM given"},
		{change(func(c *xdp.SocketConfig) { c.Port = 16 }),
			"xdp: socket on near0 queue 0: port 16: at most 16 interfaces are driven"},
		{change(func(c *xdp.SocketConfig) { c.IfIndex = 0 }),
			"xdp: socket on near0 queue 0: interface index and queue must be given"},
		{change(func(c *xdp.SocketConfig) { c.TXSize = 1000 }),
			"xdp: socket on near0 queue 0: ring size 1000: must be a power of two up to 65536"},
		{change(func(c *xdp.SocketConfig) { c.RXSize = 1 << 17 }),
			"xdp: socket on near0 queue 0: ring size 131072: must be a power of two up to 65536"},
		{change(func(c *xdp.SocketConfig) { c.BusyPoll = 1 }),
			"xdp: socket on near0 queue 0: busy polling for 1ns: one microsecond at least"},
		{change(func(c *xdp.SocketConfig) { c.Queue = 2 }),
			"xdp: socket on near0 queue 2: bind in copy mode: invalid argument: the interface has no such queue, or the driver does not take this configuration: compare ethtool -l"},
		{change(func(c *xdp.SocketConfig) { c.Queue = 1 }),
			"xdp: socket on near0 queue 1: bind with zero copy: device or resource busy: another AF_XDP socket has this queue: stop the program that holds it"},
		{change(func(c *xdp.SocketConfig) { c.IfIndex = 9999 }),
			"xdp: socket on near0 queue 0: bind with zero copy: no such device: the interface is gone"},
		{change(func(c *xdp.SocketConfig) { c.ZeroCopy = xdp.ZeroCopyOn }),
			"xdp: socket on near0 queue 0: bind with zero copy: operation not supported: the driver cannot do this"},
	} {
		_, err := tryOpen(t, lab, c.cfg)
		wantError(t, err, c.want)
	}
	// An interface that is down is no hindrance: the socket works when it is up.
	lab.SetUp(t, 0, false)
	if _, err := tryOpen(t, lab, good); err != nil {
		t.Error(err)
	}
}

func TestFacts(t *testing.T) {
	lab := xdptest.New(t, 1, 1)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	cfg := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u, Port: 3, RXSize: 128, NeedWakeup: true,
		BusyPoll: 20 * time.Microsecond, BusyPollBudget: 64}
	s, err := tryOpen(t, lab, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := s.Facts()
	if f.ZeroCopy || f.SharedUMEM || !f.NeedWakeup || len(f.Notes) != 0 {
		t.Errorf("facts %+v", f)
	}
	if f.CopyReason != "bind with zero copy: operation not supported: the driver cannot do this" {
		t.Errorf("reason for copy mode %q", f.CopyReason)
	}
	want := xdp.Geometry{Port: 3, IfIndex: cfg.IfIndex, RXSize: 128, TXSize: 2048, FillSize: 2048, CompletionSize: 2048}
	if g := s.Geometry(); g != want {
		t.Errorf("geometry %+v, want %+v", g, want)
	}
	for _, o := range []struct{ option, want int }{{unix.SO_PREFER_BUSY_POLL, 1}, {unix.SO_BUSY_POLL, 20}} {
		if got, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, o.option); err != nil || got != o.want {
			t.Errorf("socket option %d is %d, %v; want %d", o.option, got, err, o.want)
		}
	}
	s.Close()

	cfg.ZeroCopy = xdp.ZeroCopyOff
	if s, err = tryOpen(t, lab, cfg); err != nil {
		t.Fatal(err)
	}
	if f := s.Facts(); f.CopyReason != "" {
		t.Errorf("copy mode was asked for, and the reason is %q", f.CopyReason)
	}
}

// TestRebindRightAfterClose: the kernel lets go of a queue some time after its
// socket was closed; Open waits for that.
func TestRebindRightAfterClose(t *testing.T) {
	lab := xdptest.New(t, 1, 1)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	cfg := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u}
	for range 20 {
		s, err := tryOpen(t, lab, cfg)
		if err != nil {
			t.Fatal(err)
		}
		q, err := xdp.Attach(duplicate(t, s.FD()), u, s.Geometry())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(q.Close(), s.Close(), q.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSharedRegistration: the second socket uses the registration of the
// first, and frames move between them by their descriptors.
func TestSharedRegistration(t *testing.T) {
	lab := xdptest.New(t, 2, 1)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 512})
	r := &rig{lab: lab, umem: u}
	first := r.open(t, 0, 0, xdp.SocketConfig{NeedWakeup: true, RXSize: 64, TXSize: 64})
	second := r.open(t, 1, 0, xdp.SocketConfig{First: first, RXSize: 64, TXSize: 64})
	if f := second.Facts(); !f.SharedUMEM || !f.NeedWakeup {
		t.Errorf("facts %+v", f)
	}
	r.sockets = []*xdp.Socket{first, second}
	r.adopt(t)
	defer r.close(t)
	forward(t, r, 0, 1)
	forward(t, r, 1, 0)

	// The first may go; the second keeps the registration alive.
	if err := errors.Join(r.queues[0].Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	forward(t, r, 1, 1)

	_, err := tryOpen(t, lab, xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u, First: first})
	wantError(t, err, "xdp: socket on near0 queue 0: the first socket is closed")
}

// TestLockedMemoryLimit runs in a process of its own: it lowers the hard limit,
// which cannot be put back without CAP_SYS_RESOURCE, and root has not got that
// everywhere.
func TestLockedMemoryLimit(t *testing.T) {
	const variable = "FAIRLEAD_TEST_MEMLOCK"
	if os.Getenv(variable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockedMemoryLimit$")
		cmd.Env = append(os.Environ(), variable+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	lab := xdptest.New(t, 1, 1)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 1024}) // 2 MiB
	cfg := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u}
	open := func() (err error) {
		lab.Do(t, func() error {
			dropCapabilities(t, unix.CAP_IPC_LOCK, unix.CAP_SYS_RESOURCE)
			var s *xdp.Socket
			if s, err = xdp.Open(cfg); err == nil {
				s.Close()
			}
			return nil
		})
		return err
	}
	setLimit := func(soft, hard uint64) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: soft, Max: hard}); err != nil {
			t.Fatal(err)
		}
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}

	setLimit(1<<20, old.Max)
	if err := open(); err != nil {
		t.Errorf("the soft limit could have been raised: %v", err)
	}
	setLimit(1<<20, 1<<20)
	wantError(t, open(), "xdp: socket on near0 queue 0: register 2097152 bytes of frame memory: no buffer space available: "+
		"the limit of locked memory is too low: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity in systemd) or grant CAP_IPC_LOCK")
}

func TestPrivileges(t *testing.T) {
	lab := xdptest.New(t, 1, 1)
	u := newUMEM(t, xdp.UMEMConfig{Chunks: 64})
	cfg := xdp.SocketConfig{IfIndex: lab.Link(0).Index, IfName: "near0", UMEM: u, BusyPoll: time.Microsecond}
	var withoutRaw, withoutAdmin error
	lab.Do(t, func() error {
		dropCapabilities(t, unix.CAP_NET_ADMIN)
		_, withoutAdmin = xdp.Open(cfg)
		dropCapabilities(t, unix.CAP_NET_RAW)
		_, withoutRaw = xdp.Open(cfg)
		return nil
	})
	wantError(t, withoutRaw, "xdp: socket on near0 queue 0: open socket: operation not permitted: CAP_NET_RAW is needed")
	wantError(t, withoutAdmin, "xdp: socket on near0 queue 0: busy polling: set SO_PREFER_BUSY_POLL to 1: operation not permitted: CAP_NET_ADMIN is needed")
}

// TestDataProcessNeedsNoPrivileges does all the data process does on a thread
// without a single capability.
func TestDataProcessNeedsNoPrivileges(t *testing.T) {
	lab := xdptest.New(t, 2, 1)
	umem := newUMEM(t, xdp.UMEMConfig{Chunks: 512})
	r := &rig{lab: lab, umem: umem}
	defer r.close(t)
	for port := range 2 {
		r.sockets = append(r.sockets, r.open(t, port, 0, xdp.SocketConfig{NeedWakeup: true, RXSize: 64, TXSize: 64}))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		all := make([]int, unix.CAP_LAST_CAP+1)
		for i := range all {
			all[i] = i
		}
		dropCapabilities(t, all...)
		mapped, err := xdp.MapUMEM(duplicate(t, umem.FD()), umem.Config())
		if err != nil {
			t.Error(err)
			return
		}
		r.umem = mapped
		r.adopt(t)
		forward(t, r, 0, 1)
		if _, err := r.queues[0].Statistics(); err != nil {
			t.Error(err)
		}
	}()
	<-done
}

// dropCapabilities takes capabilities from the calling thread, which must be
// locked and end soon.
func dropCapabilities(t testing.TB, caps ...int) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&hdr, &data[0])
	for _, c := range caps {
		d := &data[c/32]
		d.Effective &^= 1 << (c % 32)
		d.Permitted &^= 1 << (c % 32)
		d.Inheritable &^= 1 << (c % 32)
	}
	if err == nil {
		err = unix.Capset(&hdr, &data[0])
	}
	if err != nil {
		t.Errorf("drop capabilities: %v", err)
	}
}

func duplicate(t testing.TB, fd int) int {
	t.Helper()
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// forward sends some frames in at one port and out at another.
func forward(t *testing.T, r *rig, from, to int) {
	t.Helper()
	in, out := r.queues[from], r.queues[to]
	addrs := make([]uint64, 32)
	n := r.pool.TakeForFill(addrs)
	r.pool.Filled(in.Refill(addrs[:n]))
	for i := range 16 {
		f := make([]byte, 60+i)
		copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, byte(i)})
		r.lab.Inject(t, from, f)
	}
	frames := make([]nic.Frame, nic.BatchSize)
	var seen []string
	stuck := r.pool.Count(nic.OwnerTX) // at ports that are down
	poll(t, "16 frames forwarded", func() bool {
		n := in.Receive(frames)
		r.pool.Received(frames[:n])
		k := out.Transmit(frames[:n])
		r.pool.Sent(frames[:k])
		if k != n {
			t.Fatalf("%d of %d frames accepted", k, n)
		}
		if err := out.Kick(); err != nil {
			t.Fatal(err)
		}
		n = out.Complete(addrs)
		r.pool.Completed(addrs[:n])
		for _, f := range r.lab.Sent(to) {
			seen = append(seen, string(f[14:15]))
		}
		return len(seen) == 16 && r.pool.Count(nic.OwnerTX) == stuck
	})
	if got, want := strings.Join(seen, ""), "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f"; got != want {
		t.Errorf("frames %q came out, want %q", got, want)
	}
}

// poll waits for a condition.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
		runtime.Gosched()
	}
}
