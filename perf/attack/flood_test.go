package attack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"fairlead/dataplane/packet"
	"fairlead/dataplane/packet/packettest"
	"fairlead/dataplane/reason"
)

// programsOf makes a flood's program without a flood, and the servers' shield.
func programsOf(t *testing.T, frame []byte) (maker, shield *ebpf.Program) {
	t.Helper()
	f := &flood{}
	var err error
	if f.sent, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.sent.Close() })
	for _, p := range []struct {
		to   **ebpf.Program
		spec ebpf.ProgramSpec
	}{
		{&maker, ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: f.instructions(frame), License: "Dual BSD/GPL"}},
		{&shield, ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: dropMarked(), License: "Dual BSD/GPL"}},
	} {
		if *p.to, err = ebpf.NewProgram(&p.spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*p.to).Close() })
	}
	return maker, shield
}

// TestFlood asserts that a flood is of well-formed SYNs from many sources,
// whatever was in a frame before, and that the shield drops them and no other
// SYN.
func TestFlood(t *testing.T) {
	to, mac := netip.MustParseAddrPort("198.18.100.1:80"), [6]byte{2, 0, 0, 0, 0, 9}
	maker, shield := programsOf(t, synFrame(mac, [6]byte{2, 0, 0, 0, 0, 8}, to))
	sources := make(map[netip.AddrPort]bool)
	for range 100 {
		action, frame, err := maker.Test(make([]byte, frameLen))
		if err != nil || action != 3 {
			t.Fatalf("action %d, %v", action, err)
		}
		if err := packettest.Verify(frame); err != nil {
			t.Fatal(err)
		}
		var info packet.Info
		if r := packet.Parse(frame, &info); r != reason.None {
			t.Fatal(r)
		}
		if info.TCPFlags != packet.TCPFlagSYN || info.Dst.Netip() != to.Addr() || info.DstPort != to.Port() || !Sources.Contains(info.Src.Netip()) || [6]byte(frame) != mac {
			t.Fatalf("%+v", info)
		}
		sources[netip.AddrPortFrom(info.Src.Netip(), info.SrcPort)] = true
		if verdict, _, err := shield.Test(frame); err != nil || verdict != 2 {
			t.Fatalf("the shield says %d, %v", verdict, err)
		}
		binary.BigEndian.PutUint16(frame[offWindow:], mark+1)
		if verdict, _, err := shield.Test(frame); err != nil || int32(verdict) != -1 {
			t.Fatalf("of another SYN the shield says %d, %v", int32(verdict), err)
		}
	}
	if len(sources) < 90 {
		t.Errorf("100 SYNs came from %d sources", len(sources))
	}
}
