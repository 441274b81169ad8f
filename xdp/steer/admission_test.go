package steer

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segment is a TCP segment with the given flags and a few bytes behind it.
func segment(t testing.TB, src, dst netip.Addr, flags func(*layers.TCP), tags ...layers.EthernetType) []byte {
	t.Helper()
	tcp := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1, Window: 1000}
	flags(tcp)
	return frame(t, append(ipLayers(t, src, dst, layers.IPProtocolTCP, tcp, tags...), tcp, gopacket.Payload(make([]byte, 10)))...)
}

func syn(tcp *layers.TCP)     { tcp.SYN = true }
func ack(tcp *layers.TCP)     { tcp.ACK = true }
func synAck(tcp *layers.TCP)  { tcp.SYN, tcp.ACK = true, true }
func rst(tcp *layers.TCP)     { tcp.RST = true }
func finAck(tcp *layers.TCP)  { tcp.FIN, tcp.ACK = true, true }
func synFin(tcp *layers.TCP)  { tcp.SYN, tcp.FIN = true, true }
func synECN(tcp *layers.TCP)  { tcp.SYN, tcp.ECE, tcp.CWR = true, true, true }
func nothing(tcp *layers.TCP) {}
func chaining(next byte) func(f []byte) []byte {
	return func(f []byte) []byte { return patched(f, 14+6, next) }
}

// admissionCases are frames for addresses of ours, and whether each takes a
// credit.
func admissionCases(t testing.TB) []verdictCase {
	syn4, syn6, ack4 := segment(t, client4, vip4, syn), segment(t, client6, vip6, syn), segment(t, client4, vip4, ack)
	ack6 := segment(t, client6, vip6, ack)
	return []verdictCase{
		{"SYN", syn4, true},
		{"SYN over IPv6", syn6, true},
		{"SYN for a SNAT address", segment(t, client4, snat4, syn), true},
		{"SYN, tagged", segment(t, client4, vip4, syn, cTag), true},
		{"SYN over IPv6, tagged twice", segment(t, client6, vip6, syn, sTag, cTag), true},
		{"SYN that asks for ECN", segment(t, client4, vip4, synECN), true},
		{"SYN and FIN", segment(t, client4, vip4, synFin), true},
		{"SYN that must not be fragmented", patched(syn4, 14+6, 0x40), true},
		{"segment behind IP options", patched(ack4, 14, 0x46), true},
		{"first fragment of a segment", patched(ack4, 14+6, 0x20), true},
		{"later fragment of a segment", patched(ack4, 14+6, 0x00, 0x10), true},
		{"IPv6 hop-by-hop options", chaining(0)(ack6), true},
		{"IPv6 routing header", chaining(43)(ack6), true},
		{"IPv6 fragment", chaining(44)(ack6), true},
		{"IPv6 destination options", chaining(60)(ack6), true},

		{"SYN and ACK", segment(t, client4, snat4, synAck), false},
		{"ACK", ack4, false},
		{"ACK over IPv6", ack6, false},
		{"ACK, tagged", segment(t, client4, vip4, ack, cTag), false},
		{"FIN and ACK", segment(t, client4, vip4, finAck), false},
		{"RST", segment(t, client4, vip4, rst), false},
		{"no flag", segment(t, client4, vip4, nothing), false},
		{"UDP", udp(t, client4, vip4, 40), false},
		{"UDP over IPv6", udp(t, client6, vip6, 40), false},
		{"fragment of a datagram", patched(udp(t, client4, vip4, 40), 14+6, 0x20), false},
		{"half a TCP header", syn4[:14+20+10], false},
		{"half a TCP header over IPv6", syn6[:14+40+10], false},
		{"ARP request", arp(t, 1, vip4), false},
		{"neighbour solicitation", solicit(t, client6, solicited(vip6), vip6, 255), false},
	}
}

// TestAdmission asserts which frames take a credit, what becomes of them without
// one, and that nobody needs any while nobody grants them.
func TestAdmission(t *testing.T) {
	newNamespace(t)
	p := newPair(t, "lb", 1500, 2)
	s := open(t, "")
	setLocals(t, s, ours()...)
	attach(t, s, p, ModeNative)
	for queue := range 2 {
		setSocket(t, s, p, queue, newTestSocket(t, p, queue))
	}
	m, ok := s.Admissions()
	if !ok {
		t.Fatal("there are no accounts")
	}
	accounts := mapMemory[objectAdmission](t, m)
	number, ok := s.Admission(p.ifindex(), 1)
	if !ok {
		t.Fatal("queue 1 has no account")
	}
	r, a := runner{t, s.ifaces[p.ifindex()].prog, p.ifindex()}, &accounts[number]
	shed := func() uint64 { return counters(t, s, p.ifindex()).Shed }
	for _, c := range admissionCases(t) {
		begin := shed()
		for _, credits := range []struct {
			enforced, used, granted uint32
			enough                  bool
		}{
			{0, 5, 5, true},
			{1, 5, 6, true},
			{1, 5, 5, false},
			{1, 6, 5, false}, // the worker has taken credits back
			{1, ^uint32(0), 0, true},
			{1, 0, ^uint32(0), false},
		} {
			*a = objectAdmission{Enforced: credits.enforced, Used: credits.used, Granted: credits.granted}
			want, used := uint32(xdpRedirect), credits.used
			switch {
			case !c.taken || credits.enforced == 0:
			case credits.enough:
				used++
			default:
				want = xdpDrop
			}
			if got := r.verdict(c.frame, 1); got != want || a.Used != used {
				t.Errorf("%s, %+v: %s and %d credits used, want %s and %d", c.name, credits, actionName(got), a.Used, actionName(want), used)
			}
		}
		want := uint64(0)
		if c.taken {
			want = 3
		}
		if got := shed() - begin; got != want {
			t.Errorf("%s: %d were counted as shed, want %d", c.name, got, want)
		}
	}

	// One queue's credits are not another's, and without a socket the fail
	// action is what counts.
	*a = objectAdmission{Enforced: 1}
	if got := r.verdict(segment(t, client4, vip4, syn), 0); got != xdpRedirect {
		t.Errorf("on a queue that nobody grants credits for: %s", actionName(got))
	}
	if err := s.ClearSocket(p.ifindex(), 1); err != nil {
		t.Fatal(err)
	}
	if got := r.verdict(segment(t, client4, silent4, syn), 1); got != xdpPass {
		t.Errorf("on a queue without a socket: %s", actionName(got))
	}
}

// TestAdmissionPlaces asserts that interfaces have accounts of their own for as
// long as they are attached, and that there are interfaces without.
func TestAdmissionPlaces(t *testing.T) {
	a := admissions{places: make(map[int]int)}
	for ifindex := range admissionInterfaces + 1 {
		a.place(ifindex)
		a.place(ifindex)
	}
	if len(a.places) != admissionInterfaces {
		t.Errorf("%d interfaces have places, there are %d", len(a.places), admissionInterfaces)
	}
	if _, ok := a.places[admissionInterfaces]; ok {
		t.Error("the last one has a place that nobody gave up")
	}
	delete(a.places, 3)
	a.place(99)
	if got := a.places[99]; got != 3 {
		t.Errorf("the newcomer has place %d, 3 is free", got)
	}
	s := open(t, "")
	if _, ok := s.Admission(12345, 0); ok {
		t.Error("an interface that is not attached has an account")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if m, ok := s.Admissions(); ok {
		t.Errorf("accounts after Close: %+v", m)
	}
}
