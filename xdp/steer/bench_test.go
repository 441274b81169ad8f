package steer

import (
	"fmt"
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

// BenchmarkAdmission is the kernel's time per frame that goes to a socket, with
// and without an account of new connections.
func BenchmarkAdmission(b *testing.B) {
	newNamespace(b)
	p := newPair(b, "lb", 1500, 1)
	frames := map[string][]byte{"ACK": segment(b, client4, vip4, ack), "SYN": segment(b, client4, vip4, syn), "UDP": udp(b, client4, vip4, 10), "ACK6": segment(b, client6, vip6, ack)}
	for _, kept := range []bool{false, true, false, true} {
		s := open(b, "")
		setLocals(b, s, ours()...)
		if !kept {
			for i := range admissionInterfaces {
				s.admissions.place(-1 - i) // no place is left
			}
		}
		attach(b, s, p, ModeNative)
		sock := newTestSocket(b, p, 0)
		setSocket(b, s, p, 0, sock)
		m, _ := s.Admissions()
		accounts := mapMemory[objectAdmission](b, m)
		for name, frame := range frames {
			b.Run(fmt.Sprintf("account=%v/%s", kept, name), func(b *testing.B) {
				accounts[0] = objectAdmission{Enforced: 1, Granted: 1 << 31}
				in := &ebpf.RunOptions{Data: frame, Repeat: uint32(b.N)}
				if _, err := s.ifaces[p.ifindex()].prog.Run(in); err != nil {
					b.Fatal(err)
				}
			})
		}
		sock.close()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
