package decap

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket/layers"
)

const (
	xdpDrop = 1
	xdpPass = 2
)

func actionName(a uint32) string {
	switch a {
	case xdpDrop:
		return "drop"
	case xdpPass:
		return "pass"
	}
	return fmt.Sprintf("action %d", a)
}

// loaded is the program, not attached.
func loaded(t testing.TB, cfg Config) *Decap {
	t.Helper()
	if cfg.GUEPort == 0 {
		cfg.GUEPort = DefaultGUEPort
	}
	d := &Decap{}
	if err := d.load(cfg, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.objects.Close() })
	return d
}

// run gives a frame to the program: its verdict, and the frame afterwards.
func (d *Decap) run1(t testing.TB, frame []byte) (uint32, []byte) {
	t.Helper()
	in := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+512)}
	action, err := d.objects.Decap.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	return action, in.DataOut
}

// outcomeCase is one row of the tables: a frame, which counter counts it, and
// the frame that the host gets; nil when it is dropped.
type outcomeCase struct {
	name  string
	frame []byte
	count string
	out   []byte
}

func (c outcomeCase) check(t *testing.T, d *Decap) {
	t.Helper()
	before, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	action, out := d.run1(t, c.frame)
	after, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	was := map[string]uint64{}
	before.Named(func(name string, v uint64) bool { was[name] = v; return true })
	after.Named(func(name string, v uint64) bool {
		want := was[name]
		if name == c.count {
			want++
		}
		if v != want {
			t.Errorf("%s: %s counted %d times, want %d", c.name, name, v-was[name], want-was[name])
		}
		return true
	})
	want := uint32(xdpPass)
	if c.out == nil {
		want = xdpDrop
	}
	if action != want {
		t.Errorf("%s: %s, want %s", c.name, actionName(action), actionName(want))
	}
	if c.out != nil && !bytes.Equal(out, c.out) {
		t.Errorf("%s: out comes\n%x, want\n%x", c.name, out, c.out)
	}
}

// untouched is a row whose frame goes to the host as it is.
func untouched(name string, frame []byte, count string) outcomeCase {
	return outcomeCase{name, frame, count, frame}
}

// dropped is a row whose frame is dropped.
func dropped(name string, frame []byte, count string) outcomeCase {
	return outcomeCase{name, frame, count, nil}
}

// config takes packets for the VIPs from the load balancers.
func config() Config {
	return Config{
		VIPs:          []netip.Addr{vip4, vip6},
		LoadBalancers: []netip.Prefix{netip.PrefixFrom(balancer4, 32), netip.PrefixFrom(balancer6, 128)},
	}
}

// TestTunnels goes through every kind of tunnel, both families outside and
// inside, with none, one and two VLAN tags.
func TestTunnels(t *testing.T) {
	d := loaded(t, config())
	in4, in6 := inner(t, client4, vip4, 0, 100), inner(t, client6, vip6, 0, 101)
	for _, tags := range [][]layers.EthernetType{nil, {cTag}, {sTag}, {oTag}, {sTag, cTag}, {cTag, cTag}} {
		for _, c := range []struct {
			name  string
			outer []byte
			in    []byte
			count string
		}{
			{"4in4", ipip(t, balancer4, backend4, 0, in4), in4, "ipip_4in4"},
			{"6in4", ipip(t, balancer4, backend4, 0, in6), in6, "ipip_6in4"},
			{"4in6", ipip(t, balancer6, backend6, 0, in4), in4, "ipip_4in6"},
			{"6in6", ipip(t, balancer6, backend6, 0, in6), in6, "ipip_6in6"},
			{"GUE 4in4", gue(t, balancer4, backend4, 0, 6080, 0, in4), in4, "gue"},
			{"GUE 6in4", gue(t, balancer4, backend4, 0, 6080, 0, in6), in6, "gue"},
			{"GUE 4in6", gue(t, balancer6, backend6, 0, 6080, 0, in4), in4, "gue"},
			{"GUE 6in6", gue(t, balancer6, backend6, 0, 6080, 0, in6), in6, "gue"},
			{"GUE with optional fields", gue(t, balancer4, backend4, 0, 6080, 1, in6), in6, "gue"},
			{"GUE with the most optional fields", gue(t, balancer6, backend6, 0, 6080, 31, in4), in4, "gue"},
			{"GUE variant 1, 4in4", udpTo(t, balancer4, backend4, 0, 6080, in4), in4, "gue_direct"},
			{"GUE variant 1, 6in4", udpTo(t, balancer4, backend4, 0, 6080, in6), in6, "gue_direct"},
			{"GUE variant 1, 4in6", udpTo(t, balancer6, backend6, 0, 6080, in4), in4, "gue_direct"},
			{"GUE variant 1, 6in6", udpTo(t, balancer6, backend6, 0, 6080, in6), in6, "gue_direct"},
		} {
			name := fmt.Sprintf("%s, tags %v", c.name, tags)
			outcomeCase{name, on(c.outer, tags...), c.count, on(c.in, tags...)}.check(t, d)
		}
	}
}

// TestECN goes through all of RFC 6040 figure 4, in every combination of
// families; the DSCP inside stays.
func TestECN(t *testing.T) {
	d := loaded(t, config())
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	const lost = 0xff
	want := map[uint8][4]uint8{ // by inner, then outer codepoint
		notECT: {notECT: notECT, ect1: notECT, ect0: notECT, ce: lost},
		ect1:   {notECT: ect1, ect1: ect1, ect0: ect1, ce: ce},
		ect0:   {notECT: ect0, ect1: ect1, ect0: ect0, ce: ce},
		ce:     {notECT: ce, ect1: ce, ect0: ce, ce: ce},
	}
	const outerDSCP, innerDSCP = 46 << 2, 10 << 2
	count := map[string]string{"44": "ipip_4in4", "46": "ipip_6in4", "64": "ipip_4in6", "66": "ipip_6in6"}
	for in, row := range want {
		for outer, after := range row {
			for families, name := range count {
				src, dst := balancer4, backend4
				if families[0] == '6' {
					src, dst = balancer6, backend6
				}
				from, to := client4, vip4
				if families[1] == '6' {
					from, to = client6, vip6
				}
				frame := on(ipip(t, src, dst, outerDSCP|uint8(outer), inner(t, from, to, innerDSCP|in, 20)))
				row := fmt.Sprintf("%s: inner %02b, outer %02b", name, in, outer)
				if after == lost {
					dropped(row, frame, "ecn_dropped").check(t, d)
					continue
				}
				outcomeCase{row, frame, name, on(inner(t, from, to, innerDSCP|after, 20))}.check(t, d)
			}
		}
	}
}

// TestECNChecksum changes the codepoint under every value of the rest of the
// header that matters to the sum: the identification runs through all of its
// values.
func TestECNChecksum(t *testing.T) {
	d := loaded(t, config())
	in := inner(t, client4, vip4, 2, 0)
	out := inner(t, client4, vip4, 3, 0)
	for id := 0; id < 1<<16; id++ {
		b := []byte{byte(id >> 8), byte(id)}
		action, got := d.run1(t, on(ipip(t, balancer4, backend4, 3, rechecksummed(patched(in, 4, b...)))))
		want := on(rechecksummed(patched(out, 4, b...)))
		// Zero and all ones are the same sum; a header never sums up to zero.
		if action != xdpPass || !bytes.Equal(got, want) {
			t.Fatalf("id %#04x: %s\n%x, want\n%x", id, actionName(action), got, want)
		}
	}
}

func TestPassed(t *testing.T) {
	d := loaded(t, config())
	in4, in6 := inner(t, client4, vip4, 0, 100), inner(t, client6, vip6, 0, 100)
	four, six := ipip(t, balancer4, backend4, 0, in4), ipip(t, balancer6, backend6, 0, in6)
	gue4, gue6 := gue(t, balancer4, backend4, 0, 6080, 0, in4), gue(t, balancer6, backend6, 0, 6080, 0, in6)
	for _, c := range []outcomeCase{
		untouched("UDP to the VIP itself", on(in4), "passed"),
		untouched("UDP over IPv6", on(in6), "passed"),
		untouched("UDP to another port", on(gue(t, balancer4, backend4, 0, 6081, 0, in4)), "passed"),
		untouched("TCP", on(ip(t, client4, backend4, layers.IPProtocolTCP, 0, make([]byte, 20))), "passed"),
		untouched("GRE", on(ip(t, client6, backend6, layers.IPProtocolGRE, 0, make([]byte, 20))), "passed"),
		untouched("ARP", patched(on(in4), 12, 0x08, 0x06), "passed"),
		untouched("LLC", patched(on(in4), 12, 0, 100), "passed"),
		untouched("three tags", on(four, sTag, cTag, cTag), "passed"),
		untouched("tag cut off", on(four, cTag)[:16], "passed"),
		untouched("second tag cut off", on(four, sTag, cTag)[:20], "passed"),
		untouched("IPv4 header cut off", on(four)[:14+19], "passed"),
		untouched("IPv6 header cut off", on(six)[:14+39], "passed"),
		untouched("UDP header cut off", on(gue4)[:14+20+7], "passed"),
		untouched("IPv6 of another version", patched(on(six), 14, 0x45), "passed"),
		untouched("IPv6 with a routing header", on(extended6(six, 43, make([]byte, 8)...)), "passed"),
		untouched("IPv6 with a hop-by-hop header", on(extended6(six, 0, make([]byte, 8)...)), "passed"),
		untouched("IPv6 with destination options and UDP to another port",
			on(extended6(udpTo(t, balancer6, backend6, 0, 53, in4), 60, make([]byte, 8)...)), "passed"),
		untouched("IPv6 with two destination options headers",
			on(extended6(extended6(six, 60, make([]byte, 8)...), 60, make([]byte, 8)...)), "passed"),
		untouched("damaged IPv4 header in front of UDP", on(patched(gue4, 10, 1, 2)), "passed"),

		untouched("4in4 to another destination", on(ipip(t, balancer4, backend4, 0, inner(t, client4, other4, 0, 9))), "not_vip"),
		untouched("6in6 to another destination", on(ipip(t, balancer6, backend6, 0, inner(t, client6, other6, 0, 9))), "not_vip"),
		untouched("GUE to another destination", on(gue(t, balancer4, backend4, 0, 6080, 0, inner(t, client6, other6, 0, 9)), cTag), "not_vip"),
		untouched("tunnel of others to another destination", on(ipip(t, client4, backend4, 0, inner(t, client4, other4, 0, 9))), "not_vip"),
		untouched("6in6 to the mapped form of an IPv4 VIP",
			on(ipip(t, balancer6, backend6, 0, patched(in6, 24, mapped(vip4)...))), "not_vip"),

		untouched("4in4, first fragment", on(rechecksummed(patched(four, 6, 0x20, 0))), "fragment"),
		untouched("4in4, later fragment", on(rechecksummed(patched(four, 6, 0x20, 5))), "fragment"),
		untouched("4in4, last fragment", on(rechecksummed(patched(four, 6, 0, 5))), "fragment"),
		untouched("GUE, first fragment", on(rechecksummed(patched(gue4, 6, 0x20, 0))), "fragment"),
		untouched("UDP, later fragment", on(rechecksummed(patched(gue4, 6, 0, 5))), "passed"),
		untouched("UDP to another port, first fragment", on(rechecksummed(patched(gue(t, balancer4, backend4, 0, 53, 0, in4), 6, 0x20, 0))), "passed"),
		untouched("6in6, first fragment", on(extended6(six, 44, 0, 0, 0, 1, 0, 0, 0, 9)), "fragment"),
		untouched("6in6, later fragment", on(extended6(six, 44, 0, 0, 0, 9, 0, 0, 0, 9)), "fragment"),
		untouched("6in6, last fragment", on(extended6(six, 44, 0, 0, 0, 8, 0, 0, 0, 9)), "fragment"),
		untouched("GUE over IPv6, first fragment", on(extended6(gue6, 44, 0, 0, 0, 1, 0, 0, 0, 9)), "fragment"),
		untouched("UDP over IPv6, later fragment", on(extended6(gue6, 44, 0, 0, 0, 8, 0, 0, 0, 9)), "passed"),
		untouched("TCP over IPv6, first fragment", on(extended6(ip(t, client6, backend6, layers.IPProtocolTCP, 0, make([]byte, 20)), 44, 0, 0, 0, 1, 0, 0, 0, 9)), "passed"),

		untouched("4in4 with options", on(withOptions(four)), "options"),
		untouched("6in4 with options", on(withOptions(ipip(t, balancer4, backend4, 0, in6))), "options"),
		untouched("UDP with options", on(withOptions(gue4)), "passed"),
	} {
		c.check(t, d)
	}

	// What IPv6 may carry in front of a tunnel's payload.
	for _, c := range []outcomeCase{
		{"tunnel encapsulation limit", on(extended6(six, 60, 0, 0, 4, 1, 4, 1, 1, 0)), "ipip_6in6", on(in6)},
		{"long destination options", on(extended6(gue6, 60, append([]byte{0, 2}, make([]byte, 22)...)...)), "gue", on(in6)},
		{"fragment that is whole", on(extended6(six, 44, 0, 0, 0, 0, 0, 0, 0, 9)), "ipip_6in6", on(in6)},
		{"both", on(extended6(extended6(six, 60, make([]byte, 8)...), 44, make([]byte, 8)...)), "ipip_6in6", on(in6)},
	} {
		c.check(t, d)
	}
}

func mapped(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}

// withOptions is an IPv4 packet with four bytes of no-operation options.
func withOptions(ip []byte) []byte {
	ip = insert(patched(ip, 0, 0x46), 20, 1, 1, 1, 1)
	n := int(ip[2])<<8 | int(ip[3]) + 4
	return rechecksummed(patched(ip, 2, byte(n>>8), byte(n)))
}

func TestDropped(t *testing.T) {
	d := loaded(t, config())
	in4, in6 := inner(t, client4, vip4, 0, 100), inner(t, client6, vip6, 0, 100)
	four, six := ipip(t, balancer4, backend4, 0, in4), ipip(t, balancer6, backend6, 0, in6)
	gue4, gue6 := gue(t, balancer4, backend4, 0, 6080, 0, in4), gue(t, balancer6, backend6, 0, 6080, 0, in6)
	long := func(ip []byte) []byte { return patched(ip, 3, ip[3]+1) } // total length one too many
	for _, c := range []outcomeCase{
		dropped("4in4 from elsewhere", on(ipip(t, client4, backend4, 0, in4)), "rejected_source"),
		dropped("6in6 from elsewhere", on(ipip(t, client6, backend6, 0, in6)), "rejected_source"),
		dropped("GUE from elsewhere", on(gue(t, client4, backend4, 0, 6080, 0, in4)), "rejected_source"),
		dropped("GUE over IPv6 from elsewhere", on(gue(t, client6, backend6, 0, 6080, 0, in4)), "rejected_source"),
		dropped("6in6 from the mapped form of an IPv4 load balancer", on(patched(six, 8, mapped(balancer4)...)), "rejected_source"),

		dropped("4in4, wrong outer checksum", on(patched(four, 10, four[10]^1)), "malformed"),
		dropped("4in4, outer packet longer than the frame", on(rechecksummed(long(four))), "malformed"),
		dropped("4in4, outer total length too short", on(rechecksummed(patched(four, 2, 0, 19))), "malformed"),
		dropped("4in4, frame cut off", on(four)[:len(on(four))-1], "malformed"),
		dropped("6in6, outer packet longer than the frame", on(patched(six, 5, six[5]+1)), "malformed"),
		dropped("6in6, frame cut off", on(six)[:len(on(six))-1], "malformed"),
		dropped("4in4, nothing inside", on(ip(t, balancer4, backend4, 4, 0, nil)), "malformed"),
		dropped("4in4, inner header cut off", on(ip(t, balancer4, backend4, 4, 0, in4[:19])), "malformed"),
		dropped("6in4, inner header cut off", on(ip(t, balancer4, backend4, 41, 0, in6[:39])), "malformed"),
		dropped("4in4, IPv6 inside", on(ip(t, balancer4, backend4, 4, 0, in6)), "malformed"),
		dropped("6in4, IPv4 inside", on(ip(t, balancer4, backend4, 41, 0, in4)), "malformed"),
		dropped("4in4, inner header length too short", on(ip(t, balancer4, backend4, 4, 0, patched(in4, 0, 0x44))), "malformed"),
		dropped("4in4, inner total length below its header", on(ip(t, balancer4, backend4, 4, 0, patched(in4, 2, 0, 19))), "malformed"),
		dropped("4in4, inner packet longer than the outer", on(ip(t, balancer4, backend4, 4, 0, long(in4))), "malformed"),
		dropped("6in6, inner packet longer than the outer", on(ip(t, balancer6, backend6, 41, 0, patched(in6, 5, in6[5]+1))), "malformed"),
		dropped("destination options to the end", on(extended6(six, 60, append([]byte{0, 200}, make([]byte, 6)...)...)), "malformed"),

		dropped("GUE, UDP length too short", on(patched(gue4, 24, 0, 11)), "malformed"),
		dropped("GUE, UDP longer than IP", on(patched(gue4, 25, gue4[25]+1)), "malformed"),
		dropped("GUE over IPv6, UDP longer than IP", on(patched(gue6, 45, gue6[45]+1)), "malformed"),
		dropped("GUE, control message", on(patched(gue4, 28, 0x20)), "malformed"),
		dropped("GUE, flags", on(patched(gue4, 30, 0x80)), "malformed"),
		dropped("GUE, low flags", on(patched(gue4, 31, 1)), "malformed"),
		dropped("GUE, variant 2", on(patched(gue4, 28, 0x80)), "malformed"),
		dropped("GUE, variant 3", on(patched(gue4, 28, 0xc0)), "malformed"),
		dropped("GUE, no IP inside", on(patched(gue4, 29, 17)), "malformed"),
		dropped("GUE, header longer than the packet", on(patched(gue4, 28, 0x1f)), "malformed"),
		dropped("GUE variant 1, version 5", on(patched(udpTo(t, balancer4, backend4, 0, 6080, in4), 28, 0x55)), "malformed"),
		dropped("GUE, nothing inside", on(udpTo(t, balancer4, backend4, 0, 6080, nil)), "malformed"),
	} {
		c.check(t, d)
	}
}

// TestPadding pads the frame as Ethernet does: the padding stays behind the
// inner packet, whose own length says where it ends.
func TestPadding(t *testing.T) {
	d := loaded(t, config())
	in := inner(t, client4, vip4, 0, 0)
	frame := append(on(ipip(t, balancer4, backend4, 0, in)), make([]byte, 10)...)
	outcomeCase{"padded", frame, "ipip_4in4", append(on(in), make([]byte, 10)...)}.check(t, d)
}

func TestFilters(t *testing.T) {
	vip, other := inner(t, client4, vip4, 0, 9), inner(t, client4, other4, 0, 9)
	from := func(src string, in []byte) []byte {
		a := netip.MustParseAddr(src)
		dst := backend4
		if a.Is6() {
			dst = backend6
		}
		return on(ipip(t, a, dst, 0, in))
	}
	taken := func(name string, frame []byte, in []byte, count string) outcomeCase {
		return outcomeCase{name, frame, count, on(in)}
	}
	for _, c := range []struct {
		name string
		cfg  Config
		rows []outcomeCase
	}{
		{"none", Config{}, []outcomeCase{
			taken("a VIP", from("198.18.0.1", vip), vip, "ipip_4in4"),
			taken("anything", from("198.18.0.9", other), other, "ipip_4in4"),
			taken("anything over IPv6", from("2001:db8::9", other), other, "ipip_4in6"),
		}},
		{"VIPs", Config{VIPs: []netip.Addr{vip4}}, []outcomeCase{
			taken("a VIP", from("198.18.0.9", vip), vip, "ipip_4in4"),
			untouched("another destination", from("198.18.0.9", other), "not_vip"),
		}},
		{"VIP in mapped form", Config{VIPs: []netip.Addr{netip.AddrFrom16(vip4.As16())}}, []outcomeCase{
			taken("a VIP", from("198.18.0.9", vip), vip, "ipip_4in4"),
		}},
		{"load balancers", Config{LoadBalancers: []netip.Prefix{
			netip.MustParsePrefix("198.18.0.8/29"), netip.MustParsePrefix("2001:db8::8/125"),
		}}, []outcomeCase{
			taken("first of the prefix", from("198.18.0.8", other), other, "ipip_4in4"),
			taken("last of the prefix", from("198.18.0.15", other), other, "ipip_4in4"),
			dropped("before the prefix", from("198.18.0.7", other), "rejected_source"),
			dropped("behind the prefix", from("198.18.0.16", other), "rejected_source"),
			taken("first of the IPv6 prefix", from("2001:db8::8", other), other, "ipip_4in6"),
			taken("last of the IPv6 prefix", from("2001:db8::f", other), other, "ipip_4in6"),
			dropped("before the IPv6 prefix", from("2001:db8::7", other), "rejected_source"),
			dropped("behind the IPv6 prefix", from("2001:db8::10", other), "rejected_source"),
		}},
		{"host bits set", Config{LoadBalancers: []netip.Prefix{netip.MustParsePrefix("198.18.7.7/16")}}, []outcomeCase{
			taken("in the prefix", from("198.18.0.1", vip), vip, "ipip_4in4"),
		}},
		{"all of IPv4", Config{LoadBalancers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, []outcomeCase{
			taken("IPv4", from("192.0.2.1", vip), vip, "ipip_4in4"),
			dropped("IPv6", from("2001:db8::1", vip), "rejected_source"),
		}},
		{"all of IPv6", Config{LoadBalancers: []netip.Prefix{netip.MustParsePrefix("::/0")}}, []outcomeCase{
			taken("IPv6", from("2001:db8::1", vip), vip, "ipip_4in6"),
			dropped("IPv4", from("192.0.2.1", vip), "rejected_source"),
		}},
		{"another port", Config{GUEPort: 5555}, []outcomeCase{
			taken("that port", on(gue(t, client4, backend4, 0, 5555, 0, vip)), vip, "gue"),
			untouched("the usual port", on(gue(t, client4, backend4, 0, 6080, 0, vip)), "passed"),
		}},
	} {
		d := loaded(t, c.cfg)
		for _, row := range c.rows {
			row.name = c.name + ": " + row.name
			row.check(t, d)
		}
	}
}

// TestSeveralBuffers decapsulates frames of every size class, those that lie in
// several buffers too.
func TestSeveralBuffers(t *testing.T) {
	d := &Decap{}
	if err := d.load(Config{GUEPort: DefaultGUEPort}, true); err != nil {
		t.Fatal(err)
	}
	defer d.objects.Close()
	for _, n := range []int{0, 1400, 3000, 3400, 3500, 4000, 8000} {
		in := inner(t, client6, vip6, 2, n)
		marked := inner(t, client6, vip6, 3, n)
		outcomeCase{fmt.Sprintf("%d bytes", n), on(gue(t, balancer6, backend6, 3, 6080, 0, in)), "gue", on(marked)}.check(t, d)
	}
}

// TestEveryPrefix cuts frames at every length. Nothing shorter than the packet
// is decapsulated, and what is passed is not changed.
func TestEveryPrefix(t *testing.T) {
	d := loaded(t, config())
	in := inner(t, client4, vip4, 0, 5)
	for _, frame := range [][]byte{
		on(ipip(t, balancer4, backend4, 0, in), sTag, cTag),
		on(ipip(t, balancer6, backend6, 0, in)),
		on(gue(t, balancer4, backend4, 0, 6080, 2, in)),
		on(gue(t, balancer6, backend6, 0, 6080, 0, in)),
	} {
		for n := 14; n < len(frame); n++ {
			action, out := d.run1(t, frame[:n])
			if action == xdpPass && !slices.Equal(out, frame[:n]) {
				t.Errorf("%d bytes of %d: the host gets %x", n, len(frame), out)
			}
		}
		if action, _ := d.run1(t, frame); action != xdpPass {
			t.Errorf("the whole frame: %s", actionName(action))
		}
	}
	c, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if c.Decapsulated() != 4 {
		t.Errorf("counters %+v, want 4 decapsulated", c)
	}
}

func BenchmarkProgram(b *testing.B) {
	d := loaded(b, config())
	in4, in6 := inner(b, client4, vip4, 0, 64), inner(b, client6, vip6, 0, 64)
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"passed", on(in4)},
		{"notVIP", on(ipip(b, balancer4, backend4, 0, inner(b, client4, other4, 0, 64)))},
		{"rejected4", on(ipip(b, client4, backend4, 0, in4))},
		{"rejectedGUE6", on(gue(b, client6, backend6, 0, 6080, 0, in6))},
	} {
		b.Run(c.name, func(b *testing.B) {
			if _, err := d.objects.Decap.Run(&ebpf.RunOptions{Data: c.frame, Repeat: uint32(b.N)}); err != nil {
				b.Fatal(err)
			}
		})
	}
}
