package steer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

const xdpRedirect = 4

func actionName(a uint32) string {
	switch a {
	case xdpDrop:
		return "drop"
	case xdpPass:
		return "pass"
	case xdpTX:
		return "tx"
	case xdpRedirect:
		return "redirect"
	}
	return fmt.Sprintf("action %d", a)
}

// xdpMD is struct xdp_md of linux/bpf.h.
type xdpMD struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// runner runs a loaded program on single frames (BPF_PROG_TEST_RUN).
type runner struct {
	t       testing.TB
	prog    *ebpf.Program
	ifindex int
}

// verdict is what the program says to a frame from the given queue.
func (r runner) verdict(frame []byte, queue uint32) uint32 {
	r.t.Helper()
	got, err := r.prog.Run(&ebpf.RunOptions{
		Data:    frame,
		Context: xdpMD{DataEnd: uint32(len(frame)), IngressIfindex: uint32(r.ifindex), RxQueueIndex: queue},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

const (
	cTag = layers.EthernetTypeDot1Q
	sTag = layers.EthernetTypeQinQ
	oTag = layers.EthernetType(0x9100)
)

// patched is f with bytes replaced.
func patched(f []byte, at int, b ...byte) []byte {
	f = append([]byte{}, f...)
	copy(f[at:], b)
	return f
}

// verdictCase is one row of the table: the frame, and whether it is taken.
type verdictCase struct {
	name  string
	frame []byte
	taken bool
}

func verdictCases(t testing.TB) []verdictCase {
	mapped := patched(udp(t, client6, vip6, 10), 14+24, make([]byte, 16)...)
	a := vip4.As16()
	copy(mapped[14+24:], a[:])
	arpVIP := arp(t, 1, vip4)
	nsVIP := solicit(t, client6, solicited(vip6), vip6, 255)
	v4 := udp(t, client4, vip4, 10)
	v6 := udp(t, client6, vip6, 10)
	multicast4, multicast6 := netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("ff02::1")
	otherGroup := netip.MustParseAddr("ff02::1:ff00:1")

	cases := []verdictCase{
		{"IPv4 to a VIP", v4, true},
		{"IPv6 to a VIP", v6, true},
		{"IPv4 to a SNAT address", udp(t, client4, snat4, 10), true},
		{"IPv6 to a SNAT address", udp(t, client6, snat6, 10), true},
		{"IPv4 to a VIP that another node answers for", udp(t, client4, silent4, 10), true},
		{"IPv6 to a VIP that another node answers for", udp(t, client6, silent6, 10), true},
		{"IPv4 to a tunnel source", udp(t, client4, tunnel4, 10), false},
		{"IPv6 to a tunnel source", udp(t, client6, tunnel6, 10), false},
		{"IPv4 to the host", udp(t, client4, host4, 10), false},
		{"IPv6 to the host", udp(t, client6, host6, 10), false},
		{"IPv4 from a VIP to the host", udp(t, vip4, host4, 10), false},
		{"IPv4 multicast", udp(t, client4, multicast4, 10), false},
		{"IPv6 multicast", udp(t, client6, multicast6, 10), false},
		{"IPv6 to the mapped form of an IPv4 VIP", mapped, false},
		{"IPv4 with options to a VIP", patched(v4, 14, 0x46), true},
		{"IPv4 fragment to a VIP", patched(v4, 14+6, 0x20, 0x10), true},
		{"IPv4 of an unknown protocol to a VIP", patched(v4, 14+9, 200), true},
		{"IPv6 with a hop-by-hop header to a VIP", patched(v6, 14+6, 0), true},

		{"one 802.1Q tag", udp(t, client4, vip4, 10, cTag), true},
		{"one 802.1ad tag", udp(t, client6, vip6, 10, sTag), true},
		{"one old QinQ tag", udp(t, client4, vip4, 10, oTag), true},
		{"802.1ad over 802.1Q", udp(t, client4, vip4, 10, sTag, cTag), true},
		{"802.1Q twice, IPv6", udp(t, client6, vip6, 10, cTag, cTag), true},
		{"three tags", udp(t, client4, vip4, 10, sTag, cTag, cTag), false},
		{"tagged, to the host", udp(t, client4, host4, 10, cTag), false},
		{"tag without more", patched(v4, 12, 0x81, 0x00)[:14], false},
		{"second tag cut off", udp(t, client4, vip4, 10, sTag, cTag)[:20], false},

		{"ARP request for a VIP", arpVIP, true},
		{"ARP request for a SNAT address", arp(t, 1, snat4), true},
		{"ARP request for a tunnel source", arp(t, 1, tunnel4), true},
		{"ARP request for a VIP that another node answers for", arp(t, 1, silent4), false},
		{"ARP request for the host", arp(t, 1, host4), false},
		{"ARP request, tagged", arp(t, 1, vip4, cTag), true},
		{"ARP request, two tags", arp(t, 1, vip4, sTag, cTag), true},
		{"ARP reply about a VIP", arp(t, 2, vip4), false},
		{"ARP of another hardware type", patched(arpVIP, 14, 0, 6), false},
		{"ARP of another protocol", patched(arpVIP, 16, 0x86, 0xdd), false},
		{"ARP with long hardware addresses", patched(arpVIP, 18, 8), false},
		{"ARP with long protocol addresses", patched(arpVIP, 19, 16), false},
		{"ARP request cut off", arpVIP[:14+27], false},

		{"solicitation for a VIP", nsVIP, true},
		{"solicitation for a VIP, to the VIP", solicit(t, client6, vip6, vip6, 255), true},
		{"duplicate address detection of a VIP", solicit(t, netip.IPv6Unspecified(), solicited(vip6), vip6, 255), true},
		{"solicitation for a SNAT address", solicit(t, client6, solicited(snat6), snat6, 255), true},
		{"solicitation for a tunnel source", solicit(t, client6, solicited(tunnel6), tunnel6, 255), true},
		{"solicitation for a tunnel source, to it", solicit(t, client6, tunnel6, tunnel6, 255), true},
		{"solicitation for a VIP that another node answers for", solicit(t, client6, solicited(silent6), silent6, 255), false},
		{"the same, to the VIP", solicit(t, client6, silent6, silent6, 255), false},
		{"solicitation for the host", solicit(t, client6, solicited(host6), host6, 255), false},
		{"solicitation for the host, to it", solicit(t, client6, host6, host6, 255), false},
		{"solicitation for a VIP, to all nodes", solicit(t, client6, multicast6, vip6, 255), false},
		{"solicitation for a VIP, to another group", solicit(t, client6, otherGroup, vip6, 255), false},
		{"solicitation from off the link", solicit(t, client6, solicited(vip6), vip6, 254), false},
		{"solicitation from off the link, to the VIP: an IP packet", solicit(t, client6, vip6, vip6, 254), true},
		{"solicitation with a code", patched(nsVIP, 14+40+1, 1), false},
		{"neighbour advertisement about a VIP, to all nodes", patched(nsVIP, 14+40, 136), false},
		{"solicitation for the host, to a VIP: an IP packet", solicit(t, client6, vip6, host6, 255), true},
		{"solicitation for the mapped form of an IPv4 VIP", solicitMapped(t), false},
		{"solicitation, tagged", solicit(t, client6, solicited(vip6), vip6, 255, cTag), true},
		{"solicitation, two tags", solicit(t, client6, solicited(vip6), vip6, 255, sTag, cTag), true},
		{"solicitation cut off", nsVIP[:14+40+23], false},

		{"IPv4 destination just there", v4[:14+20], true},
		{"IPv4 header cut off", v4[:14+19], false},
		{"IPv6 destination just there", v6[:14+40], true},
		{"IPv6 header cut off", v6[:14+39], false},
		{"Ethernet header alone", v4[:14], false},
		{"LLC frame", patched(v4, 12, 0, 60), false},
		{"LLDP", patched(v4, 12, 0x88, 0xcc), false},
	}
	return cases
}

// solicitMapped asks for ::ffff:203.0.113.10 as if that were an IPv6 address.
func solicitMapped(t testing.TB) []byte {
	a := vip4.As16()
	f := solicit(t, client6, solicited(netip.AddrFrom16(a)), vip6, 255)
	return patched(f, 14+40+8, a[:]...)
}

// TestVerdict runs every kind of frame through the loaded program, with a
// socket and without.
func TestVerdict(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeNative)
	r := runner{t, s.ifaces[p.ifindex()].prog, p.ifindex()}
	cases := verdictCases(t)

	var want Counters
	check := func(taken, passed uint32, count *uint64) {
		t.Helper()
		for _, c := range cases {
			w := passed
			if c.taken {
				w = taken
				*count++
			} else {
				want.Passed++
			}
			if got := r.verdict(c.frame, 0); got != w {
				t.Errorf("%s: %s, want %s", c.name, actionName(got), actionName(w))
			}
		}
	}
	failing := ours()
	for i := range failing {
		failing[i].FailPass = false
	}
	setLocals(t, s, failing...)
	check(xdpDrop, xdpPass, &want.FailDropped)

	for i := range failing {
		failing[i].FailPass = true
	}
	setLocals(t, s, failing...)
	check(xdpPass, xdpPass, &want.FailPassed)

	setSocket(t, s, p, 0, newTestSocket(t, p, 0))
	check(xdpRedirect, xdpPass, &want.Redirected)

	setLocals(t, s)
	cases = verdictCases(t)
	for i := range cases {
		cases[i].taken = false
	}
	check(xdpRedirect, xdpPass, nil)

	if got := counters(t, s, p.ifindex()); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

// TestVerdictOfEveryPrefix cuts each frame at every length: what is shorter
// than what decides is the host's.
func TestVerdictOfEveryPrefix(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeNative)
	r := runner{t, s.ifaces[p.ifindex()].prog, p.ifindex()}
	for _, c := range []struct {
		name  string
		frame []byte
		need  int // bytes that decide
	}{
		{"IPv4", udp(t, client4, vip4, 40), 14 + 20},
		{"IPv6", udp(t, client6, vip6, 40), 14 + 40},
		{"IPv4, two tags", udp(t, client4, vip4, 40, sTag, cTag), 14 + 8 + 20},
		{"ARP", arp(t, 1, vip4), 14 + 28},
		{"solicitation", solicit(t, client6, solicited(vip6), vip6, 255), 14 + 40 + 24},
	} {
		for n := 14; n <= len(c.frame); n++ {
			want := uint32(xdpPass)
			if n >= c.need {
				want = xdpDrop
			}
			if got := r.verdict(c.frame[:n], 0); got != want {
				t.Errorf("%s, %d bytes of %d: %s, want %s", c.name, n, len(c.frame), actionName(got), actionName(want))
			}
		}
	}
}

// oracle says in Go what the program should say of a frame with no socket.
// It reads with the checked accessors of slices and shares nothing with the C
// source but the rules.
func oracle(f []byte, locals map[netip.Addr]Local) uint32 {
	at := 12
	u16 := func(i int) int { return int(f[i])<<8 | int(f[i+1]) }
	tags := 0
	for ; tags < 2 && len(f) >= at+2 && (u16(at) == 0x8100 || u16(at) == 0x88a8 || u16(at) == 0x9100); tags++ {
		at += 4
	}
	if len(f) < at+2 {
		return xdpPass
	}
	l3 := f[at+2:]
	ask := func(a netip.Addr, arp bool) uint32 {
		l, ok := locals[a]
		switch {
		case !ok, arp && !l.AnswerARP, !arp && l.Kind == Tunnel:
			return xdpPass
		case l.FailPass:
			return xdpPass
		}
		return xdpDrop
	}
	switch u16(at) {
	case 0x0800:
		if len(l3) < 20 {
			return xdpPass
		}
		return ask(netip.AddrFrom4([4]byte(l3[16:20])), false)
	case 0x0806:
		if len(l3) < 28 || string(l3[:8]) != "\x00\x01\x08\x00\x06\x04\x00\x01" {
			return xdpPass
		}
		return ask(netip.AddrFrom4([4]byte(l3[24:28])), true)
	case 0x86dd:
		if len(l3) < 40 {
			return xdpPass
		}
		dst := netip.AddrFrom16([16]byte(l3[24:40]))
		if l3[6] == 58 && l3[7] == 255 && len(l3) >= 64 && l3[40] == 135 && l3[41] == 0 {
			target := netip.AddrFrom16([16]byte(l3[48:64]))
			if dst == target || dst == solicited(target) {
				return ask(target, true)
			}
		}
		return ask(dst, false)
	}
	return xdpPass
}

// FuzzVerdict compares the program with the oracle on any frame.
func FuzzVerdict(f *testing.F) {
	for _, c := range verdictCases(f) {
		f.Add(c.frame)
	}
	spec, err := loadObject()
	if err != nil {
		f.Fatal(err)
	}
	var o objectObjects
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		f.Fatal(err)
	}
	defer o.Close()
	locals := make(map[netip.Addr]Local)
	for _, l := range ours() {
		locals[l.Addr] = l
		k, err := keyOf(l.Addr)
		if err != nil {
			f.Fatal(err)
		}
		if err := o.Locals.Put(k, l.entry()); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 {
			return
		}
		got, err := o.Steer.Run(&ebpf.RunOptions{Data: frame})
		if err != nil {
			t.Fatal(err)
		}
		if want := oracle(frame, locals); got != want {
			t.Errorf("%x: %s, want %s", frame, actionName(got), actionName(want))
		}
	})
}

// TestOversizeExactly runs frames of every length around the size of the first
// buffer: exactly those with more than one are oversize.
func TestOversizeExactly(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 9000, 1)
	s := open(t, "")
	setLocals(t, s, ours()...)
	if a := attach(t, s, p, ModeNative); !a.Frags {
		t.Fatalf("attached %+v", a)
	}
	setSocket(t, s, p, 0, newTestSocket(t, p, 0))
	prog := s.ifaces[p.ifindex()].prog
	var whole, split int
	for _, middle := range []int{64, 1514, 2048, 3000, 3520, 4096, 8000, 8192, 9000} {
		for n := middle - 3; n <= middle+3; n++ {
			f := append(udp(t, client4, vip4, 10), make([]byte, n)...)[:n]
			got, linear := runLinear(t, prog, f, p.ifindex())
			want := uint32(xdpRedirect)
			if linear < n {
				want = xdpDrop
				split++
			} else {
				whole++
			}
			if got != want {
				t.Errorf("%d bytes, %d in the first buffer: %s, want %s", n, linear, actionName(got), actionName(want))
			}
		}
	}
	if whole == 0 || split == 0 {
		t.Errorf("%d frames in one buffer, %d in several", whole, split)
	}
	if got, want := counters(t, s, p.ifindex()), (Counters{Redirected: uint64(whole), Oversize: uint64(split)}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

// runLinear is the program's verdict and how much of the frame lay in the first
// buffer.
func runLinear(t *testing.T, prog *ebpf.Program, f []byte, ifindex int) (uint32, int) {
	t.Helper()
	var after xdpMD
	got, err := prog.Run(&ebpf.RunOptions{
		Data:       f,
		Context:    xdpMD{DataEnd: uint32(len(f)), IngressIfindex: uint32(ifindex)},
		ContextOut: &after,
	})
	if err != nil {
		t.Fatalf("run on %d bytes: %v", len(f), err)
	}
	return got, int(after.DataEnd - after.Data)
}
