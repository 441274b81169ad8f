package xdp_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fairlead/dataplane/nic"
	"fairlead/xdp"
	"fairlead/xdp/xdptest"
)

// BenchmarkForward moves frames from one veth pair to another through the
// rings, untouched: what the kernel and the rings cost, with a source that is
// faster. It shares two cores with the source.
func BenchmarkForward(b *testing.B) {
	lab := xdptest.New(b, 2, 1)
	r := newRig(b, lab, 2, 0, xdp.UMEMConfig{}, xdp.SocketConfig{NeedWakeup: true})
	lab.CloseFar(b, 1) // nobody looks at what comes out
	stop := startSource(b, lab)
	defer stop()

	frames := make([]nic.Frame, nic.BatchSize)
	addrs := make([]uint64, nic.BatchSize)
	in, out := r.queues[0], r.queues[1]
	sent := 0
	b.ReportAllocs()
	b.ResetTimer()
	for sent < b.N {
		n := in.Receive(frames)
		r.pool.Received(frames[:n])
		k := out.Transmit(frames[:n])
		r.pool.Sent(frames[:k])
		for _, f := range frames[k:n] {
			r.pool.Put(f.Addr)
		}
		if err := out.Kick(); err != nil {
			b.Fatal(err)
		}
		sent += k
		n = out.Complete(addrs)
		r.pool.Completed(addrs[:n])
		n = r.pool.TakeForFill(addrs)
		r.pool.Filled(in.Refill(addrs[:n]))
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
}

// startSource sends frames into port 0 as fast as it can until stopped: an XDP
// program run on live frames, each of which it sends out of the far end.
func startSource(b *testing.B, lab *xdptest.Lab) (stop func()) {
	b.Helper()
	const tx = 3 // XDP_TX
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, tx), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	frame := make([]byte, 60)
	copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
	context := struct{ Data, DataEnd, DataMeta, IfIndex, Queue, Egress uint32 }{DataEnd: uint32(len(frame)), IfIndex: uint32(lab.FarIndex(b, 0))}
	var stopping atomic.Bool
	var done sync.WaitGroup
	var failed error
	done.Go(func() {
		failed = lab.Run(func() error {
			for !stopping.Load() {
				_, err := program.Run(&ebpf.RunOptions{Data: frame, Context: context, Repeat: 1 << 18, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES})
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	return func() {
		stopping.Store(true)
		done.Wait()
		program.Close()
		if failed != nil {
			b.Error(failed)
		}
	}
}
