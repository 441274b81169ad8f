package lab

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// xdpContextQueue is the offset of rx_queue_index in struct xdp_md of <linux/bpf.h>.
const xdpContextQueue = 16

// countByQueue attaches an XDP program in native mode that passes every packet
// and counts it by receive queue, and returns a function that reads the counts.
func countByQueue(t *testing.T, ifc *Interface, queues int) func() []uint64 {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: uint32(queues)})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, counts)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.XDP,
		License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, xdpContextQueue, asm.Word),
			asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, counts.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), // XDP_PASS
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, prog)
	err = ifc.Host.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{
			Program: prog, Interface: ifc.Index, Flags: link.XDPDriverMode,
		})
		if err == nil {
			closeAfter(t, attached)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []uint64 {
		values := make([]uint64, queues)
		for q := range values {
			if err := counts.Lookup(uint32(q), &values[q]); err != nil {
				t.Fatal(err)
			}
		}
		return values
	}
}
