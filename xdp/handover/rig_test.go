package handover_test

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead/xdp"
	"fairlead/xdp/handover"
	"fairlead/xdp/xdptest"
)

// rig is the control process's half of a worker with two ports, and a view of
// its own of the rings, to look at only.
type rig struct {
	lab     *xdptest.Lab
	umem    *xdp.UMEM
	sockets []*xdp.Socket
	view    []*xdp.Queue
}

func newRig(t testing.TB, chunks, ringSize int) *rig {
	t.Helper()
	r := &rig{lab: xdptest.New(t, 2, 1)}
	var err error
	if r.umem, err = xdp.NewUMEM(xdp.UMEMConfig{Chunks: chunks}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, q := range r.view {
			q.Close()
		}
		for _, s := range r.sockets {
			s.Close()
		}
		r.umem.Close()
	})
	for port := range 2 {
		s := r.open(t, port, ringSize)
		r.sockets = append(r.sockets, s)
		r.view = append(r.view, r.attach(t, s))
	}
	return r
}

func (r *rig) open(t testing.TB, port, ringSize int) *xdp.Socket {
	t.Helper()
	link := r.lab.Link(port)
	var s *xdp.Socket
	r.lab.Do(t, func() (err error) {
		s, err = xdp.Open(xdp.SocketConfig{
			IfIndex: link.Index, IfName: link.Name, Port: uint16(port), UMEM: r.umem, NeedWakeup: true,
			RXSize: ringSize, TXSize: ringSize, FillSize: ringSize, CompletionSize: ringSize,
		})
		return err
	})
	r.lab.Redirect(t, port, 0, s.FD())
	return s
}

func (r *rig) attach(t testing.TB, s *xdp.Socket) *xdp.Queue {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(s.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	q, err := xdp.Attach(fd, r.umem, s.Geometry())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// inspect looks at the rings and demands that every chunk is accounted for.
func (r *rig) inspect(t testing.TB) handover.Report {
	t.Helper()
	report, err := handover.Inspect(r.umem, r.view...)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report, r.umem)
	return report
}

func checkReport(t testing.TB, report handover.Report, u *xdp.UMEM) {
	t.Helper()
	if sum := report.Free + report.Fill + report.TX; sum != u.Config().Chunks || report.Conflicts != 0 {
		t.Fatalf("%d chunks of %d are accounted for: %v", sum, u.Config().Chunks, report)
	}
}

// frame makes a frame with a serial number and a checksum over all of it.
func frame(serial uint32) []byte {
	f := make([]byte, 60+serial%200)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2})
	binary.BigEndian.PutUint16(f[12:], xdptest.EtherType)
	binary.BigEndian.PutUint32(f[14:], serial)
	for i := 22; i < len(f); i++ {
		f[i] = byte(serial) + byte(i)
	}
	binary.BigEndian.PutUint32(f[18:], crc32.ChecksumIEEE(f[22:])^serial)
	return f
}

// serial reads a frame's serial number and fails the test when any of its
// bytes was changed.
func serial(t testing.TB, f []byte) uint32 {
	t.Helper()
	n := binary.BigEndian.Uint32(f[14:])
	if len(f) != 60+int(n%200) || crc32.ChecksumIEEE(f[22:])^n != binary.BigEndian.Uint32(f[18:]) {
		t.Fatalf("a frame was damaged: %x", f)
	}
	return n
}
