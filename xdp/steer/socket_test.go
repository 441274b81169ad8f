package steer

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	chunkSize  = 4096
	chunkCount = 256
)

// testSocket is the least AF_XDP socket that receives: it never gives a chunk
// back, so that it takes chunkCount frames in all.
type testSocket struct {
	fd       int
	umem     []byte
	producer *uint32
	descs    []unix.XDPDesc
	read     uint32
	maps     [][]byte // mappings of the rings
}

func newTestSocket(t testing.TB, p pair, queue int) *testSocket {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(err)
	s := &testSocket{fd: fd}
	t.Cleanup(s.close)
	s.umem, err = unix.Mmap(-1, 0, chunkSize*chunkCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	must(err)
	t.Cleanup(func() { unix.Munmap(s.umem) })

	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.umem[0]))), Len: uint64(len(s.umem)), Size: chunkSize}
	must(setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)))
	for _, opt := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING} {
		must(unix.SetsockoptInt(fd, unix.SOL_XDP, opt, chunkCount))
	}
	var off unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(off))
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, uintptr(unsafe.Pointer(&off)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		t.Fatal(e)
	}

	fill, err := unix.Mmap(fd, unix.XDP_UMEM_PGOFF_FILL_RING, int(off.Fr.Desc)+8*chunkCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	must(err)
	s.maps = append(s.maps, fill)
	addrs := unsafe.Slice((*uint64)(unsafe.Pointer(&fill[off.Fr.Desc])), chunkCount)
	for i := range addrs {
		addrs[i] = uint64(i) * chunkSize
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&fill[off.Fr.Producer])), chunkCount)

	rx, err := unix.Mmap(fd, unix.XDP_PGOFF_RX_RING, int(off.Rx.Desc)+int(unsafe.Sizeof(unix.XDPDesc{}))*chunkCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	must(err)
	s.maps = append(s.maps, rx)
	s.producer = (*uint32)(unsafe.Pointer(&rx[off.Rx.Producer]))
	s.descs = unsafe.Slice((*unix.XDPDesc)(unsafe.Pointer(&rx[off.Rx.Desc])), chunkCount)

	// The queue of a socket that was closed just before stays busy until the
	// kernel has cleaned up.
	bind := &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(p.ifindex()), QueueID: uint32(queue)}
	deadline := time.Now().Add(5 * time.Second)
	for err = unix.Bind(fd, bind); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = unix.Bind(fd, bind) {
		time.Sleep(time.Millisecond)
	}
	must(err)
	return s
}

func setsockopt(fd, opt int, p unsafe.Pointer, size uintptr) error {
	if _, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(p), size, 0); e != 0 {
		return e
	}
	return nil
}

// received returns a copy of the next frame, or nil.
func (s *testSocket) received() []byte {
	if s.read == atomic.LoadUint32(s.producer) {
		return nil
	}
	d := s.descs[s.read%chunkCount]
	s.read++
	return slices.Clone(s.umem[d.Addr : d.Addr+uint64(d.Len)])
}

// close lets go of the socket; mappings of its rings would keep it alive.
func (s *testSocket) close() {
	if s.fd >= 0 {
		for _, m := range s.maps {
			unix.Munmap(m)
		}
		unix.Close(s.fd)
		s.fd = -1
	}
}

func setSocket(t testing.TB, s *Steer, p pair, queue int, sock *testSocket) {
	t.Helper()
	if err := s.SetSocket(p.ifindex(), queue, sock.fd); err != nil {
		t.Fatal(err)
	}
}

func TestSocketReceivesAndFailActionFollows(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			newNamespace(t)
			p := newPair(t, "lb", 1500, 1)
			s := open(t, "")
			setLocals(t, s, ours()...)
			attach(t, s, p, mode)
			sock := newTestSocket(t, p, 0)
			setSocket(t, s, p, 0, sock)
			tx := newSender(t, p.far)

			for _, f := range [][]byte{
				udp(t, client4, vip4, 100),
				udp(t, client6, vip6, 100, 0x8100),
				arp(t, 1, vip4),
				solicit(t, client6, solicited(vip6), vip6, 255),
			} {
				tx.send(t, f)
				var got []byte
				eventually(t, "the socket receives", func() bool { got = sock.received(); return got != nil })
				if !slices.Equal(got, f) {
					t.Errorf("received\n%x, sent\n%x", got, f)
				}
			}
			if got, want := counters(t, s, p.ifindex()), (Counters{Redirected: 4}); got != want {
				t.Errorf("counters %+v, want %+v", got, want)
			}

			if err := s.ClearSocket(p.ifindex(), 0); err != nil {
				t.Fatal(err)
			}
			if err := s.ClearSocket(p.ifindex(), 0); err != nil {
				t.Errorf("clearing a queue without a socket: %v", err)
			}
			tx.send(t, udp(t, client4, vip4, 100))
			tx.send(t, udp(t, client4, silent4, 100))
			eventually(t, "fail actions after ClearSocket", func() bool {
				return counters(t, s, p.ifindex()) == Counters{Redirected: 4, FailDropped: 1, FailPassed: 1}
			})

			setSocket(t, s, p, 0, sock)
			tx.send(t, udp(t, client4, vip4, 100))
			eventually(t, "redirected again", func() bool { return counters(t, s, p.ifindex()).Redirected == 5 })

			sock.close()
			sent := uint64(0)
			eventually(t, "fail action after the socket was closed", func() bool {
				tx.send(t, udp(t, client4, vip4, 100))
				sent++
				return counters(t, s, p.ifindex()).FailDropped > 1
			})
			eventually(t, "every frame is accounted for", func() bool {
				c := counters(t, s, p.ifindex())
				return c.Redirected-5+c.FailDropped-1 == sent && c.FailPassed == 1 && c.Passed == 0
			})
		})
	}
}

func TestSocketErrors(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	attach(t, s, p, ModeNative)
	plain, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(plain)
	for _, c := range []struct {
		ifindex, queue, fd int
		want               string
	}{
		{p.ifindex(), 256, 0, "set socket: queue 256: a queue is 0 to 255"},
		{p.ifindex(), -1, 0, "set socket: queue -1: a queue is 0 to 255"},
		{9999, 0, 0, "set socket: interface 9999: no steering program is attached"},
		{p.ifindex(), 0, plain, "set socket of lb queue 0: not an AF_XDP socket"},
		{p.ifindex(), 0, 1 << 20, "set socket of lb queue 0: the descriptor is not open"},
	} {
		err := s.SetSocket(c.ifindex, c.queue, c.fd)
		if err == nil || err.Error() != c.want {
			t.Errorf("SetSocket(%d, %d, %d): %v, want %q", c.ifindex, c.queue, c.fd, err, c.want)
		}
	}
	if err := s.ClearSocket(9999, 0); !errors.Is(err, ErrNotAttached) {
		t.Errorf("ClearSocket of an interface without a program: %v", err)
	}
}

// TestQueues sends frames to every queue of an interface: each goes to its own
// queue's socket, and a queue without one follows the fail action.
func TestQueues(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 2)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeNative)
	sock := newTestSocket(t, p, 1)
	setSocket(t, s, p, 1, sock)
	in := runner{t, s.ifaces[p.ifindex()].prog, p.ifindex()}
	f := udp(t, client4, vip4, 10)
	if got := in.verdict(f, 0); got != xdpDrop {
		t.Errorf("queue without a socket: %s", actionName(got))
	}
	if got := in.verdict(f, 1); got != xdpRedirect {
		t.Errorf("queue with a socket: %s", actionName(got))
	}
	if got := in.verdict(udp(t, client4, netip.MustParseAddr("203.0.113.40"), 10), 0); got != xdpPass {
		t.Errorf("queue without a socket, fail action pass: %s", actionName(got))
	}
}

// TestConcurrentUse calls everything from several goroutines at once; the race
// detector watches.
func TestConcurrentUse(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	attach(t, s, p, ModeAuto)
	sock := newTestSocket(t, p, 0)
	index := p.ifindex()
	var group errgroup.Group
	for _, call := range []func() error{
		func() error { _, _, err := s.SetLocals(ours()); return err },
		func() error { _, _, err := s.SetLocals(nil); return err },
		func() error { s.Locals(); return nil },
		func() error { _, err := s.Counters(); return err },
		func() error { return s.SetSocket(index, 0, sock.fd) },
		func() error { return s.ClearSocket(index, 0) },
		func() error { return s.Deny(client4) },
		func() error { _, err := s.Undeny(client4); return err },
		func() error { _, err := s.Denied(); return err },
	} {
		group.Go(func() error {
			for range 100 {
				if err := call(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 10 {
		attach(t, s, p, ModeAuto)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
