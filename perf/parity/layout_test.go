package parity

import (
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"fairlead/dataplane/memo"
)

// TestLayout compares what the steering program's object says of the layout of
// its memory with the types that user space lays over it.
func TestLayout(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpec("../../xdp/steer/object_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	var r memo.Route
	var c memo.Count
	for _, s := range []struct {
		name   string
		size   int
		fields map[string]uintptr
	}{
		{"memo_entry", memo.EntrySize, map[string]uintptr{
			"key_hi": 0, "key_lo": 8, "key_rest": 16, "control": 24, "nat": 32, "via_hi": 40, "via_lo": 48,
			"flags": 56, "hits": 57, "seen": 58, "entropy": 60, // of the word for use, little-endian
		}},
		{"memo_route", memo.RouteSize, map[string]uintptr{
			"state": unsafe.Offsetof(r.State), "ifindex": unsafe.Offsetof(r.IfIndex), "mtu": unsafe.Offsetof(r.MTU),
			"service": unsafe.Offsetof(r.Service), "backend": unsafe.Offsetof(r.Backend), "port": unsafe.Offsetof(r.Port),
			"op": unsafe.Offsetof(r.Op), "flags": unsafe.Offsetof(r.Flags), "macs": unsafe.Offsetof(r.DstMAC),
			"gue_port": unsafe.Offsetof(r.GUEPort), "ttl": unsafe.Offsetof(r.TTL), "last": unsafe.Offsetof(r.Last),
			"src": unsafe.Offsetof(r.Src), "dst": unsafe.Offsetof(r.Dst), "sum": unsafe.Offsetof(r.Sum), "next_hop": unsafe.Offsetof(r.NextHop),
		}},
		{"memo_count", memo.CountSize, map[string]uintptr{
			"packets": unsafe.Offsetof(c.Packets), "bytes": unsafe.Offsetof(c.Bytes), "bytes_sent": unsafe.Offsetof(c.BytesSent),
		}},
	} {
		var typ *btf.Struct
		if err := spec.Types.TypeByName(s.name, &typ); err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if int(typ.Size) != s.size {
			t.Errorf("%s has %d bytes, in user space %d", s.name, typ.Size, s.size)
		}
		found := 0
		for _, m := range typ.Members {
			want, ok := s.fields[m.Name]
			if !ok {
				if m.Name != "reserved" {
					t.Errorf("%s: nobody in user space knows of %s", s.name, m.Name)
				}
				continue
			}
			found++
			if uintptr(m.Offset.Bytes()) != want {
				t.Errorf("%s: %s is at %d, in user space at %d", s.name, m.Name, m.Offset.Bytes(), want)
			}
		}
		if found != len(s.fields) {
			t.Errorf("%s: %d fields, in user space %d", s.name, found, len(s.fields))
		}
	}
	if got, want := unsafe.Offsetof(r.SrcMAC), unsafe.Offsetof(r.DstMAC)+6; got != want {
		t.Errorf("the source MAC is at %d, behind the destination's it would be at %d", got, want)
	}
}
