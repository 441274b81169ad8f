package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// Sources are the addresses that a flood comes from: 65,536, each with 65,536
// ports.
var Sources = netip.MustParsePrefix("198.19.0.0/16")

// Offsets in the flood's frames: Ethernet, IPv4 without options, TCP without
// options.
const (
	frameLen     = 60
	offType      = 12
	offIP        = 14
	offIPSum     = offIP + 10
	offSource    = offIP + 12
	offSourceLow = offIP + 14
	offTCP       = offIP + 20
	offTCPFlags  = offTCP + 13
	offWindow    = offTCP + 14
	offTCPSum    = offTCP + 16
	tcpLen       = 20
	tcpSYN       = 2

	// mark is the window that a flood's segments announce, by which the servers'
	// hosts tell them from others.
	mark = 0x0f1d
)

// flood sends SYNs from random sources to one address and port, as fast as one
// thread can make them.
type flood struct {
	sent    *ebpf.Map
	program *ebpf.Program
	stop    atomic.Bool
	end     sync.WaitGroup
	err     error
}

// burst is how many frames are made between two looks at whether to stop.
const burst = 1 << 16

// startFlood sends out of an interface, from a thread pinned to a CPU, to a
// service behind a MAC address.
func startFlood(from *lab.Interface, mac [6]byte, to netip.AddrPort, cpu int) (*flood, error) {
	f := &flood{}
	var err error
	if f.sent, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return nil, fmt.Errorf("flood: %w", err)
	}
	frame := synFrame(mac, [6]byte(from.MAC), to)
	f.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: f.instructions(frame), License: "Dual BSD/GPL"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("flood: %w", err), f.sent.Close())
	}
	ready := make(chan error, 1)
	f.end.Go(func() { f.err = from.Host.Do(func() error { return f.run(from.Index, frame, cpu, ready) }) })
	if err := <-ready; err != nil {
		return nil, errors.Join(err, f.Stop())
	}
	return f, nil
}

func (f *flood) run(ifindex int, frame []byte, cpu int, ready chan<- error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		ready <- err
		return nil
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		ready <- fmt.Errorf("flood: pin to CPU %d: %w", cpu, err)
		return nil
	}
	defer unix.SchedSetaffinity(0, &before)
	ready <- nil
	// struct xdp_md of <linux/bpf.h>.
	type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RXQueueIndex, EgressIfindex uint32 }
	for !f.stop.Load() {
		_, err := f.program.Run(&ebpf.RunOptions{
			Data: frame, Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
			Repeat: burst, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		})
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
	}
	return nil
}

// Sent is how many frames were made.
func (f *flood) Sent() (n uint64, err error) {
	err = f.sent.Lookup(uint32(0), &n)
	return n, err
}

// Stop ends the flood.
func (f *flood) Stop() error {
	f.stop.Store(true)
	f.end.Wait()
	return errors.Join(f.err, f.program.Close(), f.sent.Close())
}

// synFrame is a SYN without what differs: the lower half of the source address,
// the source port and the checksums are zero.
func synFrame(dst, src [6]byte, to netip.AddrPort) []byte {
	f := make([]byte, frameLen)
	copy(f, dst[:])
	copy(f[6:], src[:])
	binary.BigEndian.PutUint16(f[offType:], unix.ETH_P_IP)
	ip := f[offIP:offTCP]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], frameLen-offIP)
	copy(ip[12:], Sources.Addr().AsSlice())
	copy(ip[16:], to.Addr().AsSlice())
	tcp := f[offTCP:]
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12] = tcpLen / 4 << 4
	tcp[13] = tcpSYN
	binary.BigEndian.PutUint16(tcp[14:], mark)
	return f
}

// sum adds up 16-bit words in the machine's byte order (RFC 1071).
func sum(b []byte) (s uint32) {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.NativeEndian.Uint16(b))
	}
	return s
}

// instructions write a whole frame with a random source address and port, for
// pages come back with whatever was made of them.
func (f *flood) instructions(frame []byte) asm.Instructions {
	ipSum := sum(frame[offIP:offTCP])
	tcpSum := sum(frame[offSource:offTCP]) + uint32(bits.ReverseBytes16(unix.IPPROTO_TCP)) +
		uint32(bits.ReverseBytes16(uint16(frameLen-offTCP))) + sum(frame[offTCP:])
	p := asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // its end
		asm.Mov.Reg(asm.R3, asm.R6),
		asm.Add.Imm(asm.R3, frameLen),
		asm.JGT.Reg(asm.R3, asm.R2, "short"),
	}
	for at := 0; at < frameLen; at += 4 {
		p = append(p, asm.StoreImm(asm.R6, int16(at), int64(int32(binary.NativeEndian.Uint32(frame[at:]))), asm.Word))
	}
	p = append(p,
		asm.FnGetPrandomU32.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.And.Imm(asm.R7, 0xffff),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.RSh.Imm(asm.R8, 16),
		asm.And.Imm(asm.R8, 0xffff),
		asm.StoreMem(asm.R6, offSourceLow, asm.R7, asm.Half),
		asm.StoreMem(asm.R6, offTCP, asm.R8, asm.Half),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, int32(ipSum)),
	)
	p = append(p, foldInto(asm.R2, offIPSum)...)
	p = append(p, asm.Mov.Reg(asm.R2, asm.R7), asm.Add.Reg(asm.R2, asm.R8), asm.Add.Imm(asm.R2, int32(tcpSum)))
	p = append(p, foldInto(asm.R2, offTCPSum)...)
	return append(p,
		asm.LoadMapValue(asm.R1, f.sent.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 3), // XDP_TX
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("short"), // XDP_ABORTED
		asm.Return(),
	)
}

// foldInto stores the complement of a ones' complement sum below 2^31 in the frame.
func foldInto(r asm.Register, at int16) asm.Instructions {
	var p asm.Instructions
	for range 2 {
		p = append(p, asm.Mov.Reg(asm.R3, r), asm.RSh.Imm(asm.R3, 16), asm.And.Imm(r, 0xffff), asm.Add.Reg(r, asm.R3))
	}
	return append(p, asm.Xor.Imm(r, 0xffff), asm.StoreMem(asm.R6, at, r, asm.Half))
}

// dropMarked are a classifier's instructions that drop a flood's segments.
func dropMarked() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 76, asm.Word), // __sk_buff.data
		asm.LoadMem(asm.R3, asm.R1, 80, asm.Word), // and its end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, offTCP+tcpLen),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R5, asm.R2, offType, asm.Half),
		asm.JNE.Imm(asm.R5, int32(bits.ReverseBytes16(unix.ETH_P_IP)), "pass"),
		asm.LoadMem(asm.R5, asm.R2, offIP+9, asm.Byte),
		asm.JNE.Imm(asm.R5, unix.IPPROTO_TCP, "pass"),
		asm.LoadMem(asm.R5, asm.R2, offTCPFlags, asm.Byte),
		asm.JNE.Imm(asm.R5, tcpSYN, "pass"),
		asm.LoadMem(asm.R5, asm.R2, offWindow, asm.Half),
		asm.JNE.Imm(asm.R5, int32(bits.ReverseBytes16(mark)), "pass"),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TCX_NEXT
		asm.Return(),
	}
}
