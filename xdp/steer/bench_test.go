package steer

import (
	"testing"

	"github.com/cilium/ebpf"
)

// BenchmarkProgram is the kernel's time per frame for each way a frame can go
// (BPF_PROG_TEST_RUN; the redirect itself is not part of it).
func BenchmarkProgram(b *testing.B) {
	spec, err := loadObject()
	if err != nil {
		b.Fatal(err)
	}
	var o objectObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	for _, l := range ours() {
		k, err := keyOf(l.Addr)
		if err != nil {
			b.Fatal(err)
		}
		if err := o.Locals.Put(k, l.entry()); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"host4", udp(b, client4, host4, 10)},
		{"host6", udp(b, client6, host6, 10)},
		{"vip4", udp(b, client4, vip4, 10)},
		{"vip6", udp(b, client6, vip6, 10)},
		{"vip4QinQ", udp(b, client4, vip4, 10, sTag, cTag)},
		{"arp", arp(b, 1, vip4)},
		{"other", patched(udp(b, client4, host4, 10), 12, 0x88, 0xcc)},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := &ebpf.RunOptions{Data: c.frame, Repeat: uint32(b.N)}
			if _, err := o.Steer.Run(in); err != nil {
				b.Fatal(err)
			}
		})
	}
}
