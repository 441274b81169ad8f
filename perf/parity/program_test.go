// Package parity shows that the steering program does with a packet that goes by
// a flow memo what the worker does by package dataplane/rewrite, byte for byte,
// and that it lets no other packet go by one: on random plain packets, and, as a
// fuzz target, on any frame.
package parity

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/dataplane/memo"
	"fairlead/dataplane/packet"
	"fairlead/perf/lab"
	"fairlead/xdp/steer"
)

const (
	entryCount = 64
	routeCount = 1
	localID    = 5
	generation = 1
	longest    = 1480 // what the route's MTU lets pass
)

// XDP's actions.
const (
	xdpDrop    = 1
	xdpCarried = 4 // XDP_REDIRECT: on a veth, also back by the same interface
)

// seed places entries.
var seed = memo.Seed{0x243f6a8885a308d3, 0x13198a2e03707344}

// program is a steering program on an interface of a lab, with the memory of its
// flow memos mapped.
type program struct {
	host    *lab.Host
	steer   *steer.Steer
	prog    *ebpf.Program
	ifindex int
	local   netip.Addr
	entries [][8]uint64
	routes  [][128]byte
	counts  []memo.Count
}

func newProgram(t testing.TB) *program {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.New()
	must(err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := l.AddHost("lb")
	must(err)
	peer, err := l.AddHost("peer")
	must(err)
	in, _, err := l.Cable(host, "eth0", peer, "eth0", lab.LinkConfig{})
	must(err)
	p := &program{host: host, ifindex: in.Index}
	must(host.Do(func() error { return p.load(in.Index) }))
	t.Cleanup(func() {
		p.prog.Close()
		if err := p.steer.Remove(); err != nil {
			t.Error(err)
		}
	})
	maps, _ := p.steer.Memo()
	p.entries = mapped[[8]uint64](t, maps.Entries)
	p.routes = mapped[[128]byte](t, maps.Routes)
	p.counts = mapped[memo.Count](t, maps.Counts)
	return p
}

func (p *program) load(ifindex int) (err error) {
	if p.steer, err = steer.Open(steer.Config{Memo: &steer.MemoConfig{Entries: entryCount, Routes: routeCount, Seed: seed}}); err != nil {
		return err
	}
	if _, err = p.steer.Attach(ifindex, "eth0", steer.ModeNative); err != nil {
		return err
	}
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	p.prog, err = ebpf.NewProgramFromID(ebpf.ProgramID(link.Attrs().Xdp.ProgId))
	return err
}

func mapped[T any](t testing.TB, m steer.SharedMap) []T {
	t.Helper()
	b, err := unix.Mmap(m.FD, 0, m.Bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	var one T
	if int(unsafe.Sizeof(one)) != m.Size {
		t.Fatalf("elements of %d bytes, want %d", unsafe.Sizeof(one), m.Size)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), m.Len)
}

// serve makes an address the program's only local. It is false for one that
// cannot be.
func (p *program) serve(addr netip.Addr) bool {
	if p.local == addr {
		return true
	}
	if _, _, err := p.steer.SetLocals([]steer.Local{{Addr: addr, Kind: steer.VIP, ID: localID}}); err != nil {
		return false
	}
	p.local = addr
	return true
}

// run runs the program on a frame and returns what it says and what it made.
func (p *program) run(t testing.TB, frame []byte) (action uint32, out []byte) {
	t.Helper()
	// struct xdp_md of <linux/bpf.h>.
	type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RXQueueIndex, EgressIfindex uint32 }
	opts := &ebpf.RunOptions{
		Data: frame, DataOut: make([]byte, len(frame)+memo.MostOverhead),
		Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(p.ifindex)},
	}
	err := p.host.Do(func() (err error) {
		action, err = p.prog.Run(opts)
		return err
	})
	if err != nil {
		t.Fatalf("frame of %d bytes: %v", len(frame), err)
	}
	return action, opts.DataOut
}

// set puts the one memo there is into the memory, at one of the four places that
// its key has.
func (p *program) set(t testing.TB, key memo.Key, route memo.Route, nat, viaHi, viaLo uint64, entropy uint32) {
	t.Helper()
	clear(p.counts)
	route.State = generation
	p.routes[0] = [128]byte{}
	copy(p.routes[0][:], (*[unsafe.Sizeof(route)]byte)(unsafe.Pointer(&route))[:])
	const forKernel = 1
	hash := memo.Hash(&key, &seed)
	set := hash
	if hash>>40&1 != 0 {
		set = hash >> 32
	}
	clear(p.entries)
	p.entries[entryCount][0] = entryCount/2 - 1 // all sets are in use
	p.entries[set%(entryCount/2)*2+hash>>41&1] = [8]uint64{
		key.Hi, key.Lo, key.Rest,
		uint64(uint32(monotonic(t)+60000))<<32 | generation<<8,
		nat, viaHi, viaLo,
		uint64(entropy)<<32 | forKernel,
	}
}

func monotonic(t testing.TB) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano() / int64(time.Millisecond)
}

// rawKey reads the key of a frame's flow from where a plain packet has it, and
// the destination. It is false when the frame is too short.
func rawKey(frame []byte) (key memo.Key, dst netip.Addr, ok bool) {
	if len(frame) < 14+20+4 {
		return key, dst, false
	}
	var src packet.Addr
	var l4 int
	var proto uint8
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		src, l4, proto = packet.Addr4(frame[26:]), 34, frame[23]
		dst = netip.AddrFrom4([4]byte(frame[30:34]))
	case 0x86dd:
		if len(frame) < 14+40+4 {
			return key, dst, false
		}
		src, l4, proto = packet.Addr16(frame[22:]), 54, frame[20]
		dst = netip.AddrFrom16([16]byte(frame[38:54]))
	default:
		return key, dst, false
	}
	return memo.MakeKey(src, binary.BigEndian.Uint16(frame[l4:]), binary.BigEndian.Uint16(frame[l4+2:]), localID, proto), dst, true
}
